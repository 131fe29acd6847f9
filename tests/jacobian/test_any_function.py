"""Ordinary programs around networks: right as central differences say, or refused in words.

``test_programs`` composes such programs at random and ``test_operators`` goes through PyTorch's
own operators; here is what a user meets by name: options, errors, side effects, devices, dtypes.
"""

import random
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _functions import (
    METHODS,
    D,
    Doubled,
    Square,
    assert_right,
    by_differences,
    draw_codes,
    exact_penalty,
)
from _oracle import power_iterations
from torch import nn
from torch.utils.checkpoint import checkpoint

import pydisent
from pydisent import DerivativeError

torch.manual_seed(0)  # the networks below


# -- side effects are those of one call -----------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("hidden", [False, True])
def test_a_function_is_called_once_whatever_it_holds(method, hidden):
    layer, norm = nn.Linear(4, 6).double(), nn.BatchNorm1d(6).double()
    spectral = nn.utils.spectral_norm(nn.Linear(6, 5)).double()
    given, calls = torch.Generator(), []

    def fn(z):
        calls.append(random.random() + np.random.rand())  # noqa: NPY002
        h = norm(layer(z)) + 0.1 * torch.randn(3, 6, dtype=D, generator=given)
        return spectral(Doubled.apply(h) if hidden else 2 * h)

    def states():
        numbers = random.getstate(), np.random.get_state()[2]  # noqa: NPY002
        buffers = [*norm.buffers(), spectral.weight_u.clone()]
        return *numbers, torch.get_rng_state(), given.get_state(), *(b.clone() for b in buffers)

    def restart():
        for draw in (torch.manual_seed, given.manual_seed, random.seed, np.random.seed):
            draw(5)
        norm.reset_running_stats()
        with torch.no_grad():
            spectral.weight_u.copy_(torch.ones(5) / 5**0.5)
            spectral.weight_v.copy_(torch.ones(6) / 6**0.5)

    restart()
    fn(draw_codes())
    once = states()
    restart()
    calls.clear()
    exact_penalty(fn, draw_codes(), method).backward()
    assert len(calls) == 1
    for got, expected in zip(states(), once, strict=True):
        equal = torch.allclose(got, expected) if isinstance(got, torch.Tensor) else got == expected
        assert equal


def test_products_are_those_of_the_call_that_was_traced():
    given = torch.Generator()
    weight = draw_codes(4, 6)

    def fn(z):
        h = z @ weight * (1 + random.random())
        if np.random.rand() < 0.5:  # noqa: NPY002
            h = Doubled.apply(h)
        return F.dropout(h + torch.randn(3, 6, dtype=D, generator=given), 0.3).sin()

    def seed():
        for draw in (torch.manual_seed, given.manual_seed, random.seed, np.random.seed):
            draw(5)

    seed()
    linear = pydisent.linearize(fn, draw_codes())
    first = linear.jacobian()
    assert torch.equal(first, linear.jacobian())
    torch.testing.assert_close(first, by_differences(fn, draw_codes(), seed))


# -- values and derivatives that are not there ----------------------------------------------------


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_a_jacobian_that_is_not_finite_is_named(method, grad):
    with torch.set_grad_enabled(grad):
        with pytest.raises(ValueError, match="Jacobian") as error:
            exact_penalty(lambda z: z.relu().sqrt() + z * 0, -draw_codes().abs(), method)
        assert method == "autograd" or "sqrt" in str(error.value)
        with pytest.raises(ValueError, match="J'J"):
            exact_penalty(lambda z: 1e25 * z.tanh(), draw_codes().float(), method)


def test_a_result_without_a_derivative_is_refused_where_it_is_read():
    with pytest.raises(DerivativeError, match="bessel_j0"):
        pydisent.linearize(lambda z: z + torch.special.bessel_j0(z), draw_codes())
    with pytest.raises(DerivativeError, match="bessel_j0"):
        pydisent.linearize(lambda z: (z, torch.special.bessel_j0(z)), draw_codes())
    torch.special.bessel_j0(draw_codes())
    pydisent.linearize(lambda z: z * torch.special.bessel_j0(z).detach(), draw_codes())


def test_a_step_is_a_constant():
    fn = lambda z: z * z.round() + z.sign() * z.heaviside(torch.zeros(1, dtype=D)) + (z > 0) * z
    torch.testing.assert_close(
        pydisent.linearize(fn, draw_codes()).jacobian(), by_differences(fn, draw_codes())
    )


# -- devices and dtypes ---------------------------------------------------------------------------


