"""Named ranges around the stages of a training step, for profilers."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.profiler import record_function

_F = TypeVar("_F", bound=Callable[..., Any])


def stage(name: str) -> Callable[[_F], _F]:
    """Put a method in a range of torch.profiler, and of NVTX if `nvtx` is installed."""
    title = f"pydisent.{name}"

    def decorate(function: _F) -> _F:
        ranged = _with_nvtx(title, function)

        @functools.wraps(function)
        def staged(*args: Any, **kwargs: Any) -> Any:
            if not torch.autograd._profiler_enabled():
                return ranged(*args, **kwargs)
            with record_function(title):
                return ranged(*args, **kwargs)

        return staged  # type: ignore[return-value]

    return decorate


def _with_nvtx(title: str, function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        import nvtx
    except ImportError:
        return function
    return nvtx.annotate(title, domain="pydisent")(function)
