"""Codes, central differences and the penalty, for tests of ordinary functions."""

import torch
from _oracle import power_iterations
from _probe import central_difference

import pydisent

D = torch.float64
ROUTES = ["gram", "matrix_free", "auto"]
METHODS = [*ROUTES, "autograd"]


def draw_codes(*shape, dtype=D):
    return torch.randn(*(shape or (3, 4)), generator=torch.Generator().manual_seed(1), dtype=dtype)


def by_differences(fn, z, seed=lambda: torch.manual_seed(3)):
    """J (B, n, m) by central differences, each call from the same random state."""

    def flat(codes):
        seed()
        with torch.no_grad():
            return fn(codes).flatten(1)

    axes = torch.eye(z[0].numel(), dtype=z.dtype).reshape(-1, *z.shape[1:])
    columns = [central_difference(lambda h, e=e: flat(z + h * e), 3e-4) for e in axes]
    return torch.stack(columns, -1)


def exact_penalty(fn, z, method="gram", k=2, **options):
    probe = torch.ones(len(z), z[0].numel(), k, dtype=z.dtype)
    exact = {} if method == "autograd" else {"tolerance": 0}
    return pydisent.alignment_penalty(
        fn, z, k=k, iterations=2, probe=probe, method=method, **exact, **options
    )


def assert_right(fn, z, plain=None):
    """J is that of central differences of ``plain``, and so is the penalty by every method."""
    jacobian = by_differences(plain or fn, z)
    torch.testing.assert_close(pydisent.linearize(fn, z).jacobian(), jacobian, atol=1e-9, rtol=1e-9)
    gram = jacobian.mT @ jacobian
    expected = power_iterations(lambda v: gram @ v, torch.ones(*z.shape, 2, dtype=D), 2, True)
    for method in METHODS:
        assert abs(exact_penalty(fn, z, method).detach() - expected) <= 1e-8, method


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, cotangent):
        return 2 * cotangent


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, cotangent):
        return 2 * ctx.saved_tensors[0] * cotangent
