"""Rules for elementwise sums, differences and selections."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pydisent.jacobian._call import Call, NoRuleError
from pydisent.jacobian._diagonal import like_tangent
from pydisent.jacobian._step import Step
from pydisent.jacobian.rules._base import (
    align,
    elementwise_step,
    rule,
)


def operands(call: Call) -> tuple[Any, Any]:
    """Left and right operand of a binary operation, even of a reflected one."""
    left, right = call.args[0], call.argument(1, "other")
    if call.name in (
        "rsub",
        "__rsub__",
        "__radd__",
        "__rmul__",
        "__rtruediv__",
        "__rdiv__",
        "__rmatmul__",
    ):
        left, right = right, left
    return left, right


def _binary_sum(call: Call, left: Any, right: Any, scales: tuple[float, float]) -> Step:
    pairs = [(v, s) for v, s in zip((left, right), scales) if call.is_traced(v)]
    shape, dims = call.out.shape, [value.dim() for value, _ in pairs]
    factors = [scale for _, scale in pairs]

    def push(_, tangents):
        parts = [
            align(t, d, len(shape)) if f == 1 else align(t, d, len(shape)) * f
            for t, d, f in zip(tangents, dims, factors)
        ]
        total = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        return total.expand(total.shape[0], *shape)

    def scale(_, values):
        return sum(value * factor for value, factor in zip(values, factors))

    step = elementwise_step(call, [value for value, _ in pairs], [], push, scale)
    step.is_identity = step.scale is not None and factors == [1]
    return step


@rule("add", "__add__", "__radd__")
def _add(call: Call) -> Step:
    left, right = operands(call)
    return _binary_sum(call, left, right, (1, call.argument(2, "alpha", 1)))


@rule("sub", "__sub__", "__rsub__", "rsub", "subtract")
def _subtract(call: Call) -> Step:
    left, right = operands(call)
    alpha = call.argument(2, "alpha", 1)
    if call.name == "rsub":  # torch.rsub(input, other) is other - alpha * input
        return _binary_sum(call, left, right, (1, -alpha))
    return _binary_sum(call, left, right, (1, -alpha))


@rule("neg", "negative", "__neg__")
def _negative(call: Call) -> Step:
    return elementwise_step(call, [call.args[0]], [], lambda _, t: -t[0], lambda _, s: -s[0])


@rule("where")
def _where(call: Call) -> Step:
    if len(call.args) != 3 or not all(isinstance(a, (Tensor, int, float)) for a in call.args):
        raise NoRuleError
    condition, chosen, other = call.args
    if isinstance(condition, Tensor) and condition.dtype != torch.bool:
        chosen, condition = condition, chosen  # Tensor.where(self, condition, other)
    if not isinstance(condition, Tensor) or condition.dtype != torch.bool:
        raise NoRuleError
    shape = call.out.shape
    flags = [call.is_traced(value) for value in (chosen, other)]
    traced = [value for value in (chosen, other) if call.is_traced(value)]
    dims = [value.dim() for value in traced]

    def push(captured, tangents):
        queue = iter(align(t, d, len(shape)) for t, d in zip(tangents, dims))
        zero = tangents[0].new_zeros(())
        parts = [next(queue) if flag else zero for flag in flags]
        result = torch.where(like_tangent(captured[0], tangents[0]), parts[0], parts[1])
        return result.expand(tangents[0].shape[0], *shape)

    def scale(captured, values):
        queue = iter(values)
        parts = [_as_tensor(next(queue) if flag else 0.0, captured[0]) for flag in flags]
        return torch.where(captured[0], parts[0], parts[1])

    return elementwise_step(call, traced, [condition], push, scale)


def _as_tensor(value: Tensor | float, like: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.full((), value, dtype=torch.float64, device=like.device)
