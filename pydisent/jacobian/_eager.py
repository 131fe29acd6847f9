"""Functions that `torch.compile` leaves alone."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
import torch._compile

_P = ParamSpec("_P")
_R = TypeVar("_R")

# torch.compiler.disable imports the compiler, which takes a second, as soon as it decorates a
# function; torch's own way, as that is called.
_disable: Callable = getattr(torch._compile, "_disable_dynamo", torch.compiler.disable)


def run_eagerly(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Keep a function and what it calls out of `torch.compile`."""
    disabled: Callable[_P, _R] = _disable(function)
    return disabled
