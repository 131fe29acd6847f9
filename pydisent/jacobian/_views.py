"""Where the elements of a view lie in its base, and whether elements overlap in memory."""

from __future__ import annotations

import torch
from torch import Tensor


def view_places(view: Tensor, base: Tensor) -> Tensor | None:
    """For each element of ``view``, its index into the flattened ``base``.

    None if there is no such index, as for a view with another dtype or a conjugate view.
    """
    flags = [(t.dtype, t.is_conj(), t.is_neg(), t.layout) for t in (view, base)]
    if flags[0] != flags[1] or view.layout != torch.strided:
        return None
    offset = view.storage_offset() - base.storage_offset()
    extent = 1 + sum((n - 1) * s for n, s in zip(base.shape, base.stride()) if n)
    reach = 1 + sum((n - 1) * s for n, s in zip(view.shape, view.stride()) if n)
    if offset < 0 or offset + reach > extent:
        return None
    index = torch.zeros(extent, dtype=torch.long, device=base.device)
    counted = torch.arange(base.numel(), device=base.device).reshape(base.shape)
    index.as_strided(base.shape, base.stride()).copy_(counted)
    return index.as_strided(view.shape, view.stride(), offset)


def overlaps_itself(tensor: Tensor) -> bool:
    """Whether two elements of a strided tensor may share memory."""
    if tensor.layout != torch.strided:
        return False
    reach = 0  # extent of the axes with smaller strides, in elements
    for stride, size in sorted(zip(tensor.stride(), tensor.shape)):
        if size > 1:
            if stride <= reach:
                return True
            reach += (size - 1) * stride
    return False


def picked(tangents: Tensor, places: Tensor) -> Tensor:
    """The elements of (K, *base) tangents at the places of a view, (K, *view)."""
    flat = tangents.reshape(len(tangents), -1)
    return flat[:, places.flatten()].reshape(len(flat), *places.shape)


def replaced(tangents: Tensor, places: Tensor, part: Tensor) -> Tensor:
    """The (K, *base) tangents with ``part`` (K, *view) at the places of a view."""
    count = len(part)
    flat = tangents.reshape(count, -1)
    return flat.index_copy(1, places.flatten(), part.reshape(count, -1)).reshape(tangents.shape)
