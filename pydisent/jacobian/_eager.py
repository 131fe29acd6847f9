"""Functions that `torch.compile` leaves alone."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
import torch._compile

WHY = (
    "it runs fn under modes of its own and differentiates it call by call, which torch.compile "
    "cannot put into a graph: compile without fullgraph=True, or capture the step as a CUDA graph"
)
_P = ParamSpec("_P")
_R = TypeVar("_R")

# torch.compiler.disable imports the compiler, which takes a second, as soon as it decorates a
# function; torch's own way, as that is called.
_disable: Callable = getattr(torch._compile, "_disable_dynamo", torch.compiler.disable)


def run_eagerly(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Keep a function and what it calls out of `torch.compile`."""
    disabled: Callable = _disable(function)
    disabled._torchdynamo_disable = True  # type: ignore[attr-defined]
    disabled._torchdynamo_disable_msg = WHY  # type: ignore[attr-defined]
    return disabled
