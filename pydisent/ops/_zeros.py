"""Cotangents of zeros, without a fill a call."""

from __future__ import annotations

import torch
from torch import Tensor

_ZEROS: dict[tuple[torch.dtype, torch.device], Tensor] = {}


def zeros_like(x: Tensor) -> Tensor:
    """Zeros of the shape, dtype and device of x, to be read alone: all of them are one element."""
    if type(x) is not Tensor:  # a traced one, which must not outlive its trace
        return torch.zeros_like(x)
    key = x.dtype, x.device
    zero = _ZEROS.get(key)
    if zero is None:
        if x.is_cuda and torch.cuda.is_current_stream_capturing():  # it would be the graph's
            return torch.zeros_like(x)
        with torch.inference_mode(False):
            zero = _ZEROS[key] = torch.zeros((), dtype=x.dtype, device=x.device)
        if x.is_cuda:  # other streams may read it next
            torch.cuda.current_stream(x.device).synchronize()
    return zero.expand(x.shape)
