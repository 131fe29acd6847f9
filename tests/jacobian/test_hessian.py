"""The Hessian penalty against ``torch.func.hessian``, and its estimators."""

import itertools

import pytest
import torch
from _probe import central_difference
from torch import nn

import pydisent
from pydisent import hessian_penalty
from pydisent.jacobian import HessianPenalty

D = torch.float64
M = 5


def smooth_net(m=M, out=7, dtype=D):
    torch.manual_seed(0)
    layers = [nn.Linear(m, 12), nn.Tanh(), nn.Linear(12, 12), nn.SiLU(), nn.Linear(12, out)]
    return nn.Sequential(*layers).to(dtype)


def draw_codes(batch=3, m=M, dtype=D):
    return torch.randn(batch, m, generator=torch.Generator().manual_seed(1), dtype=D).to(dtype)


def hessians(net, z):
    """H (B, n, m, m)."""
    return torch.stack([torch.func.hessian(net)(code) for code in z])


def energies(h):
    """Sums of all squares and of the off-diagonal ones, (B, n) each."""
    whole = h.square().sum((-2, -1))
    return whole, whole - h.diagonal(dim1=-2, dim2=-1).square().sum(-1)


def gradients(value, net, z):
    return torch.autograd.grad(value, [z, *net.parameters()], materialize_grads=True)


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


# -- functions ---------------------------------------------------------------------------------


def by_hand(x):
    return (x - x.mean(0)) * torch.rsqrt(x.var(0, correction=0) + 1e-5)


def test_coupled_samples_are_refused_or_held():
    first, last, norm = nn.Linear(M, 8), nn.Linear(8, 5), nn.BatchNorm1d(8, affine=False)
    first, last, norm = first.double(), last.double(), norm.double()
    values = []
    for normalize in (norm, by_hand):
        z = draw_codes().requires_grad_()
        value = hessian_penalty(lambda z, n=normalize: last(n(first(z)).tanh()), z, coupled="hold")
        wanted = [first.weight, last.weight, z]
        values.append([value, *torch.autograd.grad(value, wanted, materialize_grads=True)])
    torch.testing.assert_close(*values)
    with pytest.raises(ValueError, match="mixes the samples"):
        hessian_penalty(lambda z: by_hand(first(z)).tanh(), draw_codes())


@pytest.mark.parametrize("options", [{}, {"directions": 2}, {"directions": 2, "chunk": 1}])
def test_the_function_is_called_once_and_draws_once(options):
    net, calls = smooth_net(), []

    def fn(z, shift, *, scale):
        calls.append(1)
        return nn.functional.dropout(net(z), 0.5).tanh() * scale + shift

    z = draw_codes().requires_grad_()
    value = hessian_penalty(fn, z, 1.0, scale=2.0, **options)
    value.backward()
    assert calls == [1]
    assert z.grad.any()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_it_has_no_graph(mode):
    net, z = smooth_net(), draw_codes()
    expected = hessian_penalty(net, z)
    with mode():
        value = hessian_penalty(net, z)
        assert not value.requires_grad
        torch.testing.assert_close(value, expected.detach())


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, cotangent):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * cotangent


@pytest.mark.parametrize("chunk", [None, 1])
def test_a_custom_function_is_differentiated_by_its_backward(chunk):
    net, values = smooth_net(), []
    for cube in (Cube.apply, lambda x: x**3):
        z = draw_codes().requires_grad_()
        value = hessian_penalty(lambda z, c=cube: c(net(z)).tanh(), z, chunk=chunk)
        values.append([value, *gradients(value, net, z)])
    torch.testing.assert_close(*values)


def test_a_second_derivative_that_is_not_finite_is_an_error():
    z = torch.tensor([[0.0, 1.0]])
    with pytest.raises(ValueError, match="second derivatives of fn are not finite, from 'pow'"):
        hessian_penalty(lambda z: z**1.5 * z.flip(1), z)
    with pytest.raises(ValueError, match="Jacobian of fn has NaN or infinity in it, from 'sqrt'"):
        hessian_penalty(lambda z: z.sqrt(), z)


