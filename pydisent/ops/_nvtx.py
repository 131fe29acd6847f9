"""NVTX ranges around ops: a no-op where the ``nvtx`` package is not installed."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

_NOTHING: AbstractContextManager[Any] = nullcontext()

try:
    import nvtx
except ImportError:
    nvtx = None

#: Whether NVTX ranges are available.
HAS_RANGES = nvtx is not None


@functools.cache
def op_range(name: str) -> AbstractContextManager[Any]:
    """Return a context manager that marks a range of that name in a profile."""
    return _NOTHING if nvtx is None else nvtx.annotate(name, domain="pydisent")
