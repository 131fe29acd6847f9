"""Values of the native functions and differences, which decompositions are held to."""

import torch
from _probe import central_difference
from torch.utils import _pytree as pytree

from pydisent.jacobian.decompositions import DECOMPOSITIONS, DecomposedFunctions

DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def draw_real(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def assert_same(function, *args, dtype=torch.float64, **kwargs):
    expected = function(*args, **kwargs)
    with DecomposedFunctions():
        got = function(*args, **kwargs)
    assert function in DECOMPOSITIONS
    if dtype.itemsize == 2:  # both against float64, as neither is exact
        exact = function(*_to_double(args), **_to_double(kwargs))
        error, native = ((y - exact).abs().max() for y in (got, expected))
        assert got.dtype == expected.dtype
        assert error <= 2 * native + 1e-6 * exact.abs().max()
        return
    # Rounding of sums over a few dozen terms, each of order one.
    tolerance = 200 * torch.finfo(dtype).eps
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def _to_double(arguments):
    def convert(x):
        return x.double() if isinstance(x, torch.Tensor) else x

    return pytree.tree_map(convert, arguments)


def draw_complex(*shape, seed=0):
    return torch.complex(draw_real(*shape, seed=seed), draw_real(*shape, seed=seed + 100))


DIFFERENTIATE = {"forward": torch.func.jacfwd, "reverse": torch.func.grad}


def assert_derivatives(function, direction):
    """Three derivatives at 0 of a scalar function of a scalar, each by differences of the last."""
    zero = torch.zeros((), dtype=torch.float64)
    for _ in range(3):
        expected = central_difference(lambda h: function(zero + h).detach(), 1e-3)  # noqa: B023
        function = DIFFERENTIATE[direction](function)
        torch.testing.assert_close(function(zero), expected, rtol=1e-7, atol=1e-7)


def weighted(y):
    """A real number in which every element of ``y`` counts."""
    y = torch.view_as_real(y) if y.is_complex() else y
    return (y * torch.arange(1.0, y.numel() + 1).double().sin().reshape(y.shape)).sum()
