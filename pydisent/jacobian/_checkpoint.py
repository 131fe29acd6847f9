"""Activation checkpointing inside a function, which tangents cannot use."""

from __future__ import annotations

from torch import Tensor
from torch._C import _autograd


def keep_saved_tensors() -> None:
    """Switch off activation checkpointing around the call at hand.

    Checkpointing runs its function again on the way back, with native kernels where a first pass
    had other operations; and what it would free is needed for tangents.
    """
    hooks = _autograd._top_saved_tensors_default_hooks(False)
    if hooks is not None and getattr(hooks[0], "__module__", "") == "torch.utils.checkpoint":
        _autograd._pop_saved_tensors_default_hooks()
        _autograd._push_saved_tensors_default_hooks(_pack, _unpack)


def _pack(tensor: Tensor) -> Tensor:
    return tensor.detach()  # the graph must not hold itself


def _unpack(tensor: Tensor) -> Tensor:
    return tensor
