"""Rules for elementwise functions: one derivative, shared by the K tangents."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from pydisent.jacobian._call import Call, NoRuleError
from pydisent.jacobian._diagonal import like_tangent
from pydisent.jacobian._step import Step
from pydisent.jacobian.rules._base import (
    RULES,
    dense,
    flattened,
    multiplication,
    rule,
)
from pydisent.ops import activation_tangent, activation_tangent_
from pydisent.reference import tangent as reference

_SMALL = 1 << 13  # elements


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

    return Step(
        [source],
        [source, *tensors.values()],
        push,
        keep=True,
        overwrites=push_with(activation_tangent_),
        scale=scale,
        by_rows=True,
    )


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


def _elementwise(call: Call) -> Step:
    """f(x) with numbers for the rest: multiply by f'(x), computed once for all tangents."""
    leaves, _, traced = flattened(call)
    if len(traced) != 1 or traced[0] is not call.args[0] or call.out.shape != traced[0].shape:
        raise NoRuleError
    if traced[0].is_complex() or call.out.is_complex():
        raise NoRuleError  # only a holomorphic function multiplies by a derivative
    if any(isinstance(leaf, Tensor) and leaf is not traced[0] for leaf in leaves):
        raise NoRuleError
    source, rest, named, function = traced[0], call.args[1:], call.kwargs, call.func
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(dense(source), torch.ones_like(source))
        derivative = forward_ad.unpack_dual(function(dual, *rest, **named)).tangent
    if derivative is None:
        raise NoRuleError
    return multiplication(call, source, derivative)


for _function in (
    "exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal square pow __pow__ __rpow__ "
    "float_power abs absolute sin cos tan asin acos atan sinh cosh asinh acosh atanh arcsin "
    "arccos arctan arcsinh arccosh arctanh sinc erf erfc erfinv expit logit lgamma digamma i0 "
    "i1 i0e i1e xlogy clamp clip clamp_min clamp_max nan_to_num deg2rad rad2deg gelu elu selu "
    "celu mish hardtanh relu6 hardswish logsigmoid log_sigmoid softsign tanhshrink softshrink "
    "hardshrink threshold frac fmod remainder __mod__"
).split():
    RULES[_function] = _elementwise


@rule("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
def _dropout(call: Call) -> Step:
    """Affine in x, with a factor found by drawing the mask again."""
    source, rest, named, function = call.args[0], call.args[1:], call.kwargs, call.func
    values = [torch.ones_like(source), torch.zeros_like(source)]
    with torch.no_grad():
        with call.replayed():
            one = function(values[0], *rest, **named)
        with call.replayed():
            zero = function(values[1], *rest, **named)
    return multiplication(call, source, one - zero)


@rule("rrelu")
def _rrelu(call: Call) -> Step:
    source, out = call.args[0], call.out
    slope = torch.where(source >= 0, torch.ones_like(source), (out / source).detach())
    return multiplication(call, source, slope.detach())
