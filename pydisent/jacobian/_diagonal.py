"""Fusion of elementwise steps: a chain of them multiplies tangents by one factor.

``where(x >= c, x, a * (x - c) + c)`` is five operations, whose tangents are all multiples of x's.
Their factors are combined on the B primal values, and the K·B tangents are read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from pydisent.jacobian._step import Push, Step


class _Form(NamedTuple):
    """A tangent that is a multiple of the one at ``base``, by the factors of ``chain`` in order."""

    base: int
    chain: tuple[Step[int], ...]


def fuse_diagonals(steps: Sequence[Step[int]], results: Sequence[int]) -> list[Step[int]]:
    """Replace chains of elementwise steps that start at the same tangent by one step each."""
    fused: list[Step[int]] = []
    forms: dict[int, _Form] = {}

    def emit(slot: int) -> None:
        if slot in forms:
            fused.append(_as_step(forms.pop(slot), slot))

    for step in steps:
        if step.scale is not None:
            found = [forms.get(slot) or _Form(slot, ()) for slot in step.inputs]
            base, chain = found[0]
            if len(found) > 1 and all(form.base == base for form in found):
                earlier = {id(part): part for form in found for part in form.chain}
                chain, found = tuple(earlier.values()), found[:1]
            if len(found) == 1:
                forms[step.outputs[0]] = _Form(base, (*chain, step))
                continue
        for slot in step.inputs:
            emit(slot)
        fused.append(step)
    for slot in results:
        emit(slot)
    return fused


def _as_step(form: _Form, slot: int) -> Step[int]:
    working = [step for step in form.chain if not step.is_identity]
    if len(working) == 1:
        step = working[0]
        if set(step.inputs) == {form.base} and step.outputs == (slot,):
            return step
        return replace(step, inputs=(form.base,) * len(step.inputs), outputs=(slot,))
    captured = tuple(index for step in form.chain for index in step.captured)
    name = "+".join(step.name for step in form.chain)
    by_rows = all(step.by_rows for step in form.chain)
    if not working:
        return Step((form.base,), (), lambda _, t: t[0], (slot,), by_rows=by_rows, name=name)
    push, overwrites = _multiplication(form)
    return Step(
        (form.base,), captured, push, (slot,), overwrites=overwrites, by_rows=by_rows, name=name
    )


def _multiplication(form: _Form) -> tuple[Push, Push]:
    def factor(captured: Sequence[Tensor], tangent: Tensor) -> Tensor | float:
        factors: dict[int, Tensor | float] = {form.base: 1.0}
        read = iter(captured)
        result: Tensor | float = 1.0
        for step in form.chain:
            assert step.scale is not None
            own = [next(read) for _ in step.captured]
            result = step.scale(own, [factors[slot] for slot in step.inputs])
            factors[step.outputs[0]] = result
        if isinstance(result, Tensor):
            result = like_tangent(result, tangent).to(tangent.dtype)
        return result

    def push(captured, tangents):
        return tangents[0] * factor(captured, tangents[0])

    def overwrites(captured, tangents):
        return tangents[0].mul_(factor(captured, tangents[0]))

    return push, overwrites


def like_tangent(value: Tensor, tangent: Tensor) -> Tensor:
    """``value`` (B, C, H, W) in the memory format of ``tangent`` (K, B, C, H, W)."""
    if value.dim() == 4 and tangent.dim() == 5 and tangent.stride(2) == 1:
        return value.contiguous(memory_format=torch.channels_last)
    return value
