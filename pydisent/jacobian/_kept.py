"""Tangents of the basis, kept where recombining them is cheaper than pushing new ones."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from pydisent.jacobian._layout import in_memory_order, like_columns
from pydisent.jacobian._program import Program

# Least ratio of the multiplications saved to those of recombining; in half precision products are
# cheap compared with the reads of recombining.
_WORTH, _WORTH_IN_HALF = 2, 16
_COLUMNS = 1 << 14  # elements of a sample at once, so that sums over chunks stay in the cache


def slots_to_keep(
    program: Program, size: int, elements: int, dtype: torch.dtype
) -> dict[int, list[Tensor]]:
    """The slots that save most for their memory, up to ``elements`` for a basis of ``size``."""
    worth = _WORTH_IN_HALF if dtype.itemsize == 2 else _WORTH
    chosen: dict[int, list[Tensor]] = {}
    slots = program.recallable().items()
    for slot, (numbers, products) in sorted(slots, key=lambda s: -s[1][1] / max(1, s[1][0])):
        if products >= worth * size * numbers and size * numbers <= elements:
            chosen[slot] = []
            elements -= size * numbers
    return chosen


def recombined(kept: dict[int, list[Tensor]], weights: Tensor) -> dict[int, Tensor]:
    """The tangents (r, B, *out) at each slot along r directions, given by weights (B, r, m).

    Empties the lists.
    """
    found = {}
    for slot, parts in kept.items():
        found[slot] = _combination(parts, weights.to(parts[0].dtype))
        parts.clear()
    return found


def _combination(parts: list[Tensor], weights: Tensor) -> Tensor:
    """Weighted sums (r, B, *out) over chunks (K, B, *out) of the basis, by weights (B, r, m)."""
    out = like_columns(parts[0], weights.shape[1], len(weights), parts[0].dtype)
    by_columns = in_memory_order(out).transpose(0, 1).split(_COLUMNS, -1)
    sources: Iterable = zip(
        *(in_memory_order(p).transpose(0, 1).split(_COLUMNS, -1) for p in parts)
    )
    of_chunks = weights.split([len(part) for part in parts], -1)
    for total, pieces in zip(by_columns, sources):
        for i, (piece, weight) in enumerate(zip(pieces, of_chunks)):
            torch.baddbmm(total, weight, piece, beta=int(i > 0), out=total)
    return out
