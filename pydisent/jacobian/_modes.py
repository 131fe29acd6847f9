"""Modes of PyTorch: CUDA graph capture, ``torch.func``, and a caller's function modes."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode_stack,
    _pop_mode,
    _push_mode,
)


def is_capturing() -> bool:
    """Whether the current CUDA stream records a graph, so that nothing can be read back."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def can_keep_tensors() -> bool:
    """Whether a tensor made now may be cached: one of a graph or of a dispatch mode must not be."""
    return not is_capturing() and not torch._C._len_torch_dispatch_stack()


def transforms_are_active() -> bool:
    """Whether a torch.func transform, or forward mode, is active."""
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch.autograd.forward_ad._current_level >= 0
    )


def _is_the_callers(mode: TorchFunctionMode) -> bool:
    return not type(mode).__module__.startswith(("torch.", "pydisent."))


@contextmanager
def without_callers_modes() -> Iterator[list[TorchFunctionMode]]:
    """A context in which a caller's function modes are inactive; yields these, outermost first.

    Such a mode may replace functions, which is right for the caller's function but not for the
    engine's own computation.
    """
    if not torch._C._len_torch_function_stack():
        yield []
        return
    modes = _get_current_function_mode_stack()
    callers = [mode for mode in modes if _is_the_callers(mode)]
    own = [mode for mode in modes if not _is_the_callers(mode)]
    _replace(modes, own)
    try:
        yield callers
    finally:
        _replace(own, modes)


@contextmanager
def beneath_callers_modes(*modes: AbstractContextManager[Any]) -> Iterator[None]:
    """A context in which ``modes`` are active and see the calls that a caller's modes make."""
    with without_callers_modes() as callers, ExitStack() as stack:
        for mode in modes:
            stack.enter_context(mode)
        _replace([], callers)
        try:
            yield
        finally:
            _replace(callers, [])


def _replace(active: Sequence[TorchFunctionMode], modes: Sequence[TorchFunctionMode]) -> None:
    for _ in active:
        _pop_mode()
    for mode in modes:
        _push_mode(mode)
