"""The table of decompositions, and helpers that several of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import BuiltinFunctionType
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._ops import OpOverloadPacket

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
    """Register a function as the decomposition of native ones, and of their operators."""

    def register(function: _F) -> _F:
        for native in natives:
            DECOMPOSITIONS.update(dict.fromkeys((native, *operators_of(native)), function))
        return function

    return register


def operators_of(native: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """The operators behind a function written in C, which take its arguments in the same order.

    Graphs made by ``torch.export`` and ``make_fx`` call these.
    """
    packet: Any = native
    if isinstance(native, BuiltinFunctionType):
        packet = getattr(torch.ops.aten, native.__name__, None)
    if isinstance(packet, OpOverloadPacket):
        yield packet
        for overload in (getattr(packet, name) for name in packet.overloads()):
            if not any(argument.is_out for argument in overload._schema.arguments):
                yield overload


def widen(x: Tensor) -> Tensor:
    """Half precision as float32, in which native kernels accumulate."""
    return x.float() if x.dtype in _HALVES else x
