"""Rules for the activations that the ``tangent`` kernels differentiate."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pydisent.jacobian._call import Call, NoRuleError
from pydisent.jacobian._diagonal import like_tangent
from pydisent.jacobian._step import Bend, Step
from pydisent.jacobian.rules._base import FLAT, RULES, multiplication, rule
from pydisent.ops import activation_tangent, activation_tangent_
from pydisent.reference import tangent as reference

_SMALL = 1 << 13  # elements of tangents for which the kernels cost more calls than they save
_SMALL_VALUE = 1 << 10  # elements of values whose slope is cheaper to keep


def _is_small(value: Tensor) -> bool:
    return value.numel() <= _SMALL_VALUE and value.dtype.itemsize >= 4


def _composed(
    h: Tensor,
    tangents: Tensor,
    kind: str,
    *,
    leak: Tensor | None = None,
    negative_slope: float = 0.01,
    beta: float = 1.0,
    softplus_threshold: float = 20.0,
) -> Tensor:
    """``ops.activation_tangent`` in elementary operations."""
    parameters = leak, None, negative_slope, beta, softplus_threshold
    if h.dtype != tangents.dtype or h.dtype.itemsize < 4:
        return reference.activation_tangent(h, tangents, kind, *parameters, False)
    return tangents * reference.derivative(h, kind, *parameters)


def _activation(call: Call, kind: str, tensors: dict[str, Tensor], **constants: float) -> Step:
    """An activation that the ``tangent`` kernels differentiate."""
    source = call.args[0]
    if source.is_complex() or any(call.is_traced(value) for value in tensors.values()):
        raise NoRuleError
    names = list(tensors)
    options = {"negative_slope": 0.01, "beta": 1.0, "softplus_threshold": 20.0, **constants}
    if kind in reference.PIECEWISE_LINEAR and _is_small(source):
        if kind == "relu":
            slope = call.out.detach().sign()
        else:
            slope = reference.derivative(source, kind, tensors.get("leak"), None, *options.values())
        step = multiplication(call, source, slope)
        step.bend = FLAT
        return step

    def push_with(function):
        def push(captured, tangents):
            extra = dict(zip(names, captured[1:]))
            return function(
                like_tangent(captured[0], tangents[0]), tangents[0], kind, **extra, **constants
            )

        return push

    kernel = push_with(activation_tangent)
    composed = push_with(_composed)

    def push(captured, tangents):
        # For small tensors the kernel's backward costs more calls than it saves.
        small = torch.is_grad_enabled() and tangents[0].numel() < _SMALL
        return (composed if small else kernel)(captured, tangents)

    def scale(captured, factors):
        h = captured[0]
        factor = factors[0] if isinstance(factors[0], Tensor) else h.new_full((), factors[0])
        return push(captured, [factor.expand(h.shape)[None]])[0]

    def bent(read, a, b):
        h = read[0].to(torch.promote_types(read[0].dtype, torch.float32))
        beta, threshold = options["beta"], options["softplus_threshold"]
        curvature = reference.second_derivative(h, kind, beta, threshold).to(a[0].dtype)
        return like_tangent(curvature, a[0]) * a[0] * b[0]

    def together(read, both, count):
        h = like_tangent(read[0], both)
        if (torch.is_grad_enabled() and both.numel() < _SMALL) or h.dtype != both.dtype:
            return None  # as above
        return _Together.apply(h, both, count, kind, options)

    return Step(
        [source],
        [source, *tensors.values()],
        push,
        keep=True,
        overwrites=push_with(activation_tangent_),
        scale=scale,
        by_rows=True,
        bend=FLAT if kind in reference.PIECEWISE_LINEAR else Bend([source], bent, together),
    )


class _Together(torch.autograd.Function):
    """First and second derivatives through an activation, in one tensor: f' t₂ + f'' t₁²."""

    @staticmethod
    def forward(ctx, h, both, count, kind, options):
        bend = _higher_derivative(h, kind, options, 2)
        out = activation_tangent(h, both, kind, **options)
        first = both[:count]
        if len(both) == count:  # so far straight
            out = torch.cat([out, out])
            torch.mul(bend * first, first, out=out[count:])
        else:
            out[count:].addcmul_(bend * first, first)
        ctx.save_for_backward(h, both, bend)
        ctx.options = count, kind, options
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        h, both, bend = ctx.saved_tensors
        count, kind, options = ctx.options
        by_h, by_both, _ = torch.ops.pydisent.activation_tangent_backward(
            cotangent[: len(both)], h, both, kind, None, None, *options.values(), False
        )
        first = both[:count]
        turned = first * cotangent[count:]
        by_both[:count].addcmul_(turned, bend, value=2)
        if ctx.needs_input_grad[0]:
            by_h.addcmul_(turned.mul_(first).sum(0), _higher_derivative(h, kind, options, 3))
        return by_h, by_both, None, None, None


def _higher_derivative(h: Tensor, kind: str, options: dict[str, float], order: int) -> Tensor:
    """The second or third derivative of an activation, in few passes."""
    factor = {"tanh": 2.0, "softplus": options["beta"]}.get(kind, 1.0)
    u = h if factor == 1 else h * factor
    s, complement = torch.sigmoid(u), torch.sigmoid(-u)
    odd = complement - s  # 1 - 2 s; the derivative of s is s (1 - s)
    slope = s.mul_(complement)
    if kind == "softplus":
        found = slope.mul_(factor) if order == 2 else slope.mul_(odd).mul_(factor * factor)
        return found.masked_fill_(u > options["softplus_threshold"], 0)
    if order == 2:
        return slope.mul_(odd.mul_(h).add_(2) if kind == "silu" else odd.mul_(factor**3))
    inner = (odd * odd).sub_(slope, alpha=2)  # the third derivative of s, over the first
    if kind == "silu":
        return slope.mul_(inner.mul_(h).add_(odd, alpha=3))
    return slope.mul_(inner).mul_(factor**4)


@rule("relu", "tanh", "sigmoid", "silu")
def _plain_activation(call: Call) -> Step:
    return _activation(call, call.name, {})


RULES["prelu"] = lambda call: _activation(call, "prelu", {"leak": call.argument(1, "weight")})
RULES["leaky_relu"] = lambda call: _activation(
    call, "leaky_relu", {}, negative_slope=call.argument(1, "negative_slope", 0.01)
)
RULES["softplus"] = lambda call: _activation(
    call,
    "softplus",
    {},
    beta=call.argument(1, "beta", 1.0),
    softplus_threshold=call.argument(2, "threshold", 20.0),
)
