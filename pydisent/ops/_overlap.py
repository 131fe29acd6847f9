"""Detection of memory that an op would write twice, or read after writing."""

from __future__ import annotations

import torch
from torch import Tensor

_NO, _YES, _UNKNOWN = 0, 1, 2  # results of torch._debug_has_internal_overlap


def refuse_overlap(name: str, written: Tensor, others: dict[str, Tensor]) -> None:
    """Raise RuntimeError on overlapping memory, as PyTorch's in-place operations do.

    Parameters
    ----------
    name, written
        Name and value of the argument written to.
    others
        The arguments that are read, by name: none may share memory with ``written``.
    """
    if _overlaps_itself(written):
        raise RuntimeError(
            f"{name}: unsupported operation: more than one element of the written-to tensor refers "
            "to a single memory location. Please clone() the tensor before performing the operation"
        )
    for other, x in others.items():
        if _share(written, x):
            raise RuntimeError(
                f"{other}: unsupported operation: it shares memory with the written-to tensor, "
                f"{name}. Please clone() the tensor before performing the operation"
            )


def _overlaps_itself(x: Tensor) -> bool:
    state = torch._debug_has_internal_overlap(x)
    if state != _UNKNOWN or x.numel() < 2:
        return state == _YES
    reach = 0  # span of the axes so far, by increasing stride
    for stride, size in sorted(zip(x.stride(), x.shape)):
        if size > 1 and stride <= reach:
            return _places(x).unique().numel() < x.numel()
        reach += stride * (size - 1)
    return False


def _share(x: Tensor, y: Tensor) -> bool:
    """Whether any element of x shares a byte with one of y."""
    if x.numel() == 0 or y.numel() == 0 or x.device.type == "meta":
        return False
    if x.untyped_storage()._cdata != y.untyped_storage()._cdata:
        return False
    first, last = (_extent(x), _extent(y)) if _extent(x) < _extent(y) else (_extent(y), _extent(x))
    if first[1] <= last[0]:
        return False
    if x.itemsize != y.itemsize:
        return True
    return bool(torch.isin(_places(x), _places(y)).any())


def _extent(x: Tensor) -> tuple[int, int]:
    """The tensor's first byte in its storage, and one past its last."""
    reach = sum(int(stride) * (size - 1) for stride, size in zip(x.stride(), x.shape))
    first = int(x.storage_offset()) * x.itemsize
    return first, first + (reach + 1) * x.itemsize


def _places(x: Tensor) -> Tensor:
    """Storage index of each element, (n,)."""
    places = torch.tensor([x.storage_offset()])
    for stride, size in zip(x.stride(), x.shape):
        places = (places[:, None] + stride * torch.arange(size)).flatten()
    return places
