"""Rules for operations that are linear in each argument separately: products and layers."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pydisent.jacobian._call import Call, NoRuleError, differentiable
from pydisent.jacobian._diagonal import like_tangent
from pydisent.jacobian._step import Bend, Step
from pydisent.jacobian.rules._base import (
    RULES,
    align,
    elementwise_step,
    flattened,
    multiplication,
    over_tangents,
    rule,
    vmap_kind,
)
from pydisent.jacobian.rules.sums import operands


def multilinear(call: Call) -> Step:
    """Linear in each argument separately: the sum over arguments, one replaced at a time."""
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
            args, kwargs = spec.unflatten(filled)
            return func(*args, **kwargs)

        terms = [
            over_tangents(
                lambda t, place=place: one(place, t),
                [tangent],
                vmap_kind(func, leaves, spec, place, len(tangent), tangent.dtype),
            )
            for place, tangent in zip(places, tangents)
        ]
        return sum(terms[1:], terms[0])

    return Step(traced, [leaves[i] for i in constants], push)


for _product in ("vdot inner kron tensordot chain_matmul cross vecdot linalg_multi_dot").split():
    RULES[_product] = multilinear


@rule("einsum")
def _einsum(call: Call) -> Step:
    """K becomes an additional index of the moving operand and of the result."""
    equation, *operands = call.args
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = list(operands[0])
    plain = isinstance(equation, str) and "->" in equation and "." not in equation
    if not plain or not all(map(differentiable, operands)):
        return multilinear(call)
    letter = next((c for c in string.ascii_letters if c not in equation), None)
    if letter is None:
        return multilinear(call)
    return _contraction(call, equation.replace(" ", ""), operands, letter)


def _contraction(call: Call, equation: str, operands: Sequence[Tensor], letter: str) -> Step:
    inputs, output = equation.split("->")
    places = [i for i, operand in enumerate(operands) if call.is_traced(operand)]
    wanted = range(len(operands)) if len(places) > 1 else {*range(len(operands))} - {places[0]}
    constants = [i for i in wanted if differentiable(operands[i])]

    def push(captured, tangents):
        values = dict(zip(constants, captured))
        terms = []
        for place, tangent in zip(places, tangents):
            subscripts = inputs.split(",")
            subscripts[place] = letter + subscripts[place]
            parts = [tangent if i == place else values[i] for i in range(len(subscripts))]
            terms.append(torch.einsum(f"{','.join(subscripts)}->{letter}{output}", *parts))
        return sum(terms[1:], terms[0])

    return Step([operands[i] for i in places], [operands[i] for i in constants], push)


# Products with a vector, as functions of one operand's tangents and the other operand.
_OF_VECTORS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], ...]] = {
    "mv": (lambda t, x: t @ x, lambda t, matrix: t @ matrix.mT),
    "dot": (lambda t, y: t @ y, lambda t, x: t @ x),
    **dict.fromkeys(
        ("outer", "ger"),
        (lambda t, y: t.unsqueeze(-1) * y, lambda t, x: x.unsqueeze(-1) * t.unsqueeze(-2)),
    ),
}


@rule(*_OF_VECTORS)
def _product_of_vectors(call: Call) -> Step:
    if len(call.args) != 2 or call.kwargs:
        return multilinear(call)
    places = [place for place in (0, 1) if call.is_traced(call.args[place])]

    def push(others, tangents):
        products = [_OF_VECTORS[call.name][place] for place in places]
        terms = [product(t, other) for product, t, other in zip(products, tangents, others)]
        return sum(terms[1:], terms[0])

    others = [call.args[1 - place] for place in places]
    return Step([call.args[place] for place in places], others, push)


@rule("mul", "__mul__", "__rmul__", "multiply")
def _multiply(call: Call) -> Step:
    left, right = operands(call)
    shape = call.out.shape
    values = [left, right]
    traced = [value for value in values if call.is_traced(value)]
    dims = [value.dim() for value in traced]
    if len(traced) == 1:
        factor = right if traced[0] is left else left
        if isinstance(factor, Tensor):
            return multiplication(call, traced[0], factor)
        push = lambda _, t: align(t[0], dims[0], len(shape)) * factor  # noqa: E731
        return elementwise_step(call, traced, [], push, lambda _, s: s[0] * factor)

    def push_both(captured, tangents):
        first, second = (align(t, d, len(shape)) for t, d in zip(tangents, dims))
        return first * like_tangent(captured[1], first) + second * like_tangent(captured[0], second)

    def scale(captured, factors):
        return captured[1] * factors[0] + captured[0] * factors[1]

    def bent(_, a, b):
        (u, v), (w, x) = ([align(t, d, len(shape)) for t, d in zip(s, dims)] for s in (a, b))
        return u * x + w * v

    step = elementwise_step(call, traced, traced, push_both, scale)
    step.bend = Bend((), bent)
    return step


@rule("div", "__truediv__", "__rtruediv__", "__div__", "__rdiv__", "divide", "true_divide")
def _divide(call: Call) -> Step:
    if call.kwargs.get("rounding_mode") is not None:
        raise NoRuleError
    left, right = operands(call)
    dim = call.out.dim()
    if not call.is_traced(right):
        inside = left.dim()
        if isinstance(right, Tensor):
            right = right if differentiable(right) else right.to(call.out.dtype)
            push = lambda c, t: align(t[0], inside, dim) / like_tangent(c[0], t[0])  # noqa: E731
            return elementwise_step(call, [left], [right], push, lambda c, s: s[0] / c[0])
        push = lambda _, t: align(t[0], inside, dim) / right  # noqa: E731
        return elementwise_step(call, [left], [], push, lambda _, s: s[0] / right)
    inputs = [value for value in (left, right) if call.is_traced(value)]
    dims = [value.dim() for value in inputs]

    def push_both(captured, tangents):
        parts = [align(t, d, dim) for t, d in zip(tangents, dims)]
        divisor, quotient = (like_tangent(value, parts[-1]) for value in captured)
        change = -quotient * parts[-1] / divisor
        return change if len(parts) == 1 else parts[0] / divisor + change

    def scale(captured, factors):
        divisor, quotient = captured
        change = -quotient * factors[-1] / divisor
        return change if len(factors) == 1 else factors[0] / divisor + change

    def bent(read, a, b):
        divisor, quotient = read
        (*u, v), (*w, x) = ([align(t, d, dim) for t, d in zip(s, dims)] for s in (a, b))
        change = 2 * quotient * v * x
        if u:
            change = change - u[0] * x - w[0] * v
        return change / divisor / divisor

    step = elementwise_step(call, inputs, [right, call.out], push_both, scale)
    step.bend = Bend([right, call.out], bent)
    return step


@rule("matmul", "__matmul__", "__rmatmul__")
def _matmul(call: Call) -> Step:
    left, right = operands(call)
    known = call.is_traced(left) and not call.is_traced(right)
    if known and left.dim() >= 2 and right.dim() in (1, 2):
        return Step([left], [right], lambda c, t: t[0] @ c[0], by_rows=True)
    call.args, call.kwargs, call.func = (left, right), {}, torch.matmul
    return _matrix_product(call)


@rule("bmm", "mm")
def _matrix_product(call: Call) -> Step:
    """A product of matrices or batches of them: K is one more batch dimension."""
    values = left, right = call.args[0], call.argument(1, "mat2")
    dim = max(left.dim(), right.dim())
    if min(left.dim(), right.dim()) < 2 or set(call.kwargs) - {"mat2"}:
        return multilinear(call)
    if any(value.layout != torch.strided for value in values):
        return multilinear(call)
    places = [place for place in (0, 1) if call.is_traced(values[place])]
    dims = [values[place].dim() for place in places]
    captured = [values[1 - place] for place in places]

    def push(captured, tangents):
        terms = [
            align(tangent, inside, dim) @ other
            if place == 0
            else other @ align(tangent, inside, dim)
            for place, inside, other, tangent in zip(places, dims, captured, tangents)
        ]
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]

    def bent(_, a, b):
        (u, v), (w, x) = ([align(t, d, dim) for t, d in zip(s, dims)] for s in (a, b))
        return u @ x + w @ v

    by_rows = dim > 2 and left.dim() == right.dim()
    bend = Bend[Tensor]((), bent) if len(places) == 2 else None
    return Step([values[place] for place in places], captured, push, by_rows=by_rows, bend=bend)


@rule("addmm", "baddbmm")
def _sum_with_a_product(call: Call) -> Step:
    """``beta`` times the first argument plus ``alpha`` times the product of the others."""
    added, left, right = values = call.args[:3]
    beta, alpha, shape = call.kwargs.get("beta", 1), call.kwargs.get("alpha", 1), call.out.shape
    if len(call.args) > 3 or any(value.layout != torch.strided for value in values):
        raise NoRuleError
    flags = [call.is_traced(value) for value in values]
    captured = ([right] if flags[1] else []) + ([left] if flags[2] else [])

    def push(captured, tangents):
        queue, others, total = iter(tangents), iter(captured), None
        if flags[0]:
            total = beta * align(next(queue), added.dim(), len(shape))
            total = total.expand(total.shape[0], *shape)
        for flag, product in zip(flags[1:], (lambda t, o: t @ o, lambda t, o: o @ t)):
            if flag:
                term = alpha * product(next(queue), next(others))
                total = term if total is None else total + term
        return total

    traced = [value for value, flag in zip(values, flags) if flag]
    return Step(traced, captured, push, by_rows=flags == [False, True, False])


@rule("complex")
def _complex(call: Call) -> Step:
    values = call.args[0], call.argument(1, "imag")
    flags, shape = [call.is_traced(value) for value in values], call.out.shape
    dims = [value.dim() for value in values]

    def push(_, tangents):
        queue = iter(tangents)
        parts = [
            align(next(queue), dim, len(shape)) if flag else tangents[0].new_zeros(())
            for flag, dim in zip(flags, dims)
        ]
        return torch.complex(*torch.broadcast_tensors(*parts)).expand(len(tangents[0]), *shape)

    traced = [value for value, flag in zip(values, flags) if flag]
    return Step(traced, [], push, by_rows=all(dim == len(shape) for dim in dims))


@rule("linear")
def _linear_map(call: Call) -> Step:
    source, weight = call.argument(0, "input"), call.argument(1, "weight")
    bias = call.argument(2, "bias")
    if call.is_traced(bias):
        raise NoRuleError
    if call.is_traced(weight):
        call.args, call.kwargs = (source, weight), {}
        return multilinear(call)
    by_rows = source.dim() > 1
    return Step(
        [source], [weight], lambda c, t: linear_map(t[0], c[0]), by_rows=by_rows, pull=_pull
    )


def _pull(captured, tangents, cotangent, needed):
    """The gradients of ``linear`` with respect to its weight and its input."""
    by_input = cotangent @ captured[0] if needed[1] else None
    by_weight = cotangent.flatten(0, -2).mT @ tangents[0].flatten(0, -2) if needed[0] else None
    return by_weight, by_input


def linear_map(tangent: Tensor, weight: Tensor) -> Tensor:
    """``F.linear``, without its copies of the weight if tangents are expanded over the batch."""
    if tangent.dim() == 3 and tangent.stride(1) == 0:
        return F.linear(tangent[:, 0], weight)[:, None].expand(-1, tangent.shape[1], -1)
    return F.linear(tangent, weight)


@rule("bilinear")
def _bilinear(call: Call) -> Step:
    if call.is_traced(call.argument(3, "bias")):
        raise NoRuleError
    left, right, weight = (
        call.argument(i, name) for i, name in enumerate(("input1", "input2", "weight"))
    )
    if call.is_traced(weight):
        call.args, call.kwargs = (left, right, weight), {}
        return multilinear(call)
    flags = [call.is_traced(left), call.is_traced(right)]
    sides = [side for side in (0, 1) if flags[side]]
    others = [(right, left)[side] for side in sides]

    def push(captured, tangents):
        *others, weight = captured
        terms = []
        for side, tangent, other in zip(sides, tangents, others):
            other = other.expand(len(tangent), *other.shape)
            first, second = (other, tangent) if side else (tangent, other)
            terms.append(F.bilinear(first, second, weight))
        return sum(terms[1:], terms[0])

    def bent(read, a, b):
        return F.bilinear(a[0], b[1], read[0]) + F.bilinear(b[0], a[1], read[0])

    traced = [value for value, flag in zip((left, right), flags) if flag]
    bend = Bend([weight], bent) if all(flags) else None
    return Step(traced, [*others, weight], push, by_rows=left.dim() > 1, bend=bend)
