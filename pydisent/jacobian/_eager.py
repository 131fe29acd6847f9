"""Keeping `torch.compile` out of functions and contexts."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar

import torch
import torch._compile

_WHY = (
    "torch.compile cannot trace code that differentiates a function call by call: leave out "
    "fullgraph=True to compile the rest around it, or capture the whole step as a CUDA graph"
)
_P = ParamSpec("_P")
_R = TypeVar("_R")

# torch.compiler.disable imports the compiler, which takes a second, when it decorates a function;
# torch's internal decorator, only when the function is called.
_disable: Callable = getattr(torch._compile, "_disable_dynamo", torch.compiler.disable)


def run_eagerly(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Exclude a function and its callees from `torch.compile`, whose errors then say why."""
    disabled: Callable = _disable(function)
    disabled._torchdynamo_disable = True  # type: ignore[attr-defined]
    disabled._torchdynamo_disable_msg = _WHY  # type: ignore[attr-defined]
    return disabled


# The compiler's stance is global to the process: the first thread to enter changes it, and the last
# to leave restores it.
_lock = threading.Lock()
_stance = ExitStack()
_inside = 0


@contextmanager
def compiled_parts_run_eagerly() -> Iterator[None]:
    """A context in which compiled parts run eagerly, so that their operations are visible."""
    global _inside
    with _lock:
        if _inside == 0:
            _stance.enter_context(torch.compiler.set_stance("force_eager"))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _stance.close()
