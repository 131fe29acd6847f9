"""Functions whose lists, counters, hooks and weights change after the engine has read them."""

import threading

import pytest
import torch
import torch.nn.functional as F
from _functions import (
    METHODS,
    D,
    Square,
    assert_right,
    by_differences,
    draw_codes,
    exact_penalty,
)
from torch import nn

import pydisent
from pydisent import DerivativeError

torch.manual_seed(0)
LAYER = nn.Linear(4, 6).double()
NET = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


# -- arguments that the function changes -----------------------------------------------------------


def padded(z):
    pad = [1, 0]
    x = F.pad(LAYER(z), pad)
    pad[:] = [0, 1]
    return F.pad(x.sin(), pad)


def resized(z):
    size = [12]
    x = F.interpolate(LAYER(z)[:, None], size=size)
    size[0] = 9
    return F.interpolate(x.sin(), size=size, mode="linear")


def split(z):
    sizes = [2, 4]
    first, second = LAYER(z).split(sizes, 1)
    sizes[:] = [1, 1]
    return torch.cat([first.sin(), *second[:, :2].exp().split(sizes, dim=1)], 1)


def sliced_by_a_counter(z):
    position, x, canvas = torch.tensor(0), LAYER(z), torch.zeros(len(z), 6, dtype=D)
    for factor in (1, 2, 3):  # as a cache of keys counts its places
        canvas[:, position : position + 2] = x[:, position : position + 2].sin() * factor
        position += 2
    return canvas


def narrowed_by_a_counter(z):
    position, x, parts = torch.tensor(0), LAYER(z), []
    for factor in (1, 2, 3):
        parts.append(x.narrow(1, position, 2).sin() * factor)
        position += 2
    return torch.cat(parts, 1)


def scaled_by_a_schedule(z):
    rate, x = torch.tensor(2.0, dtype=D), LAYER(z)
    y = torch.add(x, x.sin(), alpha=rate) + torch.addmm(x, z, LAYER.weight.T, beta=rate)
    rate.fill_(5)
    return y


CHANGING = [
    padded, resized, split, sliced_by_a_counter, narrowed_by_a_counter, scaled_by_a_schedule,
]  # fmt: skip


@pytest.mark.parametrize("fn", CHANGING, ids=lambda fn: fn.__name__)
def test_lists_and_counters_may_change_after_a_call(fn):
    assert_right(fn, draw_codes())


def test_a_scatter_that_multiplies_is_refused():
    places = torch.tensor([[0, 2]] * 3)
    fn = lambda z: LAYER(z).scatter(1, places, 2.0, reduce="multiply")
    with pytest.raises(DerivativeError, match="scatter"):
        pydisent.linearize(fn, draw_codes())


# -- hooks on gradients ----------------------------------------------------------------------------


def hooked(z):
    x = LAYER(z)
    x.register_hook(lambda gradient: gradient * 0.1)
    y = Square.apply(x)
    y.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))
    return y.sin()


def test_a_hook_on_gradients_is_no_part_of_the_function():
    z = draw_codes()
    with pytest.warns(UserWarning, match="hooked registers hooks on gradients"):
        pydisent.linearize(hooked, z)
    assert_right(hooked, z, lambda z: LAYER(z).square().sin())
    plain = pydisent.second_directional_derivative(lambda z: LAYER(z).square().sin(), z, z[None])
    found = pydisent.second_directional_derivative(hooked, z, z[None])
    torch.testing.assert_close(found, plain)


@pytest.mark.parametrize("method", METHODS)
def test_a_hook_changes_the_gradient_of_the_penalty(method):
    def fn(z, factor):
        x = LAYER(z)
        x.register_hook(lambda gradient: gradient * factor)
        return Square.apply(x)

    def gradient(factor):
        value = exact_penalty(lambda z: fn(z, factor), draw_codes(), method)
        return torch.autograd.grad(value, LAYER.bias)[0]

    assert gradient(1.0).norm() > 0
    torch.testing.assert_close(gradient(0.25), gradient(1.0) / 4)


def test_hooks_of_modules_hide_nothing(recwarn):
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    for module in net.modules():
        module.register_full_backward_hook(lambda m, inputs, outputs: None)
    net[1].register_full_backward_hook(lambda m, inputs, outputs: (inputs[0] * 7,))
    linear = pydisent.linearize(net, draw_codes())
    assert not linear.program.live
    assert not recwarn
    torch.testing.assert_close(linear.jacobian(), by_differences(net, draw_codes()))


# -- weights that an optimizer has changed ---------------------------------------------------------


