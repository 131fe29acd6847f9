"""The table of tangent rules, and ways to apply a map to K tangents."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pydisent.jacobian._adjoint import TOLERANCE, once
from pydisent.jacobian._call import Call, Rule, differentiable
from pydisent.jacobian._diagonal import like_tangent
from pydisent.jacobian._modes import is_capturing, transforms_are_active
from pydisent.jacobian._step import Bend, Push, Scale, Step
from pydisent.jacobian._views import overlaps_itself

#: Errors that PyTorch raises if a transform does not support an operation.
FAILURES = (RuntimeError, NotImplementedError, TypeError, ValueError, LookupError)

RULES: dict[str, Rule] = {}
#: The second derivative of a piecewise linear function.
FLAT: Bend[Tensor] = Bend((), lambda read, a, b: ())
#: For rules whose function also has a decomposition: whether the rule covers a call, asked before
#: the function runs, as it may draw random numbers.
COVERED: dict[str, Callable[[Call], bool]] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for name in names:
            RULES[name] = rule
        return rule

    return register


def over_tangents(function: Callable, tangents: Sequence[Tensor], kind: Any) -> Any:
    """Apply ``function`` to each of the K tangents: by vmap, or one by one where vmap cannot.

    The result of vmap is compared with two single ones once for each ``kind`` of call (see
    ``vmap_kind``), as some of its rules are wrong if K coincides with another size.
    """
    count, found = len(tangents[0]), None
    if count > 1 and not transforms_are_active():
        with contextlib.suppress(*FAILURES):
            found = torch.vmap(function, randomness="same")(*tangents)
    if found is not None and (
        is_capturing() or once(kind, lambda: _is_each(found, function, tangents))
    ):
        return found
    results = [function(*(t[i] for t in tangents)) for i in range(count)]
    return pytree.tree_map(lambda *leaves: torch.stack(leaves), *results)


def vmap_kind(func: Any, leaves: Sequence[Any], spec: Any, *more: Any) -> Any:
    """What determines whether vmap is right: the call, shapes, and the number of tangents."""
    told = ((x.dtype, x.shape) if isinstance(x, Tensor) else repr(x) for x in leaves)
    return "vmap", func, repr(spec), *told, *more


@torch.no_grad()
def _is_each(found: Any, function: Callable, tangents: Sequence[Tensor]) -> bool:
    """Whether the first and the last of the results equal those of the function alone.

    Tangents that are all zero prove nothing and do not count; False if there are no others.
    """
    moves = [t.unsqueeze(-1).flatten(1).any(1) for t in tangents]
    moving = torch.stack(moves).any(0).nonzero().flatten()
    if not len(moving):
        return False
    for i in {int(moving[0]), int(moving[-1])}:
        expected = pytree.tree_leaves(function(*(t[i] for t in tangents)))
        for got, value in zip(pytree.tree_leaves(found), expected, strict=True):
            difference = torch.linalg.vector_norm(got[i] - value)
            if difference > TOLERANCE * torch.linalg.vector_norm(value):
                return False
    return True


def on_rows(function: Callable[[Tensor], Tensor], tangent: Tensor) -> Tensor:
    """Apply a batched function to K·B rows at once."""
    count, batch = tangent.shape[:2]
    return function(tangent.flatten(0, 1)).unflatten(0, (count, batch))


def on_image_rows(function: Callable[[Tensor], Tensor], tangent: Tensor) -> Tensor:
    """As ``on_rows``, with 2-d images channels last: oneDNN and cuDNN are fastest on these."""
    return function(as_rows(tangent)).unflatten(0, tangent.shape[:2])


def as_rows(tangent: Tensor) -> Tensor:
    """(K, B, ...) as K·B rows, 2-d images channels last."""
    rows = tangent.flatten(0, 1)
    return rows.contiguous(memory_format=torch.channels_last) if rows.dim() == 4 else rows


def dense(primal: Tensor) -> Tensor:
    """A value whose elements do not share memory, as forward mode requires."""
    return primal.clone() if overlaps_itself(primal) else primal


def align(tangent: Tensor, primal_dim: int, out_dim: int) -> Tensor:
    """Insert axes of size 1 after K, so that tangents broadcast as values do."""
    if primal_dim == out_dim:
        return tangent
    ones = (1,) * (out_dim - primal_dim)
    return tangent.reshape(tangent.shape[0], *ones, *tangent.shape[1:])


@dataclass(frozen=True)
class _Flat:
    """A fast ``TreeSpec`` for arguments that are not nested."""

    positional: int
    names: tuple[str, ...]

    def unflatten(self, leaves: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        named = dict(zip(self.names, leaves[self.positional :]))
        return tuple(leaves[: self.positional]), named


def flattened(call: Call) -> tuple[list[Any], Any, list[Tensor]]:
    """The arguments as a list, their structure, and the traced ones among them."""
    leaves: list[Any] = [*call.args, *call.kwargs.values()]
    spec: Any
    if any(isinstance(leaf, (tuple, list, dict)) for leaf in leaves):
        leaves, spec = pytree.tree_flatten((call.args, call.kwargs))
    else:
        spec = _Flat(len(call.args), tuple(call.kwargs))
    return call.hold(leaves), spec, [leaf for leaf in leaves if call.is_traced(leaf)]


def elementwise_step(
    call: Call, inputs: Sequence[Tensor], captured: Sequence[Tensor], push: Push, scale: Scale
) -> Step:
    """A step that fuses with its neighbours where no input is broadcast."""
    shape, is_complex = call.out.shape, call.out.is_complex()
    by_rows = fuses = True
    for tensor in inputs:
        by_rows = by_rows and tensor.dim() == len(shape)
        fuses = fuses and tensor.shape == shape and tensor.is_complex() == is_complex
    return Step(inputs, captured, push, scale=scale if fuses else None, by_rows=by_rows)


def multiplication(call: Call, source: Tensor, factor: Tensor) -> Step:
    """The step that multiplies the tangent of ``source`` by ``factor``."""
    dim, out_dim = source.dim(), call.out.dim()
    if not differentiable(factor):  # a mask, which has no dtype for products
        factor = factor.to(call.out.dtype)

    def push(captured, tangents):
        tangent = align(tangents[0], dim, out_dim)
        factor = like_tangent(captured[0], tangent)
        # A complex factor makes a real tangent complex; a cast would drop its imaginary part.
        return tangent * (factor if factor.is_complex() else factor.to(tangent.dtype))

    step = elementwise_step(call, [source], [factor], push, lambda c, s: c[0] * s[0])
    if step.scale is not None:
        step.overwrites = lambda c, t: t[0].mul_(like_tangent(c[0], t[0]))
    return step
