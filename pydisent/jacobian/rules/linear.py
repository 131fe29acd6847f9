"""Rules for operations that are linear in all their traced arguments together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pydisent.jacobian._call import Call, DerivativeError, NoRuleError, differentiable
from pydisent.jacobian._diagonal import like_tangent
from pydisent.jacobian._step import Step
from pydisent.jacobian._views import overlaps_itself, picked, replaced, view_places
from pydisent.jacobian.rules._base import (
    RULES,
    align,
    elementwise_step,
    flattened,
    over_tangents,
    rule,
)


def jointly_linear(call: Call) -> Step:
    """Views, reshapes, reductions, concatenations: apply the operation itself to the tangents."""
    leaves, spec, traced = flattened(call)
    places = [i for i, leaf in enumerate(leaves) if call.is_traced(leaf)]
    constants = [i for i, leaf in enumerate(leaves) if differentiable(leaf) and i not in places]
    shapes = {i: leaves[i].shape for i in constants}
    for i in constants:
        leaves[i] = None  # a constant has no tangent, and need not be kept
    func, needs_dense = call.func, call.name == "view_as_complex"

    def push(captured, tangents):
        filled = list(leaves)
        for i in constants:
            filled[i] = tangents[0].new_zeros(shapes[i])

        def apply(*tangents):
            for place, tangent in zip(places, tangents):
                filled[place] = tangent
            args, kwargs = spec.unflatten(filled)
            return func(*args, **kwargs)

        if needs_dense:
            tangents = [tangent.contiguous() for tangent in tangents]
        return pytree.tree_leaves(over_tangents(apply, tangents))

    return Step(traced, [], push)


for _linear in (
    "view reshape flatten unflatten squeeze unsqueeze t adjoint H mH tile "
    "repeat_interleave view_as reshape_as contiguous clone take "
    "take_along_dim masked_select tensor_split hsplit vsplit dsplit diagonal diag diag_embed tril "
    "triu flip fliplr flipud rot90 roll trace positive __pos__ hstack vstack dstack "
    "column_stack row_stack atleast_1d atleast_2d atleast_3d unfold fold im2col col2im set_item "
    "masked_fill index_fill index_add index_copy scatter scatter_add slice_scatter "
    "diagonal_scatter ravel real imag conj resolve_conj resolve_neg view_as_real view_as_complex "
    "fft ifft rfft irfft fft2 ifft2 rfft2 irfft2 fftn ifftn rfftn irfftn fftshift ifftshift diff "
    "unsafe_split squeeze_copy"
).split():
    RULES[_linear] = jointly_linear


@rule("masked_fill", "index_fill", "scatter", "set_item")
def _fill(call: Call) -> Step:
    """A number that is written into a value does not move."""
    *args, value = call.args
    if isinstance(value, (int, float, complex)) and len(call.args) > 2:
        call.args = (*args, 0)
        if call.name == "masked_fill" and args[0].shape == call.out.shape:
            return _masked(call, *args)
    if "value" in call.kwargs and not isinstance(call.kwargs["value"], Tensor):
        call.kwargs = {**call.kwargs, "value": 0}
    return jointly_linear(call)


# Where a call has dimensions, and what they are if they are left out.
_PLACES: dict[str, tuple[tuple[int, Any], ...]] = {
    **dict.fromkeys(
        ("transpose", "swapaxes", "swapdims", "movedim", "moveaxis"), ((1, None), (2, None))
    ),
    **dict.fromkeys(("sum", "mean", "cumsum", "narrow", "select"), ((1, None),)),
    "unbind": ((1, 0),),
    **dict.fromkeys(("chunk", "split", "split_with_sizes", "unsafe_chunk"), ((2, 0),)),
}


@rule(*_PLACES)
def _along_dimensions(call: Call) -> Step:
    """Dimensions counted from the end are the same with K in front: no vmap is needed."""
    source, args, by_rows = call.args[0], list(call.args), True
    for place, default in _PLACES[call.name]:
        dims = args[place] if len(args) > place else default
        counted = _from_the_end(dims, source.dim())
        if counted is None or "dim" in call.kwargs:
            return jointly_linear(call)
        by_rows = by_rows and all(dim != -source.dim() for dim in counted)
        args[place : place + 1] = [counted[0] if isinstance(dims, int) else counted]
    func, rest, named = call.func, args[1:], call.kwargs
    return Step([source], [], lambda _, t: func(t[0], *rest, **named), by_rows=by_rows)


def _from_the_end(dims: Any, size: int) -> list[int] | None:
    """Dimensions of a value as negative numbers; None if these are none, or not all."""
    dims = [dims] if isinstance(dims, int) else dims
    if not size or not isinstance(dims, (list, tuple)) or not dims:
        return None
    if any(type(dim) is not int for dim in dims):
        return None
    return [dim % size - size for dim in dims]


@rule("permute")
def _permute(call: Call) -> Step:
    source = call.args[0]
    dims = call.args[1:] if len(call.args) > 2 else call.argument(1, "dims")
    counted = _from_the_end(dims, source.dim())
    if counted is None:
        return jointly_linear(call)
    order = [0, *(dim + source.dim() + 1 for dim in counted)]
    return Step([source], [], lambda _, t: t[0].permute(order), by_rows=order[1] == 1)


@rule("mT", "T")
def _matrix_transpose(call: Call) -> Step:
    source = call.args[0]
    if source.dim() < 2 or (call.name == "T" and source.dim() != 2):
        return jointly_linear(call)
    return Step([source], [], lambda _, t: t[0].mT, by_rows=source.dim() > 2)


@rule("expand", "expand_as", "broadcast_to")
def _expand(call: Call) -> Step:
    source, shape = call.args[0], call.out.shape
    dim = source.dim()

    def push(_, tangents):
        return align(tangents[0], dim, len(shape)).expand(tangents[0].shape[0], *shape)

    return Step([source], [], push, by_rows=dim == len(shape))


@rule("__getitem__")
def _get_item(call: Call) -> Step:
    source, index = call.args
    parts = index if isinstance(index, tuple) else (index,)
    if not all(p is None or p is Ellipsis or type(p) in (int, slice) for p in parts):
        return jointly_linear(call)
    shifted = (slice(None), *parts)
    whole = parts[:1] == (slice(None),)
    if parts[:1] == (Ellipsis,):
        whole = len(parts) - parts.count(None) <= source.dim()
    return Step([source], [], lambda _, t: t[0][shifted], by_rows=whole)


def _masked(call: Call, source: Tensor, mask: Tensor) -> Step:
    return Step([source], [mask], lambda c, t: t[0].masked_fill(c[0], 0), by_rows=True)


@rule("roll")
def _roll(call: Call) -> Step:
    if call.argument(2, "dims", ()) not in ((), None, []):
        return jointly_linear(call)
    shifts = call.args[1]

    def push(_, tangents):  # without axes it rolls what is flattened
        flat = tangents[0].reshape(len(tangents[0]), -1)
        return torch.roll(flat, shifts, 1).reshape(tangents[0].shape)

    return Step([call.args[0]], [], push)


@rule("as_strided")
def _as_strided(call: Call) -> Step:
    """Elements by where they lie in memory, of which a tangent has another."""
    source = call.args[0]
    places = view_places(call.out, source)
    if places is None:
        raise DerivativeError("'as_strided' reaches beyond the elements of its argument")
    return Step([source], [], lambda _, t: picked(t[0], places))


@rule("as_strided_scatter")
def _as_strided_scatter(call: Call) -> Step:
    target, source = call.args[:2]
    view = target.detach().as_strided(*call.args[2:], **call.kwargs)
    places = view_places(view, target)
    if places is None or overlaps_itself(view):
        raise DerivativeError("'as_strided_scatter' writes where it reads no element, or twice")
    flags, shape = [call.is_traced(value) for value in (target, source)], call.out.shape

    def push(_, tangents):
        queue = iter(tangents)
        count = len(tangents[0])
        whole = next(queue) if flags[0] else tangents[0].new_zeros(count, *shape)
        part = next(queue) if flags[1] else tangents[0].new_zeros(count, *source.shape)
        return replaced(whole, places, part)

    return Step([t for t, flag in zip((target, source), flags) if flag], [], push)


@rule("copied")
def _copied(call: Call) -> Step:
    """Nothing is left of the target."""
    source, shape = call.args[1], call.out.shape
    if not call.is_traced(source):
        traced = call.args[0]
        return Step([traced], [], lambda _, t: torch.zeros_like(t[0]), by_rows=True)
    if source.is_complex() != call.out.is_complex():
        raise NoRuleError
    dim, device = source.dim(), call.out.device

    def push(_, tangents):
        tangent = align(tangents[0], dim, len(shape)).to(device)
        return tangent.expand(len(tangent), *shape)

    return Step([source], [], push, by_rows=dim == len(shape))


@rule("view", "reshape", "flatten", "unsqueeze", "squeeze", "unflatten")
def _reshape(call: Call) -> Step:
    """The batch stays in front, as in most networks: no vmap is needed to put K before it."""
    if call.args[0].is_complex() or not isinstance(call.out, Tensor):
        raise NoRuleError
    shape = call.out.shape
    if call.out.dtype != call.args[0].dtype:  # a view of the same bytes as other numbers
        raise NoRuleError
    return Step([call.args[0]], [], lambda _, t: t[0].reshape(t[0].shape[0], *shape), by_rows=True)


@rule(
    "to",
    "float",
    "double",
    "half",
    "bfloat16",
    "type",
    "type_as",
    "contiguous",
    "clone",
    "cuda",
    "cpu",
)
def _convert(call: Call) -> Step:
    """A change of dtype is none for the tangents: they have the dtype of the computation."""
    source = call.args[0]
    if not call.is_traced(source) or source.is_complex() != call.out.is_complex():
        raise NoRuleError
    device = call.out.device
    step = Step([source], [], lambda _, t: t[0].to(device), by_rows=True)
    if device == source.device:
        step.scale, step.is_identity = (lambda _, s: s[0]), True
    return step


@rule("index_select", "gather")
def _by_index(call: Call) -> Step:
    source, index = call.args[0], call.argument(2, "index")
    counted = _from_the_end(call.argument(1, "dim"), source.dim())
    if counted is None or not isinstance(index, Tensor):
        return jointly_linear(call)
    (dim,) = counted

    def push(captured, tangents):
        places = captured[0]
        if call.name == "gather":
            return tangents[0].gather(dim, places.expand(len(tangents[0]), *places.shape))
        return tangents[0].index_select(dim, places)

    return Step([source], [index], push, by_rows=dim != -source.dim())


@rule("repeat")
def _repeat(call: Call) -> Step:
    source, sizes = call.args[0], call.args[1:]
    sizes = sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
    if not sizes or call.kwargs or not all(type(size) is int for size in sizes):
        return jointly_linear(call)
    sizes, dim = tuple(sizes), source.dim()
    by_rows = dim == len(sizes) and sizes[0] == 1
    push = lambda _, t: align(t[0], dim, len(sizes)).repeat(1, *sizes)  # noqa: E731
    return Step([source], [], push, by_rows=by_rows)


@rule("stack")
def _stack(call: Call) -> Step:
    tensors, size = call.args[0], call.out.dim()
    counted = _from_the_end(call.argument(1, "dim", 0), size)
    if counted is None or not isinstance(tensors, (tuple, list)):
        return jointly_linear(call)
    (dim,) = counted
    flags, shape = [call.is_traced(tensor) for tensor in tensors], tensors[0].shape

    def push(_, tangents):
        queue, first = iter(tangents), tangents[0]
        zeros = first.new_zeros(()).expand(first.shape[0], *shape)
        return torch.stack([next(queue) if flag else zeros for flag in flags], dim)

    traced = [tensor for tensor, flag in zip(tensors, flags) if flag]
    return Step(traced, [], push, by_rows=dim != -size)


@rule("cat", "concat", "concatenate")
def _concatenate(call: Call) -> Step:
    dim = call.argument(1, "dim", 0)
    if not isinstance(dim, int):
        raise NoRuleError
    dim = dim % call.out.dim() + 1
    # An empty vector may be concatenated with anything, and is then left out.
    tensors = [t for t in call.args[0] if tuple(t.shape) != (0,) or call.out.dim() == 1]
    traced = [tensor for tensor in tensors if call.is_traced(tensor)]
    flags = [call.is_traced(tensor) for tensor in tensors]
    shapes = [tensor.shape for tensor in tensors]

    def push(_, tangents):
        queue = iter(tangents)
        first = tangents[0]
        parts = [
            next(queue) if flag else first.new_zeros(()).expand(first.shape[0], *shape)
            for flag, shape in zip(flags, shapes)
        ]
        return torch.cat(parts, dim)

    return Step(traced, [], push, by_rows=dim != 1)


def operands(call: Call) -> tuple[Any, Any]:
    """Left and right of a binary operation, whichever way round it was called."""
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
    return torch.tensor(value, dtype=torch.float64, device=like.device)


@rule("neg", "negative", "__neg__")
def _negative(call: Call) -> Step:
    return elementwise_step(call, [call.args[0]], [], lambda _, t: -t[0], lambda _, s: -s[0])
