"""Rules for elementwise functions: one derivative, shared by the K tangents."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

from pydisent.jacobian._call import Call, NoRuleError
from pydisent.jacobian._diagonal import like_tangent
from pydisent.jacobian._step import Bend, Step
from pydisent.jacobian.rules._base import (
    RULES,
    align,
    dense,
    multiplication,
    rule,
)

# f'(x) from x and f(x), as in PyTorch; for other functions forward mode finds it, in more calls.
_SLOPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "exp": lambda x, y: y,
    "log": lambda x, y: x.reciprocal(),
    "sqrt": lambda x, y: 0.5 / y,
    "rsqrt": lambda x, y: -0.5 * y * y * y,
    "reciprocal": lambda x, y: -y * y,
    "square": lambda x, y: 2 * x,
    "abs": lambda x, y: x.sgn(),
    "sin": lambda x, y: x.cos(),
    "cos": lambda x, y: -x.sin(),
}


def _slope_of_power(call: Call) -> Tensor | None:
    source, exponent = call.args[0], call.argument(1, "exponent")
    if type(exponent) not in (int, float):
        return None
    return exponent * source.pow(exponent - 1) if exponent else torch.zeros_like(source)


def _slope_of_gelu(call: Call) -> Tensor:
    source, how = call.args[0], call.argument(1, "approximate", "none")
    return torch.ops.aten.gelu_backward(torch.ones_like(source), source, approximate=how)


def _slope_of_clamp(call: Call) -> Tensor | None:
    source, least, most = call.args[0], call.argument(1, "min"), call.argument(2, "max")
    if not all(type(bound) in (int, float) for bound in (least, most)):
        return None
    return ((source >= least) & (source <= most)).to(source.dtype)


_SLOPES_OF_CALLS: dict[str, Callable[[Call], Tensor | None]] = {
    **dict.fromkeys(("pow", "__pow__"), _slope_of_power),
    "gelu": _slope_of_gelu,
    **dict.fromkeys(("clamp", "clip"), _slope_of_clamp),
}


def _slope(call: Call) -> Tensor | None:
    """f'(x), or None if forward mode lacks it."""
    source, rest, named = call.args[0], call.args[1:], call.kwargs
    found = None
    if call.name in _SLOPES and not rest and not named:
        found = _SLOPES[call.name](source, call.out)
    elif call.name in _SLOPES_OF_CALLS:
        found = _SLOPES_OF_CALLS[call.name](call)
    if found is not None:
        return found
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(dense(source), torch.ones_like(source))
        return forward_ad.unpack_dual(call.func(dual, *rest, **named)).tangent


def _elementwise(call: Call) -> Step:
    """f(x), other arguments being numbers: multiply by f'(x), computed once for all tangents."""
    source, rest, named, function = call.args[0], call.args[1:], call.kwargs, call.func
    if any(isinstance(leaf, Tensor) for leaf in (*rest, *named.values())):
        raise NoRuleError
    if not call.is_traced(source) or call.out.shape != source.shape:
        raise NoRuleError
    if source.is_complex() or call.out.is_complex():
        raise NoRuleError  # only a holomorphic function multiplies by a derivative
    derivative = _slope(call)
    if derivative is None:
        raise NoRuleError
    step = multiplication(call, source, derivative)

    def bent(read, a, b):
        curvature = _second_derivative(lambda x: function(x, *rest, **named), read[0])
        return like_tangent(curvature.to(a[0].dtype), a[0]) * a[0] * b[0]

    step.bend = Bend([source], bent)
    return step


def _second_derivative(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The second derivative of an elementwise function, with a graph in grad mode."""
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        # A view, as the caller may have hooked the gradient of the value itself.
        source = x.view_as(x) if keep and x.requires_grad else x.detach().requires_grad_()
        value = function(source)
        (slope,) = torch.autograd.grad(value, source, torch.ones_like(value), create_graph=True)
        if not slope.requires_grad:
            return torch.zeros_like(x)
        (curvature,) = torch.autograd.grad(
            slope, source, torch.ones_like(slope), create_graph=keep, materialize_grads=True
        )
    return curvature


for _function in (
    "exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal square pow __pow__ __rpow__ "
    "float_power abs absolute sin cos tan asin acos atan sinh cosh asinh acosh atanh arcsin "
    "arccos arctan arcsinh arccosh arctanh erf erfc erfinv expit logit lgamma digamma i0 "
    "i1 i0e i1e xlogy clamp clip clamp_min clamp_max nan_to_num deg2rad rad2deg gelu elu selu "
    "celu mish hardtanh relu6 hardswish logsigmoid log_sigmoid softsign tanhshrink softshrink "
    "hardshrink threshold frac fmod remainder __mod__"
).split():
    RULES[_function] = _elementwise


@rule("pow", "__pow__")
def _power(call: Call) -> Step:
    """For a constant tensor as exponent; PyTorch's formula also takes the logarithm of the base."""
    source, exponent = call.args[0], call.argument(1, "exponent")
    if not isinstance(exponent, Tensor):
        return _elementwise(call)
    if not call.is_traced(source) or exponent.requires_grad or call.out.is_complex():
        raise NoRuleError
    dim, shape = source.dim(), call.out.shape
    # Where a factor is 0 the power could be infinite.
    slope = exponent * source.pow((exponent - 1).masked_fill(exponent == 0, 0))
    step = multiplication(call, source, slope)

    def bent(read, a, b):
        base, exponent = read
        factor = exponent * (exponent - 1)
        curvature = factor * base.pow((exponent - 2).masked_fill(factor == 0, 0))
        first, second = (align(t[0], dim, len(shape)) for t in (a, b))
        return like_tangent(curvature.to(first.dtype), first) * first * second

    step.bend = Bend([source, exponent], bent)
    return step


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


@rule("copysign")
def _copysign(call: Call) -> Step:
    """±x, with a slope of zero where x is zero, as in PyTorch; the other's sign has no tangent."""
    source = call.args[0]
    if not call.is_traced(source):
        raise NoRuleError
    slope = torch.where(source == 0, 0.0, call.out.sign() * source.sign())
    return multiplication(call, source, slope.detach())
