"""Modes of PyTorch in which tensors cannot be read: CUDA graph capture, ``torch.func``."""

import torch


def is_capturing() -> bool:
    """Whether the current CUDA stream records a graph, so that nothing can be read back."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def transforms_are_active() -> bool:
    """Whether a torch.func transform, or forward mode, is active."""
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch.autograd.forward_ad._current_level >= 0
    )
