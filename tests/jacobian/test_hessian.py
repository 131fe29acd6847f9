"""The Hessian penalty against ``torch.func.hessian``, and its estimators."""

import itertools

import pytest
import torch
from _probe import central_difference
from _smooth_net import D, M, draw_codes, gradients, smooth_net
from torch import nn

import pydisent
from pydisent import hessian_penalty


def hessians(net, z):
    """H (B, n, m, m)."""
    return torch.stack([torch.func.hessian(net)(code) for code in z])


def energies(h):
    """Sums of all squares and of the off-diagonal ones, (B, n) each."""
    whole = h.square().sum((-2, -1))
    return whole, whole - h.diagonal(dim1=-2, dim2=-1).square().sum(-1)


REDUCTIONS = {
    "max": lambda part: 2 * part.max(),
    "mean": lambda part: 2 * part.mean(),
    "sum": lambda part: 2 * part.sum(1).mean(),
}


@pytest.mark.parametrize("chunk", [None, 1, 4, 9])
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "normalized"])
def test_all_pairs_of_axes_give_the_exact_penalty_and_gradient(reduction, chunk):
    net, z = smooth_net(), draw_codes().requires_grad_()
    whole, part = energies(hessians(net, z))
    if reduction == "normalized":
        expected = (part.sum(1) / whole.sum(1)).mean()
        value = hessian_penalty(net, z, normalized=True, chunk=chunk)
    else:
        expected = REDUCTIONS[reduction](part)
        value = hessian_penalty(net, z, directions="axes", reduction=reduction, chunk=chunk)
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=0)
    for got, wanted in zip(gradients(value, net, z), gradients(expected, net, z), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_the_estimator_is_the_variance_of_quadratic_forms(chunk):
    net, z = smooth_net(), draw_codes().requires_grad_()
    v = torch.randn(4, *z.shape, dtype=D)
    forms = torch.einsum("kbi,bnij,kbj->kbn", v, hessians(net, z), v)
    expected = forms.var(0).max()  # as Peebles et al.'s code has it
    value = hessian_penalty(net, z, directions=v, chunk=chunk)
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=0)
    for got, wanted in zip(gradients(value, net, z), gradients(expected, net, z), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-13)


def test_all_signs_and_all_axes_give_the_same():
    """Var v'H v = 2 Σ H_ij² over i ≠ j, for a penalty that has but one scale."""
    net, z = smooth_net(), draw_codes()
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=M)), dtype=D)
    v = signs[:, None].expand(len(signs), *z.shape)
    estimate = hessian_penalty(net, z, directions=v, reduction="mean")
    exact = hessian_penalty(net, z, directions="axes", reduction="mean")
    torch.testing.assert_close(estimate * (len(v) - 1) / len(v), exact, rtol=1e-11, atol=0)


@pytest.mark.parametrize("normalized", [False, True])
def test_random_directions_estimate_it(normalized):
    net, z = smooth_net(), draw_codes()
    options = {"reduction": "mean", "normalized": normalized}
    exact = hessian_penalty(net, z, directions="axes", **options)
    estimate = hessian_penalty(net, z, directions=3000, **options)
    torch.testing.assert_close(estimate, exact, rtol=0.1, atol=0)


def test_small_latents_are_exact_by_default_and_others_are_estimated():
    net, z = smooth_net(8), draw_codes(m=8)
    before = torch.get_rng_state()
    exact = hessian_penalty(net, z)
    assert torch.equal(torch.get_rng_state(), before)
    assert exact == hessian_penalty(net, z, directions="axes")
    net, z = smooth_net(9), draw_codes(m=9)
    torch.manual_seed(4)
    estimate = hessian_penalty(net, z)
    torch.manual_seed(4)
    assert estimate == hessian_penalty(net, z, directions=2)
    assert estimate != hessian_penalty(net, z, directions=2)


def test_known_values():
    z = torch.tensor([[2.0, 3.0, 5.0]], dtype=D)
    assert hessian_penalty(lambda z: z[:, :1].exp() + z[:, 2:].sin() + z[:, 1:2] ** 3, z) == 0
    product = hessian_penalty(lambda z: z[:, :1] * z[:, 1:2], z)  # H_12 = H_21 = 1
    assert product.item() == 4
    assert hessian_penalty(lambda z: z[:, :1] * z[:, 1:2], z, normalized=True).item() == 1
    mixed = hessian_penalty(lambda z: z[:, :1] * z[:, 1:2] + z[:, :1] ** 2, z, normalized=True)
    torch.testing.assert_close(mixed.item(), 2 / 6)  # of 1, 1 and 2²


