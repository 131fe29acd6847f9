"""Rules for operations that are jointly linear in all their traced arguments."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from pydisent.jacobian._call import Call, NoRuleError, differentiable
from pydisent.jacobian._step import Step
from pydisent.jacobian.rules._base import (
    RULES,
    flattened,
    over_tangents,
    rule,
    vmap_kind,
)


def jointly_linear(call: Call) -> Step:
    """Views, reshapes, reductions, concatenations: apply the operation itself to the tangents."""
    leaves, spec, traced = flattened(call)
    places = [i for i, leaf in enumerate(leaves) if call.is_traced(leaf)]
    constants = [i for i, leaf in enumerate(leaves) if differentiable(leaf) and i not in places]
    shapes = {i: leaves[i].shape for i in constants}
    for i in constants:
        leaves[i] = None  # constants have no tangent and are not kept
    func, is_reinterpreted = call.func, call.name in ("view_as_real", "view_as_complex")

    def push(captured, tangents):
        filled = list(leaves)
        for i in constants:
            filled[i] = tangents[0].new_zeros(shapes[i])

        def apply(*tangents):
            for place, tangent in zip(places, tangents):
                filled[place] = tangent
            args, kwargs = spec.unflatten(filled)
            return func(*args, **kwargs)

        if is_reinterpreted:  # a tangent may be a lazy conjugate where the value is not
            tangents = [t.resolve_conj().resolve_neg().contiguous() for t in tangents]
        kind = vmap_kind(func, leaves, spec, len(tangents[0]), tangents[0].dtype)
        return pytree.tree_leaves(over_tangents(apply, tangents, kind))

    return Step(traced, [], push)


for _linear in (
    "view reshape flatten unflatten squeeze unsqueeze adjoint H mH tile "
    "repeat_interleave view_as reshape_as contiguous clone take "
    "take_along_dim masked_select tensor_split hsplit vsplit dsplit diagonal diag diag_embed "
    "fliplr flipud rot90 trace positive __pos__ hstack vstack dstack "
    "column_stack row_stack atleast_1d atleast_2d atleast_3d unfold fold im2col col2im "
    "masked_fill index_fill index_add index_copy scatter scatter_add slice_scatter "
    "diagonal_scatter ravel real imag conj resolve_conj resolve_neg view_as_real view_as_complex "
    "fft2 ifft2 rfft2 irfft2 fftn ifftn rfftn irfftn fftshift ifftshift diff "
    "unsafe_split squeeze_copy"
).split():
    RULES[_linear] = jointly_linear


@rule("masked_fill", "index_fill", "scatter")
def _fill(call: Call) -> Step:
    """A number written into a value has no tangent."""
    if call.kwargs.get("reduce") is not None:  # which need not be linear
        raise NoRuleError
    *args, value = call.args
    if isinstance(value, (int, float, complex)) and len(call.args) > 2:
        call.args = (*args, 0)
        if call.name == "masked_fill" and args[0].shape == call.out.shape:
            return _masked(call, *args)
    if "value" in call.kwargs and not isinstance(call.kwargs["value"], Tensor):
        call.kwargs = {**call.kwargs, "value": 0}
    return jointly_linear(call)


def _masked(call: Call, source: Tensor, mask: Tensor) -> Step:
    return Step([source], [mask], lambda c, t: t[0].masked_fill(c[0], 0), by_rows=True)


# Positions of a call's dimension arguments, and their defaults.
_PLACES: dict[str, tuple[tuple[int, Any], ...]] = {
    **dict.fromkeys(
        ("transpose", "swapaxes", "swapdims", "movedim", "moveaxis"), ((1, None), (2, None))
    ),
    **dict.fromkeys(("sum", "mean", "cumsum", "narrow", "select"), ((1, None),)),
    "unbind": ((1, 0),),
    **dict.fromkeys(("chunk", "split", "split_with_sizes", "unsafe_chunk"), ((2, 0),)),
    **dict.fromkeys(("fft", "ifft", "rfft", "irfft"), ((2, -1),)),
    "flip": ((1, None),),
}


@rule(*_PLACES)
def _along_dimensions(call: Call) -> Step:
    """Negative dimensions are the same with K in front, so no vmap is needed."""
    source, args, by_rows = call.args[0], list(call.args), True
    for place, default in _PLACES[call.name]:
        dims = args[place] if len(args) > place else default
        counted = from_the_end(dims, source.dim())
        several = call.name == "flip" and len(args) > 2
        if counted is None or "dim" in call.kwargs or several:
            return jointly_linear(call)
        by_rows = by_rows and all(dim != -source.dim() for dim in counted)
        args += [None] * (place - len(args))
        args[place : place + 1] = [counted[0] if isinstance(dims, int) else counted]
    rest = [int(part) if isinstance(part, Tensor) else part for part in args[1:]]  # narrow's start
    func, named = getattr(call.func, "overloadpacket", call.func), call.kwargs
    return Step([source], [], lambda _, t: func(t[0], *rest, **named), by_rows=by_rows)


@rule("tril", "triu")
def _triangle(call: Call) -> Step:
    source, rest, named, func = call.args[0], call.args[1:], call.kwargs, call.func
    if not call.is_traced(source) or source.dim() < 2:
        return jointly_linear(call)
    by_rows = source.dim() > 2
    return Step([source], [], lambda _, t: func(t[0], *rest, **named), by_rows=by_rows)


def from_the_end(dims: Any, size: int) -> list[int] | None:
    """Dimensions as negative numbers, or None if some are not plain integers."""
    dims = [dims] if isinstance(dims, int) else dims
    if not size or not isinstance(dims, (list, tuple)) or not dims:
        return None
    if any(type(dim) is not int for dim in dims):
        return None
    return [dim % size - size for dim in dims]


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
    """A conversion of dtype does not affect tangents, which have that of the computation."""
    source = call.args[0]
    if not call.is_traced(source) or source.is_complex() != call.out.is_complex():
        raise NoRuleError
    device = call.out.device
    step = Step([source], [], lambda _, t: t[0].to(device), by_rows=True)
    if device == source.device:
        step.scale, step.is_identity = (lambda _, s: s[0]), True
    return step
