"""Custom functions whose backward reads what their forward computed.

Their Jacobian is right, and its derivatives are not: autograd holds the value constant.
"""

import pytest
import torch
from _functions import METHODS, assert_right, by_differences, draw_codes, exact_penalty
from torch import nn

import pydisent
from pydisent import DerivativeError


class Silu(torch.autograd.Function):
    """x σ(x), in ways that differ in what is kept of σ(x)."""

    @staticmethod
    def forward(ctx, x, way):
        if way == "under its own grad mode":
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                (slope,) = torch.autograd.grad((leaf * leaf.sigmoid()).sum(), leaf)
            ctx.save_for_backward(x, slope)
            return x * x.sigmoid()
        if way == "written":
            gate = torch.empty_like(x)
            gate[:] = torch.sigmoid(x)
        elif way == "out":
            gate = torch.empty_like(x)
            torch.sigmoid(x, out=gate)
        else:
            gate = x.sigmoid()
        if way == "again":
            ctx.save_for_backward(x)
        elif way == "attribute":
            ctx.gate = gate
            ctx.save_for_backward(x)
        elif way == "cast":
            ctx.save_for_backward(x, gate.double().mul(2))
        else:
            ctx.save_for_backward(x, gate)
        ctx.way = way
        return x * gate

    @staticmethod
    def backward(ctx, cotangent):
        x, *more = ctx.saved_tensors
        way = getattr(ctx, "way", None)
        if way is None:
            return cotangent * more[0], None
        gate = x.sigmoid() if way == "again" else ctx.gate if way == "attribute" else more[0]
        gate = gate / 2 if way == "cast" else gate
        return cotangent * gate * (1 + x * (1 - gate)), None


@torch.library.custom_op("tests::silu", mutates_args=())
def silu(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    gate = x.sigmoid()
    return x * gate, gate


def _backward(ctx, cotangent, _):
    x, gate = ctx.saved_tensors
    return cotangent * gate * (1 + x * (1 - gate))


silu.register_autograd(
    _backward,
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0], output[1]),
)
torch.manual_seed(0)
LAYER = nn.Linear(4, 6).double()
WAYS = ["saved", "written", "out", "cast", "attribute", "under its own grad mode"]
LOST = {way: lambda z, way=way: Silu.apply(LAYER(z), way) for way in WAYS}
LOST["an operator's second output"] = lambda z: silu(LAYER(z))[0]


@pytest.mark.parametrize("name", LOST)
def test_the_jacobian_is_right_and_penalties_are_refused(name):
    fn, z = LOST[name], draw_codes()
    linear = pydisent.linearize(fn, z)
    torch.testing.assert_close(linear.jacobian(), by_differences(fn, z), atol=1e-9, rtol=1e-9)
    for method in METHODS:
        with pytest.raises(DerivativeError, match=r"(?i)silu.*reads a value of shape"):
            exact_penalty(fn, z, method)
    with torch.no_grad():
        exact_penalty(fn, z, "gram")  # the value needs no derivative of J
    for second in (pydisent.hessian_penalty, pydisent.second_directional_derivative):
        given = {"directions": z[None]} if "second" in second.__name__ else {}
        with pytest.raises(DerivativeError, match=r"(?i)silu"):
            second(fn, z, **given)


class Thresholded(torch.autograd.Function):
    """max(x, 0) times a constant, with all that may rightly be kept."""

    @staticmethod
    def forward(ctx, x, constant):
        mask, noise = (x > 0).to(x), torch.rand_like(x).mul(0)
        ctx.save_for_backward(mask, noise, constant, x.sign())
        return x * mask * constant

    @staticmethod
    def backward(ctx, cotangent):
        mask, noise, constant, _ = ctx.saved_tensors
        return cotangent * mask * constant + noise, None


def test_inputs_outputs_and_what_has_no_slope_may_be_saved():
    z = draw_codes()

    def fn(z):
        x = LAYER(z)
        with torch.no_grad():
            stopped = LAYER.weight.sum(1).sin()  # by the caller's choice
        return Thresholded.apply(Silu.apply(x, "again"), stopped)

    assert_right(fn, z)
    for method in METHODS:
        exact_penalty(fn, z, method).backward()
    pydisent.hessian_penalty(fn, z).backward()
