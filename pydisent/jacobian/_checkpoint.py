"""Disabling activation checkpointing inside a traced function."""

from __future__ import annotations

from torch import Tensor
from torch._C import _autograd


def keep_saved_tensors() -> None:
    """Disable activation checkpointing around the current call.

    Checkpointing would run its function again in backward, with native kernels in place of
    decompositions, and would free values that tangents need.
    """
    hooks = _autograd._top_saved_tensors_default_hooks(False)
    if hooks is not None and getattr(hooks[0], "__module__", "") == "torch.utils.checkpoint":
        _autograd._pop_saved_tensors_default_hooks()
        _autograd._push_saved_tensors_default_hooks(_pack, _unpack)


def _pack(tensor: Tensor) -> Tensor:
    return tensor.detach()  # or the graph would keep itself alive


def _unpack(tensor: Tensor) -> Tensor:
    return tensor
