"""Functions that `torch.compile` leaves alone, or that do without it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar

import torch
import torch._compile

_WHY = (
    "torch.compile cannot trace what differentiates a function call by call: leave out "
    "fullgraph=True and the rest is compiled around it, or capture the whole step as a CUDA graph"
)
_P = ParamSpec("_P")
_R = TypeVar("_R")

# torch.compiler.disable imports the compiler, which takes a second, as soon as it decorates a
# function; torch's own way, as that is called.
_disable: Callable = getattr(torch._compile, "_disable_dynamo", torch.compiler.disable)


def run_eagerly(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Keep a function and what it calls out of `torch.compile`, which says why if it must not."""
    disabled: Callable = _disable(function)
    disabled._torchdynamo_disable = True  # type: ignore[attr-defined]
    disabled._torchdynamo_disable_msg = _WHY  # type: ignore[attr-defined]
    return disabled


# The compiler's stance is the process's own: the first thread that comes changes it, and the last
# that goes changes it back.
_lock = threading.Lock()
_stance = ExitStack()
_inside = 0


@contextmanager
def compiled_parts_run_eagerly() -> Iterator[None]:
    """A context in which parts that `torch.compile` has compiled show their operations."""
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