def test_recomputed_gradients_are_not_differentiated_again():
    net, z = smooth_net(), draw_codes().requires_grad_()
    value = hessian_penalty(net, z, chunk=1)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(value, z, create_graph=True)


# -- arguments ---------------------------------------------------------------------------------

BAD = [
    ("directions", {"directions": 1}),
    ("directions", {"directions": 2.0}),
    ("directions", {"directions": "all"}),
    ("directions", {"directions": torch.ones(2, 3, M + 1)}),
    ("directions", {"directions": torch.ones(1, 3, M)}),
    ("directions", {"directions": torch.ones(2, 3, M), "normalized": True}),
    ("directions", {"directions": torch.ones(2, 3, M, dtype=torch.complex64)}),
    ("reduction", {"reduction": "median"}),
    ("normalized", {"normalized": 1}),
    ("latent_scale", {"latent_scale": torch.ones(M + 1)}),
    ("latent_scale", {"latent_scale": 2.0}),
    ("latent_scale", {"latent_scale": torch.ones(M, dtype=torch.long)}),
    ("chunk", {"chunk": 0}),
    ("compute_dtype", {"compute_dtype": torch.int8}),
    ("coupled", {"coupled": "ignore"}),
]


@pytest.mark.parametrize(("name", "given"), BAD, ids=[f"{n}-{i}" for i, (n, _) in enumerate(BAD)])
def test_bad_options_are_named(name, given):
    called = []

    def fn(z):
        called.append(1)
        return z.sin()

    with pytest.raises((ValueError, TypeError), match=name):
        hessian_penalty(fn, draw_codes(), **given)
    assert not called, "an error must come before any work"


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("directions", {"directions": torch.full((2, 3, M), torch.nan)}),
        ("latent_scale", {"latent_scale": torch.full((M,), torch.inf)}),
    ],
)
def test_what_is_not_finite_is_named(name, given):
    with pytest.raises(ValueError, match=f"^{name} must be finite, got NaN or infinity"):
        hessian_penalty(smooth_net(), draw_codes(), **given)


OF_A_MODULE = [
    (name, given) for name, given in BAD if not torch.is_tensor(next(iter(given.values())))
]


@pytest.mark.parametrize(("name", "given"), OF_A_MODULE, ids=[f"{g}" for _, g in OF_A_MODULE])
def test_a_module_names_bad_options_when_it_is_made(name, given):
    with pytest.raises((ValueError, TypeError), match=name):
        HessianPenalty(**given)


def test_directions_of_a_derivative_are_checked():
    z = draw_codes()
    for directions in (z, torch.ones(0, *z.shape), [1.0]):
        with pytest.raises(ValueError, match=r"directions must have shape \(K, 3, 5\)"):
            pydisent.second_directional_derivative(torch.sin, z, directions)
    with pytest.raises(TypeError, match=r"directions must be a real tensor, got dtype torch\.comp"):
        pydisent.second_directional_derivative(torch.sin, z, torch.ones(2, *z.shape) + 0j)


def test_as_a_module():
    net, z = smooth_net(), draw_codes()
    scale = torch.rand(M, dtype=D)
    penalty = HessianPenalty(normalized=True, latent_scale=scale)
    expected = hessian_penalty(net, z, normalized=True, latent_scale=scale)
    torch.testing.assert_close(penalty(net, z), expected)
    assert torch.equal(penalty.state_dict()["latent_scale"], scale)
    assert "normalized=True" in repr(penalty)
    assert penalty(lambda z, *, chunk: net(z) * chunk, z, chunk=1.0) == penalty(net, z)
    with pytest.raises(TypeError, match="directions"):
        HessianPenalty(directions=torch.ones(2, 3, M))
    with pytest.raises(ValueError, match="reduction"):
        HessianPenalty(reduction="median")
