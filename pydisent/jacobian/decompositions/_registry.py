"""The table of decompositions, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

DECOMPOSITIONS: dict[Callable[..., Any], Callable[..., Any]] = {}
"""Native function -> its decomposition, which takes the same arguments."""

# Whether a tracer sees what a decomposition calls, so that this may be native again.
traced: ContextVar[bool] = ContextVar("pydisent_traced_decomposition", default=False)

# Whether batch norms in training mode differentiate their batch's statistics, as PyTorch does; the
# Jacobian engine, whose samples are apart, holds them constant.
differentiate_statistics: ContextVar[bool] = ContextVar(
    "pydisent_differentiate_statistics", default=False
)

_HALVES = (torch.float16, torch.bfloat16)
_F = TypeVar("_F", bound=Callable[..., Any])


def decomposes(*natives: Callable[..., Any]) -> Callable[[_F], _F]:
    """Register a function as the decomposition of native ones."""

    def register(function: _F) -> _F:
        DECOMPOSITIONS.update(dict.fromkeys(natives, function))
        return function

    return register


def widen(x: Tensor) -> Tensor:
    """Half precision in float32, in which the native kernels sum it."""
    return x.float() if x.dtype in _HALVES else x
