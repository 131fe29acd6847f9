"""The table of decompositions, and helpers that several of them share."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

DECOMPOSITIONS: dict[Callable[..., Any], Callable[..., Any]] = {}
"""Native function -> its decomposition, which takes the same arguments."""

# Whether a tracer sees the calls that a decomposition makes, so that these may be native.
traced: ContextVar[bool] = ContextVar("pydisent_traced_decomposition", default=False)

# Whether batch norms in training mode differentiate their batch statistics, as PyTorch does; the
# Jacobian engine, which needs independent samples, holds them constant.
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
    """Half precision as float32, in which native kernels accumulate."""
    return x.float() if x.dtype in _HALVES else x
