"""In-place writes: which calls write, and into what."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket

from pydisent.jacobian._call import DerivativeError, bind, tensors_in
from pydisent.jacobian._modes import is_capturing

_AUGMENTED = frozenset(
    f"__i{name}__"
    for name in "add sub mul matmul truediv floordiv div mod pow and or xor lshift rshift".split()
)
# Methods that end in an underscore but change no value.
_NO_WRITE = frozenset(
    "requires_grad_ retain_grad share_memory_ rename_ detach_ sparse_resize_ resize_".split()
)


@dataclass(slots=True)
class Write:
    """A call that writes into ``targets``, and the equivalent out-of-place call, if any."""

    targets: list[Tensor]
    func: Callable | None = None
    args: tuple = ()
    kwargs: dict[str, Any] | None = None


def write_of(func: Callable, name: str, args: tuple, kwargs: dict[str, Any]) -> Write | None:
    """The write that a call performs, or None."""
    if not kwargs and not _can_write(func, name):
        return None
    if name == "__setitem__":
        return Write([args[0]], set_item, args, {})
    if kwargs.get("out") is not None:
        return Write(tensors_in(kwargs["out"]))
    if name in _AUGMENTED:
        return Write([args[0]], getattr(Tensor, "__" + name[3:], None), args, kwargs)
    if name.endswith("_") and not name.startswith("_") and name not in _NO_WRITE:
        bound, named = bind(func, args, kwargs)
        if not bound or not isinstance(bound[0], Tensor):
            targets = tensors_in(bound[:1])  # torch._foreach_mul_ and the like
            return Write(targets) if targets else None
        return Write([bound[0]], _out_of_place(func, name), bound, named)
    position = _inplace_position(func)
    if position < 0:
        return None
    bound, named = bind(func, args, kwargs)
    if len(bound) > position and bound[position]:
        without = (*bound[:position], False, *bound[position + 1 :])
        return Write([bound[0]], func, without, named)
    if named.get("inplace", False):
        return Write([bound[0]], func, bound, {k: v for k, v in named.items() if k != "inplace"})
    return None


@functools.lru_cache(4096)
def _can_write(func: Callable, name: str) -> bool:
    """Whether a call with only positional arguments may write."""
    named = name in _AUGMENTED or name == "__setitem__" or name.endswith("_")
    return named or _inplace_position(func) >= 0


@functools.lru_cache(4096)
def _written_places(func: Callable) -> tuple[tuple[int, str], ...]:
    """The positions and names of the arguments that an operator writes into."""
    overloads = [func] if isinstance(func, OpOverload) else []
    if isinstance(func, OpOverloadPacket):
        overloads = [getattr(func, name) for name in func.overloads()]
    return tuple(
        (place, argument.name)
        for overload in overloads
        for place, argument in enumerate(overload._schema.arguments)
        if argument.is_write
    )


def written_by(func: Callable, args: tuple, kwargs: dict[str, Any]) -> list[Tensor]:
    """The arguments that an operator writes into, according to its schema."""
    places = _written_places(func)
    given = (args[i] if i < len(args) else kwargs.get(name) for i, name in places)
    return list(tensors_in(list(given)))


# Writes whose result does not depend on the old value; the graph shows it.
_OVERWRITES = frozenset(
    "zero_ uniform_ normal_ bernoulli_ exponential_ cauchy_ log_normal_ geometric_ random_".split()
)


@functools.lru_cache(4096)
def _out_of_place(func: Callable, name: str) -> Callable | None:
    if name in _OVERWRITES:
        return None
    if name == "copy_":
        return copied
    packet = getattr(torch.ops.aten, name[:-1], None)
    places: tuple[Any, ...] = (Tensor, torch, torch.nn.functional)
    if isinstance(func, (OpOverload, OpOverloadPacket)) and packet is not None:
        return packet
    return next((getattr(p, name[:-1]) for p in places if hasattr(p, name[:-1])), None)


@functools.lru_cache(4096)
def _inplace_position(func: Callable) -> int:
    """The position of a Python function's argument ``inplace``, or -1."""
    try:
        names = list(inspect.signature(func).parameters)
    except (TypeError, ValueError):
        return -1  # written in C
    return names.index("inplace") if "inplace" in names else -1


def with_copies(value: Any, copies: dict[int, Tensor]) -> Any:
    """Arguments with tensors replaced by their copies, which are given by id."""
    if isinstance(value, Tensor):
        return copies.get(id(value), value)
    if type(value) in (tuple, list):
        return type(value)(with_copies(item, copies) for item in value)
    if type(value) is dict:
        return {key: with_copies(item, copies) for key, item in value.items()}
    return value


def refuse_overlap(
    name: str, written: Tensor, func: Callable, args: tuple, kwargs: dict[str, Any]
) -> None:
    """Raise DerivativeError if a write is not that of ``func`` on copies of its arguments.

    It may have read elements that it had written before.
    """
    with torch.no_grad():
        expected = func(*args, **kwargs)
    if is_capturing():
        return
    near = max(1e-4, 4 * torch.finfo(written.dtype).eps)
    if not torch.allclose(written, expected.to(written.dtype), near, near * 1e-3, equal_nan=True):
        raise DerivativeError(
            f"'{name}' reads elements that it also writes, so that its result depends on their "
            "order: clone() the argument that overlaps the one that is written"
        )


def set_item(target: Tensor, index: Any, value: Any) -> Tensor:
    """``target`` with ``target[index] = value``, out of place."""
    result = target.clone()
    result[index] = value
    return result


def copied(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """The value of ``target`` after ``target.copy_(source)``."""
    return source.to(target.device, target.dtype).expand_as(target)
