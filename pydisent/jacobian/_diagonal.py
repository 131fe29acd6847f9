"""Fusion of elementwise steps: a chain of them multiplies tangents by one derivative.

``where(x >= c, x, a * (x - c) + c)`` is five operations, whose tangents are all multiples of x's.
So their factors are combined on the B primal values, and the K·B tangents are read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pydisent.jacobian._node import Node, Push


@dataclass(frozen=True)
class _Form:
    """A tangent that is a multiple of that at ``base``, by the factors of ``chain`` in order."""

    base: int
    chain: tuple[Node, ...]


def fuse_diagonals(nodes: Sequence[Node], results: Sequence[int]) -> list[Node]:
    """Replace chains of elementwise steps that start at the same tangent by one step each."""
    fused: list[Node] = []
    forms: dict[int, _Form] = {}

    def emit(slot: int) -> None:
        if slot in forms:
            fused.append(_as_node(forms.pop(slot), slot))

    for node in nodes:
        found = [forms.get(slot, _Form(slot, ())) for slot in node.inputs]
        if node.scale is not None and len({form.base for form in found}) == 1:
            before = dict.fromkeys(id(step) for form in found for step in form.chain)
            steps = {id(step): step for form in found for step in form.chain}
            chain = tuple(steps[key] for key in before)
            forms[node.outputs[0]] = _Form(found[0].base, (*chain, node))
            continue
        for slot in node.inputs:
            emit(slot)
        fused.append(node)
    for slot in results:
        emit(slot)
    return fused


def _as_node(form: _Form, slot: int) -> Node:
    working = [node for node in form.chain if not node.is_identity]
    if len(working) == 1:
        node = working[0]
        if set(node.inputs) == {form.base} and node.outputs == (slot,):
            return node
        return replace(node, inputs=(form.base,) * len(node.inputs), outputs=(slot,))
    captured = tuple(index for node in form.chain for index in node.captured)
    name = "+".join(node.name for node in form.chain)
    by_rows = all(node.by_rows for node in form.chain)
    if not working:
        return Node(name, lambda _, t: t[0], (form.base,), (), (slot,), by_rows=by_rows)
    push, overwrites = _multiplication(form)
    return Node(name, push, (form.base,), captured, (slot,), overwrites=overwrites, by_rows=by_rows)


def _multiplication(form: _Form) -> tuple[Push, Push]:
    def factor(captured: Sequence[Tensor], tangent: Tensor) -> Tensor | float:
        factors: dict[int, Tensor | float] = {form.base: 1.0}
        read = iter(captured)
        result: Tensor | float = 1.0
        for node in form.chain:
            assert node.scale is not None
            own = [next(read) for _ in node.captured]
            result = node.scale(own, [factors[slot] for slot in node.inputs])
            factors[node.outputs[0]] = result
        if isinstance(result, Tensor):
            result = like_tangent(result, tangent).to(tangent.dtype)
        return result

    def push(captured, tangents):
        return tangents[0] * factor(captured, tangents[0])

    def overwrites(captured, tangents):
        return tangents[0].mul_(factor(captured, tangents[0]))

    return push, overwrites


def like_tangent(value: Tensor, tangent: Tensor) -> Tensor:
    """``value`` (B, C, H, W) laid out as the images of ``tangent`` (K, B, C, H, W) are."""
    if value.dim() == 4 and tangent.dim() == 5 and tangent.stride(2) == 1:
        return value.contiguous(memory_format=torch.channels_last)
    return value
