"""Rules for operations that move, repeat or join elements."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pydisent.jacobian._call import Call, DerivativeError, NoRuleError
from pydisent.jacobian._step import Step
from pydisent.jacobian._views import overlaps_itself, picked, replaced, view_places
from pydisent.jacobian.rules._base import (
    align,
    rule,
)
from pydisent.jacobian.rules.linear import from_the_end, jointly_linear


@rule("permute")
def _permute(call: Call) -> Step:
    source = call.args[0]
    dims = call.args[1:] if len(call.args) > 2 else call.argument(1, "dims")
    counted = from_the_end(dims, source.dim())
    if counted is None:
        return jointly_linear(call)
    order = [0, *(dim + source.dim() + 1 for dim in counted)]
    return Step([source], [], lambda _, t: t[0].permute(order), by_rows=order[1] == 1)


@rule("mT", "T", "t")
def _matrix_transpose(call: Call) -> Step:
    source = call.args[0]
    if source.dim() < 2 or (call.name == "T" and source.dim() != 2):
        return jointly_linear(call)
    return Step([source], [], lambda _, t: t[0].mT, by_rows=source.dim() > 2)


@rule("view", "reshape", "flatten", "unsqueeze", "squeeze", "unflatten")
def _reshape(call: Call) -> Step:
    """A reshape to the result's shape, with K in front."""
    if call.args[0].is_complex() or not isinstance(call.out, Tensor):
        raise NoRuleError
    shape = call.out.shape
    if call.out.dtype != call.args[0].dtype:  # the same bytes viewed as another dtype
        raise NoRuleError
    return Step([call.args[0]], [], lambda _, t: t[0].reshape(t[0].shape[0], *shape), by_rows=True)


@rule("expand", "expand_as", "broadcast_to")
def _expand(call: Call) -> Step:
    source, shape = call.args[0], call.out.shape
    dim = source.dim()

    def push(_, tangents):
        return align(tangents[0], dim, len(shape)).expand(tangents[0].shape[0], *shape)

    return Step([source], [], push, by_rows=dim == len(shape))


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


@rule("__getitem__")
def _get_item(call: Call) -> Step:
    source, index = call.args
    shifted = _behind_one_more(call, index)
    if shifted is None:
        places = _places(source, index)
        return Step([source], [], lambda _, t: picked(t[0], places))
    whole = _takes_all_rows(index, source.dim())
    return Step([source], [], lambda _, t: t[0][tuple(shifted)], by_rows=whole)


@rule("set_item")
def _set_item(call: Call) -> Step:
    target, index, value = call.args
    shifted = _behind_one_more(call, index)
    places = _places(target, index)
    flags = [call.is_traced(target), call.is_traced(value)]
    shape, region = target.shape, places.shape
    # A value may have additional axes of size 1 in front; a number has no tangent.
    own = value.shape[max(0, value.dim() - len(region)) :] if flags[1] else region

    def push(_, tangents):
        queue, count = iter(tangents), len(tangents[0])
        whole = next(queue) if flags[0] else tangents[0].new_zeros(count, *shape)
        if not flags[1]:
            part = tangents[0].new_zeros(count, *region)
        else:
            part = align(next(queue).reshape(count, *own), len(own), len(region))
        if shifted is None:
            return replaced(whole, places, part.expand(count, *region))
        whole = whole.clone()
        whole[tuple(shifted)] = part
        return whole

    inputs = [t for t, flag in zip((target, value), flags) if flag]
    by_rows = shifted is not None and len(own) == len(region)
    return Step(inputs, [], push, by_rows=by_rows and _takes_all_rows(index, target.dim()))


def _places(target: Tensor, index: Any) -> Tensor:
    """For each element of ``target[index]``, its index into the flattened ``target``."""
    return torch.arange(target.numel(), device=target.device).reshape(target.shape)[index]


def _behind_one_more(call: Call, index: Any) -> list[Any] | None:
    """An index with an axis in front, held for the steps that read it; None if results may differ.

    A single tensor among slices keeps its place among the result's axes; several may move to the
    front.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    chosen = [p for p in parts if not (p is None or p is Ellipsis or type(p) in (int, slice))]
    if chosen and (len(chosen) > 1 or any(type(p) is int for p in parts)):
        return None
    if not all(isinstance(part, Tensor) and part.dim() for part in chosen):
        return None
    return call.hold([slice(None), *parts])


def _takes_all_rows(index: Any, dim: int) -> bool:
    """Whether an index leaves the first axis unchanged."""
    parts = index if isinstance(index, tuple) else (index,)
    if parts[:1] and parts[0] is Ellipsis:
        return sum(map(_axes_taken, parts[1:])) < dim
    return bool(parts) and type(parts[0]) is slice and parts[0] == slice(None)


def _axes_taken(part: Any) -> int:
    if isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8):
        return part.dim()
    return 0 if part is None else 1


@rule("index_select", "gather")
def _by_index(call: Call) -> Step:
    source, index = call.args[0], call.argument(2, "index")
    counted = from_the_end(call.argument(1, "dim"), source.dim())
    if counted is None or not isinstance(index, Tensor):
        return jointly_linear(call)
    (dim,) = counted

    def push(captured, tangents):
        places = captured[0]
        if call.name == "gather":
            return tangents[0].gather(dim, places.expand(len(tangents[0]), *places.shape))
        return tangents[0].index_select(dim, places)

    return Step([source], [index], push, by_rows=dim != -source.dim())


@rule("roll")
def _roll(call: Call) -> Step:
    source, shifts, dims = call.args[0], call.args[1], call.argument(2, "dims", ())
    if dims not in ((), None, []):
        counted = from_the_end(dims, source.dim())
        if counted is None:
            return jointly_linear(call)
        whole = -source.dim() not in counted
        return Step([source], [], lambda _, t: torch.roll(t[0], shifts, counted), by_rows=whole)

    def push(_, tangents):  # without axes it rolls the flattened tensor
        flat = tangents[0].reshape(len(tangents[0]), -1)
        return torch.roll(flat, shifts, 1).reshape(tangents[0].shape)

    return Step([source], [], push)


@rule("as_strided")
def _as_strided(call: Call) -> Step:
    """Elements by their places in memory, where tangents have another layout."""
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
    """The target is overwritten."""
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


@rule("stack")
def _stack(call: Call) -> Step:
    tensors, size = call.args[0], call.out.dim()
    counted = from_the_end(call.argument(1, "dim", 0), size)
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
    # An empty vector may be concatenated with anything, and is ignored.
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
