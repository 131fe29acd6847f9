"""Determinants and their derivatives, of singular matrices too."""

import itertools
import math

import pytest
import torch
from _exact import (
    DIFFERENTIATE,
    assert_derivatives,
    assert_same,
    draw_complex,
    draw_real,
    weighted,
)
from _probe import central_difference

from pydisent.jacobian import decompositions, linearize

DRAWS = pytest.mark.parametrize("draw", [draw_real, draw_complex])
DETERMINANTS = (torch.linalg.det, torch.det, torch.Tensor.det, torch.linalg.slogdet, torch.slogdet,
                torch.Tensor.slogdet, torch.logdet, torch.Tensor.logdet)  # fmt: skip


@DRAWS
@pytest.mark.parametrize("function", DETERMINANTS)
def test_determinants(function, draw):
    for n in (0, 1, 2, 3, 8, 9, 20):
        a = draw(2, n, n, seed=n)
        if "logdet" in function.__name__ and draw is draw_real:
            a[0] = a[0] @ a[0].mT  # one that has a logarithm, one that may have none
        assert_same(function, a)
        assert_same(function, a[0])
        assert_same(function, a.expand(3, 2, n, n))
    for rows in itertools.permutations(range(3)):
        assert_same(function, draw(2, 3, 3)[:, list(rows)])
    if draw is draw_real:  # PyTorch's complex logarithm of 0 is NaN in part
        assert_same(function, torch.zeros(2, 3, 3, dtype=torch.float64))


@pytest.mark.in_turn
@DRAWS
@pytest.mark.parametrize("direction", DIFFERENTIATE)
@pytest.mark.parametrize("n", [1, 3, 6, 10])
def test_derivatives_of_determinants(n, draw, direction):
    a = draw(2, n, n) / math.sqrt(n) + 2 * torch.eye(n)
    tangent = draw(2, n, n, seed=1) / n
    if draw is draw_real:
        assert (torch.det(a) > 0).all()
    for function in (
        decompositions.det,
        decompositions.logdet,
        lambda x: decompositions.slogdet(x)[1],
        lambda x: decompositions.slogdet(x)[0],
    ):
        assert_derivatives(lambda t, f=function: weighted(f(a + t * tangent)), direction)


def _singular(kind, n, draw):
    a = draw(2, n, n) / math.sqrt(n)
    if kind == "first row and column are zero":
        a[:, 0] = a[:, :, 0] = 0
    elif kind == "equal columns":
        a[..., :2] = a[..., 2:3]
    elif kind == "equal rows":
        a[:, :3] = a[:, 3:4]
    elif kind == "one of the batch":
        a[0, 0] = 0
    else:
        a = draw(2, n, n - kind) @ draw(2, n - kind, n, seed=1) / n
    return a


@pytest.mark.in_turn
@DRAWS
@pytest.mark.parametrize("direction", DIFFERENTIATE)
@pytest.mark.parametrize("n", [4, 10])
@pytest.mark.parametrize("kind", [1, 2, 3, "first row and column are zero", "equal columns",
                                  "equal rows", "one of the batch"])  # fmt: skip
def test_derivatives_of_det_at_singular_matrices(kind, n, draw, direction):
    n = 6 if direction == "forward" and n > 6 else n  # eight passes nested in each other
    a, tangent = _singular(kind, n, draw), draw(2, n, n, seed=2) / math.sqrt(n)
    torch.testing.assert_close(decompositions.det(a), torch.det(a), rtol=1e-12, atol=1e-12)
    assert_derivatives(lambda t: weighted(decompositions.det(a + t * tangent)), direction)


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_det_of_zero_is_a_polynomial(n):
    zero, tangent = torch.zeros(n, n, dtype=torch.float64), draw_real(n, n)
    assert_derivatives(lambda t: decompositions.det(zero + t * tangent), "reverse")


def test_det_of_a_large_matrix_of_low_rank():
    """The derivatives up to the order of what the rank lacks are zero, or an error."""
    a = (draw_real(20, 3) @ draw_real(3, 20, seed=1)).requires_grad_()
    (slope,) = torch.autograd.grad(decompositions.det(a), a, create_graph=True)
    (bend,) = torch.autograd.grad((slope * draw_real(20, 20, seed=2)).sum(), a)
    torch.testing.assert_close(slope, torch.zeros_like(a), rtol=0, atol=1e-12)
    torch.testing.assert_close(bend, torch.zeros_like(a), rtol=0, atol=1e-12)
    with pytest.raises(RuntimeError, match="singular"):
        decompositions.det(torch.zeros(20, 20))


@pytest.mark.parametrize("n", [4, 8, 12])
@pytest.mark.parametrize("kind", ["correlated", "graded rows", "graded columns"])
def test_det_keeps_the_digits_of_a_product_of_pivots(n, kind):
    scale = 10.0 ** -torch.arange(n)
    a = {
        "correlated": torch.full((n, n), 0.99) + 0.01 * torch.eye(n),
        "graded rows": draw_real(n, n, dtype=torch.float32) * scale[:, None].clamp(min=1e-3),
        "graded columns": draw_real(n, n, dtype=torch.float32) * scale.clamp(min=1e-3),
    }[kind]
    exact = torch.det(a.double())
    assert (decompositions.det(a) - exact).abs() <= 1e-4 * exact.abs()


@pytest.mark.parametrize("function", [decompositions.det, decompositions.slogdet,
                                      decompositions.logdet])  # fmt: skip
def test_determinants_refuse_what_is_not_square(function):
    for shape in ((2, 3), (3,), (4, 2, 3)):
        with pytest.raises(ValueError, match="A must have shape"):
            function(draw_real(*shape))


@pytest.mark.parametrize("function", [torch.det, torch.logdet, lambda x: torch.slogdet(x)[1]])
@pytest.mark.filterwarnings("error:pydisent")
def test_determinants_can_be_traced(function):
    z, v = draw_real(3, 4), draw_real(2, 3, 4, seed=1)
    fixed = 3 * torch.eye(4, dtype=torch.float64)

    def fn(z):
        return function(z.unsqueeze(-1) * z.unsqueeze(-2) + fixed + z.diag_embed().tanh())

    got = linearize(fn, z).jvp(v)
    for tangent, row in zip(v, got):
        expected = central_difference(lambda h, e=tangent: fn(z + h * e), 1e-3)
        torch.testing.assert_close(row, expected, rtol=1e-8, atol=1e-8)
