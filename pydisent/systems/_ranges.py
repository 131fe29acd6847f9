"""Named ranges around the stages of a training step, for profilers."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])


def stage(name: str) -> Callable[[_F], _F]:
    """Mark a method as a stage: an NVTX range if `nvtx` is installed, else nothing."""
    try:
        import nvtx
    except ImportError:
        return lambda function: function
    annotated = nvtx.annotate(f"pydisent.{name}", domain="pydisent")

    def decorate(function: _F) -> _F:
        return functools.wraps(function)(annotated(function))  # type: ignore[return-value]

    return decorate
