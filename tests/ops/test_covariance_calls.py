"""Penalties of moments: autocast, views, transforms, memory, bad arguments."""

import subprocess
import sys

import pytest
import torch
from _covariance import IMPLS, mixture_moments, normal, plain
from _native import needs_native

from pydisent.ops import (
    covariance_penalty,
    cross_covariance_penalty,
    third_central_moment_penalty,
)


@pytest.mark.parametrize("impl", IMPLS)
def test_autocast_changes_nothing(impl):
    mu, logvar = normal(32, 5).float().requires_grad_(), normal(32, 5, seed=1).float()
    y = normal(32, 2, seed=2).float()
    for function in (
        lambda: covariance_penalty(mu, logvar, lambda_od=1.0, lambda_d=1.0, impl=impl),
        lambda: cross_covariance_penalty(y, mu, impl=impl),
    ):
        want = function()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = function()
        assert got.dtype == torch.float32
        assert torch.equal(got, want)
        assert torch.equal(*(torch.autograd.grad(x, mu)[0] for x in (got, want)))


def test_halves_of_one_tensor_and_transposed_codes():
    """What chunk() and a transposed encoder output give: strides, not copies."""
    heads = normal(12, 10).requires_grad_()
    mu, logvar = heads.chunk(2, dim=1)
    got = covariance_penalty(mu, logvar, lambda_od=1.0, lambda_d=2.0)
    torch.testing.assert_close(got, plain(mu, logvar, 1.0, 2.0))
    (grad,) = torch.autograd.grad(got, heads)
    (want,) = torch.autograd.grad(plain(mu, logvar, 1.0, 2.0), heads)
    torch.testing.assert_close(grad, want)
    turned = normal(5, 12).T
    got = covariance_penalty(turned, lambda_od=1.0, lambda_d=2.0)
    torch.testing.assert_close(got, plain(turned, None, 1.0, 2.0))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_transforms_of_strangers():
    batches = normal(3, 8, 4)

    def penalty(mu):
        return covariance_penalty(mu, lambda_od=1.0, lambda_d=2.0)

    got = torch.func.vmap(torch.func.grad(penalty))(batches)
    want = torch.stack([torch.func.grad(lambda x: plain(x, None, 1.0, 2.0))(b) for b in batches])
    torch.testing.assert_close(got, want)


def test_compiles_whole_within_a_stranger_s_loss():
    @torch.compile(fullgraph=True, backend="aot_eager")
    def loss(mu, logvar, y):
        penalty = covariance_penalty(mu, logvar, lambda_od=1.0, lambda_d=2.0)
        return penalty + cross_covariance_penalty(y, mu.sin()) + third_central_moment_penalty(mu)

    inputs = [normal(8, 4, seed=s).float().requires_grad_() for s in range(3)]
    mu, logvar, y = inputs
    cross = torch.einsum("bi,bj->ij", y - y.mean(0), mu.sin() - mu.sin().mean(0)) / 8
    want = plain(mu, logvar, 1.0, 2.0) + (cross**2).sum() + (mixture_moments(mu, None) ** 2).sum()
    got = loss(*inputs)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(got, inputs), torch.autograd.grad(want, inputs), rtol=1e-3, atol=1e-5
    )


MEMORY = """
import resource, torch
from pydisent.ops import cross_covariance_penalty
def run(d):
    y, z = torch.randn(64, 40, requires_grad=True), torch.randn(64, d, requires_grad=True)
    torch.autograd.grad(cross_covariance_penalty(y, z, impl="native"), (y, z))
run(64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(8192)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@needs_native
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_wide_codes_need_no_product_of_all_three_sizes():
    """B k d floats are 84 MB at these sizes; the inputs, gradients and C are 6 MB."""
    out = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(out.stdout) / 1024 < 30


CALLS = {
    "covariance_penalty": lambda **a: covariance_penalty(**a),
    "cross_covariance_penalty": lambda **a: cross_covariance_penalty(**a),
    "third_central_moment_penalty": lambda **a: third_central_moment_penalty(**a),
}
ARGUMENTS = {
    "covariance_penalty": {"mu": torch.ones(4, 3), "lambda_od": 1.0, "lambda_d": 1.0},
    "cross_covariance_penalty": {"y": torch.ones(4, 2), "z": torch.ones(4, 3)},
    "third_central_moment_penalty": {"z": torch.ones(4, 3)},
}


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        (
            "covariance_penalty",
            {"mu": torch.ones(3)},
            ValueError,
            r"mu must have shape .*got \(3,\)",
        ),
        (
            "covariance_penalty",
            {"mu": torch.ones(3, 0)},
            ValueError,
            r"mu must have shape .*got \(3, 0\)",
        ),
        ("covariance_penalty", {"mu": [[1.0]]}, TypeError, "mu must .*got list"),
        (
            "covariance_penalty",
            {"mu": torch.ones(2, 2).int()},
            TypeError,
            "mu must .*got torch.int32",
        ),
        (
            "covariance_penalty",
            {"logvar": torch.ones(4, 2)},
            ValueError,
            r"logvar must have shape .*got \(4",
        ),
        ("covariance_penalty", {"logvar": torch.ones(4, 3).int()}, TypeError, "logvar must"),
        (
            "covariance_penalty",
            {"lambda_od": torch.ones(())},
            TypeError,
            "lambda_od must .*got Tensor",
        ),
        ("covariance_penalty", {"lambda_d": torch.ones(())}, TypeError, "a finite number >= 0"),
        ("covariance_penalty", {"lambda_od": -1.0}, ValueError, "lambda_od must .*got -1.0"),
        ("covariance_penalty", {"lambda_d": float("nan")}, ValueError, "lambda_d must .*got nan"),
        (
            "cross_covariance_penalty",
            {"z": torch.ones(5, 3)},
            ValueError,
            r"z must have shape .*got \(5, 3",
        ),
        (
            "cross_covariance_penalty",
            {"z": torch.ones(4, 3).long()},
            TypeError,
            "z must .*got torch.int",
        ),
        (
            "cross_covariance_penalty",
            {"z": torch.ones(4, 3, device="meta")},
            ValueError,
            "z must be on",
        ),
        (
            "third_central_moment_penalty",
            {"z": torch.ones(2, 2, 2)},
            ValueError,
            "z must have shape ",
        ),
        (
            "third_central_moment_penalty",
            {"logvar": torch.ones(4)},
            ValueError,
            "logvar must have shape",
        ),
    ],
)
def test_bad_arguments_are_named(name, change, error, message):
    with pytest.raises(error, match=message):
        CALLS[name](**(ARGUMENTS[name] | change))
