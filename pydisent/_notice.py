"""Warnings that point at the caller's line, outside of pydisent and torch."""

import os
import sys
import warnings

import torch

_given: set[str] = set()


def warn(message: str) -> None:
    """Warn at the innermost stack frame that is neither in pydisent nor in torch."""
    warnings.warn(f"pydisent: {message}", stacklevel=_callers_level())


def warn_once(message: str) -> None:
    """As `warn`, but only once per process for each message."""
    if message not in _given:
        _given.add(message)
        warnings.warn(f"pydisent: {message}", stacklevel=_callers_level())


def _callers_level() -> int:
    """The `stacklevel` of the innermost frame that is neither in pydisent nor in torch."""
    inside = tuple(
        os.path.dirname(os.path.abspath(module.__file__ or "")) + os.sep
        for module in (sys.modules["pydisent"], torch)
    )
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and os.path.abspath(frame.f_code.co_filename).startswith(inside):
        level, frame = level + 1, frame.f_back
    return level
