"""Functions at points, or along directions, where PyTorch's own formulas are not right."""

import pytest
import torch
from _exact import DTYPES, assert_same, draw_complex, draw_real
from _functions import METHODS, D, by_differences, draw_codes, exact_penalty
from _oracle import FiniteDifferences
from _probe import central_difference
from torch import nn

import pydisent

torch.manual_seed(0)
LAYER = nn.Linear(4, 4).double()
OPEN = torch.tensor([1.0, 1, 0, 1], dtype=D)
EXPONENTS = torch.tensor([2.0, 3, 1, 0], dtype=D)

FUNCTIONS = {
    "cumprod": lambda z: torch.cumprod(LAYER(z) * OPEN, 1),
    "cumprod of rows": lambda z: (LAYER(z).view(-1, 2, 2) * OPEN.view(2, 2)).cumprod(dim=-1),
    "prod": lambda z: (LAYER(z) * OPEN).prod(1, keepdim=True) + z.sin(),
    "prod of two zeros": lambda z: (
        torch.prod(LAYER(z) * OPEN * OPEN.roll(1), -1)[:, None] + z.sin()
    ),
    "prod of all": lambda z: torch.stack([(x * OPEN).prod() for x in LAYER(z)])[:, None] + z.sin(),
    "eigenvalues": lambda z: torch.linalg.eigvalsh(
        LAYER(z)[:, None] * z[:, :, None] * 0.2
        + LAYER(z)[:, :, None] * z[:, None] * 0.2
        + torch.arange(4.0, dtype=D).diag()
    ),
    "abs of complex zeros": lambda z: (
        torch.complex(LAYER(z) * OPEN, z.sin() * OPEN).abs() + z.sin()
    ),
    "sinc": lambda z: torch.sinc(LAYER(z)[:, None] * torch.tensor([[-2.0], [0], [0.1]], dtype=D)),
    "pow by a tensor": lambda z: LAYER(z) ** EXPONENTS + z.sin(),
    "pow by a number's tensor": lambda z: (LAYER(z) * OPEN).pow(torch.tensor(2.0)),
    "pow by integers": lambda z: torch.pow(LAYER(z)[:, None] * OPEN, EXPONENTS.long()[:3, None]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_first_order(name):
    fn, z = FUNCTIONS[name], draw_codes()
    linear = pydisent.linearize(fn, z)
    jacobian = by_differences(fn, z)
    torch.testing.assert_close(linear.jacobian(), jacobian)
    axes = linear.basis()
    torch.testing.assert_close(
        linear.gram_product(axes).permute(1, 2, 0), jacobian.mT @ jacobian, atol=1e-8, rtol=1e-8
    )
    oracle = FiniteDifferences(fn, z, iterations=2, probe=torch.ones(3, 4, 2, dtype=D))
    parameters = list(LAYER.parameters())
    directions = [draw_real(*p.shape, seed=5) for p in parameters]
    slope = oracle.along_parameters(parameters, directions)
    for method in METHODS:
        value = exact_penalty(fn, z, method)
        assert abs(value.item() - oracle.value()) <= 1e-8
        gradients = torch.autograd.grad(value, parameters)
        found = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
        assert abs(found - slope) <= 1e-6 * max(1, abs(slope)), method


@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_order(name):
    fn, z = FUNCTIONS[name], draw_codes()
    v = draw_real(3, 4, seed=4)
    weight, direction = LAYER.weight, draw_real(4, 4, seed=6)

    def bent():
        return pydisent.second_directional_derivative(fn, z, v[None])[2][0].flatten(1)

    expected = central_difference(
        lambda h: central_difference(lambda k: fn(z + (h + k) * v).detach().flatten(1), 1e-3), 1e-3
    )
    second = bent()
    torch.testing.assert_close(second.detach(), expected, atol=1e-6, rtol=1e-6)
    factors = draw_real(*second.shape, seed=7)
    (gradient,) = torch.autograd.grad((second * factors).sum(), weight)
    kept = weight.detach().clone()

    def moved(h):
        with torch.no_grad():
            weight.copy_(kept + h * direction)
        return (bent().detach() * factors).sum()

    slope = central_difference(moved, 1e-3)
    with torch.no_grad():
        weight.copy_(kept)
    torch.testing.assert_close((gradient * direction).sum(), slope, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values(dtype):
    x = draw_real(3, 5, 2, dtype=dtype)
    for zeros in (0, 1):
        y = x.masked_fill(torch.arange(5)[:, None] % 3 < zeros, 0.0)
        for dim in (0, 1, -1):
            assert_same(torch.cumprod, y, dim, dtype=dtype)
            assert_same(torch.prod, y, dim, dtype=dtype)
            assert_same(torch.Tensor.prod, y, dim, keepdim=True, dtype=dtype)
        assert_same(torch.prod, y, dtype=dtype)
    assert_same(torch.sinc, torch.linspace(-3, 3, 61, dtype=dtype), dtype=dtype)
    assert_same(torch.prod, draw_complex(3, 2) * torch.tensor([1, 0]), 0)
    assert torch.cumprod(torch.zeros(0, 3), 0).shape == (0, 3)


@pytest.mark.parametrize("name", ["abs of complex zeros", "cumprod", "prod", "sinc"])
def test_gradients_of_second_derivatives(name):
    fn, z = FUNCTIONS[name], draw_codes()
    v = draw_codes(2, 3, 4)

    def penalty():
        return pydisent.hessian_penalty(fn, z, directions=v, reduction="sum")

    (slope,) = torch.autograd.grad(penalty(), LAYER.weight)
    direction = draw_real(4, 4, seed=5)

    def moved(step):
        with torch.no_grad():
            LAYER.weight += step * direction
            value = penalty()
            LAYER.weight -= step * direction
        return value

    difference = central_difference(moved, 3e-4)
    torch.testing.assert_close((slope * direction).sum(), difference, atol=1e-6, rtol=1e-6)
