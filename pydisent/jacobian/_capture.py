"""CUDA graph capture, during which nothing can be read back from the GPU."""

import torch


def is_capturing() -> bool:
    """Whether the current CUDA stream records a graph."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