def test_a_default_device_is_the_callers_own_affair():
    layer = nn.Linear(4, 8)
    z = draw_codes(dtype=torch.float32)
    functions = [
        layer,
        lambda z: F.max_pool1d(layer(z)[:, None], 2),
        lambda z: layer(z).sort().values * F.dropout(layer(z), 0.2),
        lambda z: z @ layer.weight.t() + Square.apply(layer(z)).roll(1, 1),
        lambda z: torch.where(layer(z) > 0, layer(z), layer(z).exp()),
    ]
    probe = torch.ones(3, 4, 2)
    options = {"k": 2, "iterations": 2, "probe": probe}
    for fn in functions:
        torch.manual_seed(0)
        expected = pydisent.alignment_penalty(fn, z, **options)
        try:
            torch.set_default_device("meta")
            torch.manual_seed(0)
            value = pydisent.alignment_penalty(fn, z, **options)
        finally:
            torch.set_default_device(None)
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("z_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("compute_dtype", [None, torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_may_be_mixed(z_dtype, compute_dtype):
    """A buffer in float32 that is written into, a transform without a half kernel, wide codes."""
    layer, buffer = nn.Linear(4, 6), torch.zeros(2, 6)

    def fn(z):
        h = layer(z.float())
        canvas = buffer.unsqueeze(0).repeat(len(z), 1, 1)
        canvas[:, 0] = h
        canvas[:, 1, 2:] = h[:, :4].sin()
        return torch.cat([torch.fft.rfft(canvas.flatten(1)).abs(), h.cumsum(1)], 1)

    z = draw_codes(dtype=z_dtype)
    exact = exact_penalty(fn, z)
    value = exact_penalty(fn, z, compute_dtype=compute_dtype)
    (gradient,) = torch.autograd.grad(value, layer.weight)
    (expected,) = torch.autograd.grad(exact, layer.weight)
    half = compute_dtype in (torch.bfloat16, torch.float16)
    torch.testing.assert_close(value.double(), exact.double(), atol=0.1 if half else 1e-5, rtol=0)
    assert (gradient - expected).norm() <= (0.3 if half else 1e-4) * expected.norm()


# -- what public generators do --------------------------------------------------------------------


class Positions(nn.Module):
    """A graph decoder: a sparse constant, positions by vmap, then writes in place."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 12).double()
        self.register_buffer("graph", torch.eye(6, dtype=D).roll(1, 0).to_sparse())

    def forward(self, z):
        grid = torch.vmap(lambda i: i.sin() + 1)(torch.arange(12.0, dtype=D))
        h = (self.layer(z) * grid).view(-1, 6, 2)
        return torch.stack([torch.sparse.mm(self.graph, x) for x in h]).relu_()


def _attention(h):
    return F.scaled_dot_product_attention(*h.view(-1, 1, 3, 4).expand(3, -1, -1, -1, -1)).flatten(1)


def _langevin(z):
    (score,) = torch.autograd.grad((z**3).sum(), z, create_graph=True)
    return (z - 0.1 * score).sin()


PUBLIC = {
    "BigGAN's dtype by its name": lambda z: (
        z.double().mean(1, keepdim=True).type(z.type()) + z
    ).sin(),
    "GPT-2's empty cache": lambda z: torch.cat([torch.tensor([]), z.sin().view(3, 1, 4)], -2),
    "a checkpointed block": lambda z: checkpoint(_attention, z.repeat(1, 3), use_reentrant=False),
    "Langevin's step": _langevin,
    "a determinant": lambda z: torch.det(z[:, :, None] * z[:, None].sin() + torch.eye(4)).view(
        3, 1
    ),
    "a flow's jvp": lambda z: torch.func.jvp(torch.sin, (z,), (torch.ones_like(z),))[1],
    "graph decoder": Positions(),
    "an LU solve": lambda z: torch.lu_unpack(
        *torch.linalg.lu_factor(z[:, :, None] * z[:, None].sin() + torch.eye(4))
    )[2].flatten(1),
}


PLAIN = {"Langevin's step": lambda z: (z - 0.3 * z**2).sin()}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.filterwarnings("ignore:.*cannot be traced.*")
def test_what_public_generators_do(name, method):
    fn = PUBLIC[name]
    torch.set_default_dtype(D)
    try:
        plain = PLAIN.get(name, fn)  # where differences need no gradient inside
        jacobian = by_differences(plain, draw_codes())
        value = exact_penalty(fn, draw_codes().requires_grad_(), method)
        value.backward()
        gram = jacobian.mT @ jacobian
        expected = power_iterations(lambda v: gram @ v, torch.ones(3, 4, 2), 2, True)
        assert abs(value - expected) <= 1e-7
        if method != "autograd":
            got = pydisent.linearize(fn, draw_codes()).jacobian()
            torch.testing.assert_close(got, jacobian, atol=1e-7, rtol=1e-7)
    finally:
        torch.set_default_dtype(torch.float32)


def test_an_announcement_is_of_what_only_the_graph_shows():
    fn = lambda z: Square.apply(z).sin() + F.dropout(z, 0.3, inplace=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pydisent.linearize(fn, draw_codes())


STEPS = {
    "floor_divide": lambda x: torch.floor_divide(x, 0.3),
    "//": lambda x: x // 0.3,
    "// by values": lambda x: (2 * x) // (x.flip(1) + 2),
    "a number //": lambda x: 1 // (x + 2),
    "heaviside": lambda x: torch.heaviside(x, x.new_tensor(0.5)),
    "aten": lambda x: torch.ops.aten.floor_divide(x, 0.3) + torch.ops.aten.heaviside(x, x * 2),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_that_torch_does_not_differentiate_are_constants(name):
    layer = nn.Linear(4, 6).double()
    with torch.no_grad():
        layer.weight.copy_(draw_codes(6, 4))

    def fn(z):
        x = layer(z).tanh()
        return x * STEPS[name](x)

    assert_right(fn, draw_codes())
    found = []
    for method in METHODS:
        value = exact_penalty(fn, draw_codes(), method)
        found.append(torch.autograd.grad(value, layer.weight)[0])
    for slope in found:
        torch.testing.assert_close(slope, found[-1])
