"""Zero cotangents without a fill per call."""

from __future__ import annotations

import torch
from torch import Tensor

from pydisent.ops._context import in_new_thread

_ZEROS: dict[tuple[torch.dtype, torch.device], Tensor] = {}


def zeros_like(x: Tensor) -> Tensor:
    """Read-only zeros with the shape, dtype and device of x: one element, expanded."""
    if type(x) is not Tensor:  # a traced zero must not outlive its trace
        return torch.zeros_like(x)
    key = x.dtype, x.device
    zero = _ZEROS.get(key)
    if zero is None or zero._version:  # or was written to, as a hook can
        if x.is_cuda and torch.cuda.is_current_stream_capturing():  # would be the graph's memory
            return torch.zeros_like(x)
        # In a new thread no mode or transform can wrap it, which it would outlive.
        zero = _ZEROS[key] = in_new_thread(_zero, *key)
    return zero.expand(x.shape)


def _zero(dtype: torch.dtype, device: torch.device) -> Tensor:
    zero = torch.zeros((), dtype=dtype, device=device)
    if zero.is_cuda:  # other streams read it next
        torch.cuda.current_stream(device).synchronize()
    return zero
