"""Named profiler ranges around the stages of a training step."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.profiler import record_function

_F = TypeVar("_F", bound=Callable[..., Any])


def stage(name: str) -> Callable[[_F], _F]:
    """Wrap a method in a torch.profiler range, and in an NVTX range if `nvtx` is installed."""
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
