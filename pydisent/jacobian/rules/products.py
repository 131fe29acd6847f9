"""Rules for operations that are linear in each argument on its own: products and layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from pydisent.jacobian._trace import Call, NoRuleError, Step, differentiable
from pydisent.jacobian._upsampling import double, is_doubling
from pydisent.jacobian.rules._base import (
    RULES,
    align,
    flattened,
    on_image_rows,
    on_rows,
    over_tangents,
    rule,
)
from pydisent.jacobian.rules.linear import operands


def multilinear(call: Call) -> Step:
    """Linear in each argument on its own: the sum over arguments, one replaced at a time."""
    leaves, spec, traced = flattened(call)
    places = [i for i, leaf in enumerate(leaves) if call.is_traced(leaf)]
    constants = [i for i, leaf in enumerate(leaves) if differentiable(leaf)]
    if len(places) == 1:
        constants.remove(places[0])
    func = call.func

    def push(captured, tangents):
        base = list(leaves)
        for place, value in zip(constants, captured):
            base[place] = value

        def one(place, tangent):
            filled = list(base)
            filled[place] = tangent
            args, kwargs = pytree.tree_unflatten(filled, spec)
            return func(*args, **kwargs)

        terms = [
            over_tangents(lambda t, place=place: one(place, t), [tangent])
            for place, tangent in zip(places, tangents)
        ]
        return sum(terms[1:], terms[0])

    return Step(traced, [leaves[i] for i in constants], push)


for _product in (
    "mm bmm mv dot vdot inner outer ger kron tensordot einsum chain_matmul cross vecdot "
    "linalg_multi_dot"
).split():
    RULES[_product] = multilinear


@rule("mul", "__mul__", "__rmul__", "multiply")
def _multiply(call: Call) -> Step:
    left, right = operands(call)
    shape = call.out.shape
    values = [left, right]
    traced = [value for value in values if call.is_traced(value)]
    dims = [value.dim() for value in traced]
    if len(traced) == 1:
        factor = right if traced[0] is left else left
        if isinstance(factor, Tensor) and differentiable(factor):
            return Step(
                traced,
                [factor],
                lambda c, t: align(t[0], dims[0], len(shape)) * c[0].to(t[0].dtype),
            )
        return Step(traced, [], lambda _, t: align(t[0], dims[0], len(shape)) * factor)

    def push(captured, tangents):
        first, second = (align(t, d, len(shape)) for t, d in zip(tangents, dims))
        return first * captured[1] + second * captured[0]

    return Step(traced, traced, push)


@rule("div", "__truediv__", "__rtruediv__", "__div__", "__rdiv__", "divide", "true_divide")
def _divide(call: Call) -> Step:
    if call.kwargs.get("rounding_mode") is not None:
        raise NoRuleError
    left, right = operands(call)
    dim = call.out.dim()
    if not call.is_traced(right):
        inside = left.dim()
        if differentiable(right):
            return Step([left], [right], lambda c, t: align(t[0], inside, dim) / c[0])
        return Step([left], [], lambda _, t: align(t[0], inside, dim) / right)
    inputs = [value for value in (left, right) if call.is_traced(value)]
    dims = [value.dim() for value in inputs]

    def push(captured, tangents):
        divisor, quotient = captured
        parts = [align(t, d, dim) for t, d in zip(tangents, dims)]
        change = -quotient * parts[-1] / divisor
        return change if len(parts) == 1 else parts[0] / divisor + change

    return Step(inputs, [right, call.out], push)


@rule("matmul", "__matmul__", "__rmatmul__")
def _matmul(call: Call) -> Step:
    left, right = operands(call)
    if call.is_traced(left) and not call.is_traced(right) and left.dim() >= 2 and right.dim() == 2:
        return Step([left], [right], lambda c, t: t[0] @ c[0])
    call.args, call.kwargs, call.func = (left, right), {}, torch.matmul
    return multilinear(call)


@rule("linear")
def _linear_map(call: Call) -> Step:
    source, weight = call.argument(0, "input"), call.argument(1, "weight")
    bias = call.argument(2, "bias")
    if call.is_traced(bias):
        raise NoRuleError
    if call.is_traced(weight):
        call.args, call.kwargs = (source, weight), {}
        return multilinear(call)
    return Step([source], [weight], lambda c, t: F.linear(t[0], c[0]))


@rule("bilinear")
def _bilinear(call: Call) -> Step:
    if call.is_traced(call.argument(3, "bias")):
        raise NoRuleError
    call.args, call.kwargs = (
        tuple(call.argument(i, n) for i, n in enumerate(("input1", "input2", "weight"))),
        {},
    )
    return multilinear(call)


def _convolution(call: Call) -> Step:
    source, weight = call.argument(0, "input"), call.argument(1, "weight")
    bias = call.argument(2, "bias")
    rest, named = (
        call.args[3:],
        {k: v for k, v in call.kwargs.items() if k not in ("input", "weight", "bias")},
    )
    function = call.func
    if call.is_traced(bias):
        raise NoRuleError
    if call.is_traced(weight):
        call.args, call.kwargs = (source, weight, None, *rest), named
        return multilinear(call)
    if source.dim() == weight.dim() - 1:  # no batch: the K tangents are one
        return Step([source], [weight], lambda c, t: function(t[0], c[0], None, *rest, **named))
    tiny = call.name == "conv_transpose2d" and is_doubling(source, weight, *rest, **named)

    def push(captured, tangents):
        weight, tangent = captured[0], tangents[0]
        if tiny and tangent.dtype == torch.bfloat16:
            return on_image_rows(lambda rows: double(rows, weight), tangent)
        on = on_image_rows if source.dim() == 4 else on_rows
        return on(lambda rows: function(rows, weight, None, *rest, **named), tangent)

    return Step([source], [weight], push)


for _conv in (
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
):
    RULES[_conv] = _convolution