@pytest.mark.parametrize("used", [False, True])
def test_a_linearization_is_refused_once_its_weights_have_changed(used):
    layer = nn.Linear(4, 6).double()
    linear = pydisent.linearize(lambda z: layer(z).sin(), draw_codes())
    if used:
        linear.jacobian()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(draw_codes()).sum().backward()
    optimizer.step()
    tangents, cotangents = torch.ones(2, 3, 4, dtype=D), torch.ones(2, 3, 6, dtype=D)
    for product in (
        linear.jacobian,
        linear.gram_matrix,
        lambda: linear.jvp(tangents),
        lambda: linear.vjp(cotangents),
        lambda: linear.gram_product(tangents),
    ):
        with pytest.raises(RuntimeError, match=r"\(6, 4\).*'linear'.*modified by an inplace"):
            product()


# -- codes that the function writes into, and what surrounds the call ------------------------------


def test_codes_that_the_function_writes_into():
    def fn(z):
        z.mul_(2).sin_()
        return torch.cat([NET(z), Square.apply(z)], 1)

    assert_right(fn, draw_codes(), lambda z: fn(z.clone()))


def test_codes_handed_through_have_a_gradient_of_zero():
    for method in METHODS:
        z = draw_codes().requires_grad_()
        exact_penalty(lambda z: z, z, method).backward()
        assert z.grad is None or not z.grad.any()


def test_forward_mode_around_a_penalty_is_refused_and_not_dropped():
    with torch.autograd.forward_ad.dual_level():
        z = torch.autograd.forward_ad.make_dual(draw_codes(), torch.ones(3, 4, dtype=D))
        for call in (
            lambda: exact_penalty(NET, z),
            lambda: exact_penalty(NET, z, "autograd"),
            lambda: pydisent.hessian_penalty(NET, z),
            lambda: pydisent.linearize(NET, z),
        ):
            with pytest.raises(RuntimeError, match="forward-mode AD"):
                call()


def test_threads_leave_the_compilers_stance_as_it_was():
    begun, ended = threading.Event(), threading.Event()

    def first(z):
        begun.wait(10)
        return NET(z)

    def second(z):
        begun.set()
        ended.wait(10)
        return NET(z)

    def stance():
        return torch._dynamo.eval_frame._stance.stance

    before = stance()
    one = threading.Thread(target=pydisent.linearize, args=(first, draw_codes()))
    other = threading.Thread(target=pydisent.linearize, args=(second, draw_codes()))
    one.start()
    other.start()
    one.join()
    assert stance() == "force_eager"
    ended.set()
    other.join()
    assert stance() == before


# -- precision inside the function -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inside_does_not_look_like_mixed_samples(dtype):
    half = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 5)).to(dtype)
    value = exact_penalty(lambda z: half(z.to(dtype)).float(), draw_codes(dtype=torch.float32))
    for method in METHODS:
        other = exact_penalty(
            lambda z: half(z.to(dtype)).float(), draw_codes(dtype=torch.float32), method
        )
        torch.testing.assert_close(other, value, atol=0.05, rtol=0)


# -- what is empty, or the same for all ------------------------------------------------------------


def test_an_empty_output_beside_others():
    fn = lambda z: torch.cat([NET(z), z[:, :0].roll(1, 1)], 1)
    assert_right(fn, draw_codes())
    for method in METHODS:
        both = exact_penalty(lambda z: (NET(z), z[:, :0].roll(1, 1)), draw_codes(), method)
        torch.testing.assert_close(both, exact_penalty(NET, draw_codes(), method))
    with pytest.raises(ValueError, match=r"at least one number.*\(3, 0\)"):
        pydisent.linearize(lambda z: z[:, :0], draw_codes())


def test_distributions_with_constant_parameters():
    """Of ``broadcast_tensors`` one result may be a constant, and ``new`` makes one."""

    def fn(z):
        scale = F.softplus(z)
        torch.manual_seed(0)
        return torch.cat(
            [
                torch.distributions.HalfNormal(scale).rsample(),
                torch.distributions.Laplace(0.0, scale).rsample(),
                torch.distributions.Exponential(scale).rsample(),
                torch.distributions.Poisson(scale).log_prob(torch.ones(4, dtype=D)),
            ],
            1,
        )

    assert_right(fn, draw_codes())


def test_a_guard_that_saw_zeros_alone_has_seen_nothing():
    """What vmap makes is checked at tangents that reach the operation."""
    from pydisent.jacobian.rules._base import over_tangents

    wrong = []

    def function(t):  # wrong under vmap, as some of its rules are, and right alone
        inside = torch._C._functorch.peek_interpreter_stack() is not None
        wrong.append(inside)
        return 2 * t if inside else 3 * t

    tangents = torch.zeros(5, 2)
    over_tangents(function, [tangents], ("a kind of its own",))
    tangents[2] = 1
    assert torch.equal(over_tangents(function, [tangents], ("a kind of its own",)), 3 * tangents)
    assert wrong.count(True)
