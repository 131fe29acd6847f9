"""Cotangents of zeros, without a fill a call."""

from __future__ import annotations

import torch
from torch import Tensor

from pydisent.ops._context import in_new_thread

_ZEROS: dict[tuple[torch.dtype, torch.device], Tensor] = {}


def zeros_like(x: Tensor) -> Tensor:
    """Zeros of the shape, dtype and device of x, to be read alone: all of them are one element."""
    if type(x) is not Tensor:  # a traced one, which must not outlive its trace
        return torch.zeros_like(x)
    key = x.dtype, x.device
    zero = _ZEROS.get(key)
    if zero is None or zero._version:  # no other has been written to, as a hook can
        if x.is_cuda and torch.cuda.is_current_stream_capturing():  # it would be the graph's
            return torch.zeros_like(x)
        # There no mode or transform can make it its own, which would outlive it.
        zero = _ZEROS[key] = in_new_thread(_zero, *key)
    return zero.expand(x.shape)


def _zero(dtype: torch.dtype, device: torch.device) -> Tensor:
    zero = torch.zeros((), dtype=dtype, device=device)
    if zero.is_cuda:  # other streams read it next
        torch.cuda.current_stream(device).synchronize()
    return zero