def test_the_normalised_penalty_does_not_change_with_the_outputs_scale():
    net, z = smooth_net(), draw_codes()
    value = hessian_penalty(net, z, normalized=True)
    torch.testing.assert_close(hessian_penalty(lambda z: 1e-3 * net(z), z, normalized=True), value)
    assert hessian_penalty(lambda z: 1e-3 * net(z), z) < 1e-5 * hessian_penalty(net, z)


@pytest.mark.parametrize("directions", ["axes", 2])
def test_axes_are_scaled(directions):
    net, z, scale = smooth_net(), draw_codes(), torch.rand(M, dtype=D) + 0.5
    values = []
    for fn, at, options in (
        (net, z, {"latent_scale": scale}),
        (lambda u: net(u * scale), z / scale, {}),
    ):
        torch.manual_seed(0)
        values.append(hessian_penalty(fn, at, directions=directions, **options))
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("options", [{}, {"normalized": True}, {"directions": 3}])
def test_penalties_of_activations_add(options):
    first, z = smooth_net(), draw_codes()
    second, fixed = nn.Sequential(first, nn.Tanh()), torch.ones(3, 2, dtype=D)
    values = []
    for fn in (first, second, lambda z: [first(z), fixed, second(z)]):
        torch.manual_seed(0)
        values.append(hessian_penalty(fn, z, **options))
    torch.testing.assert_close(values[0] + values[1], values[2])


@pytest.mark.parametrize("shape", [(M, 1, 1), (2, 3)])
def test_latents_have_any_shape(shape):
    size = torch.Size(shape).numel()
    net, z = smooth_net(size), draw_codes(m=size)
    value = hessian_penalty(nn.Sequential(nn.Flatten(), net), z.reshape(3, *shape))
    torch.testing.assert_close(value, hessian_penalty(net, z))


@pytest.mark.parametrize("options", [{}, {"directions": 2}, {"normalized": True}])
def test_a_piecewise_linear_network_has_no_penalty(options):
    net = nn.Sequential(nn.Linear(M, 9), nn.ReLU(), nn.Linear(9, 4))
    value = hessian_penalty(net, draw_codes(dtype=torch.float32), **options)
    assert value == 0
    value.backward()  # of which nothing follows
    assert all(p.grad is None or not p.grad.any() for p in net.parameters())


def test_one_latent_has_no_pairs():
    net, z = smooth_net(1), draw_codes(m=1)
    assert hessian_penalty(net, z) == 0
    assert hessian_penalty(net, z, normalized=True) == 0


def test_the_gradient_through_a_layer_norm_is_that_of_differences():
    """Where PyTorch's own derivatives are wrong."""
    torch.manual_seed(0)
    first, norm = nn.Linear(M, 6, dtype=D), nn.LayerNorm(6, dtype=D)
    z, move = draw_codes(), torch.randn(6, M, dtype=D)

    def value(h=0.0):
        weight = first.weight + h * move
        net = lambda z: norm(z @ weight.T + first.bias).tanh()
        return hessian_penalty(net, z, reduction="mean")

    (gradient,) = torch.autograd.grad(value(), first.weight)
    expected = central_difference(lambda h: value(h).detach(), 1e-4)
    torch.testing.assert_close((gradient * move).sum(), expected, rtol=1e-7, atol=0)


def test_it_is_a_hundred_times_as_exact_as_differences_in_float32():
    net, z = smooth_net(16, 20), draw_codes(m=16)
    v = torch.randint(0, 2, (2, *z.shape)).double() * 2 - 1
    _, _, exact = pydisent.second_directional_derivative(net, z, v)
    torch.testing.assert_close(
        exact, torch.einsum("kbi,bnij,kbj->kbn", v, hessians(net, z), v), rtol=1e-10, atol=1e-12
    )
    net, z, v = net.float(), z.float(), v.float()
    _, _, ours = pydisent.second_directional_derivative(net, z, v)
    with torch.no_grad():
        published = torch.stack(
            [(net(z + 0.1 * d) - 2 * net(z) + net(z - 0.1 * d)) / 0.01 for d in v]
        )
    errors = [(found.double() - exact).norm().item() for found in (ours, published)]
    assert 500 * errors[0] <= errors[1]
