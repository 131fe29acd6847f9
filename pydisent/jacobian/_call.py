"""A torch call as the tangent rules see it: named, its arguments bound, its purpose known."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket

from pydisent.jacobian._draws import RandomState
from pydisent.jacobian._step import Step


class DerivativeError(RuntimeError):
    """A function uses an operation whose derivative PyTorch lacks or gets wrong; it is named."""


class NoRuleError(Exception):
    """A rule does not cover the arguments at hand; the general one takes over."""


@dataclass(slots=True)
class Call:
    """One torch call that touches a traced value.

    ``args`` has everything up to the first argument left out, whether it was given by position or
    by name; ``held`` are the lists of arguments that a rule's map reads later.
    """

    func: Callable
    name: str
    args: tuple
    kwargs: dict[str, Any]
    out: Any
    is_traced: Callable[[Any], bool]
    drawn: RandomState | None = None  # from before a call that drew random numbers
    held: list[list[Any]] | None = None

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """The argument given at ``position`` or by ``name``."""
        if len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(name, default)

    def hold(self, values: list[Any]) -> list[Any]:
        """Keep the contents of a list as they are, whatever is written into their memory later."""
        self.held = [*(self.held or ()), values]
        return values

    def replayed(self) -> AbstractContextManager[None]:
        """Within it the call draws the random numbers that it drew."""
        return self.drawn.replayed() if self.drawn is not None else nullcontext()


Rule = Callable[[Call], Step[Tensor]]
GeneralRule = Callable[[Call], Step[Tensor] | None]


def differentiable(value: Any) -> bool:
    """Whether a value can carry a tangent."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


# -- names ---------------------------------------------------------------------------------------


@functools.lru_cache(4096)
def name_of(func: Callable) -> str:
    """What the rules call a function: ``rfft``, ``relu``; a custom operator has its namespace."""
    if isinstance(func, (OpOverload, OpOverloadPacket)):
        full = str(func)
        return full.split(".")[1] if full.startswith("aten.") else full
    name = getattr(func, "__name__", "")
    for prefix in ("fft_", "special_"):
        if name.startswith(prefix) and len(name) > len(prefix):
            return name[len(prefix) :]
    return name


@functools.lru_cache(4096)  # not to hold a stranger's closures for ever
def is_foreign(func: Callable) -> bool:
    """Whether a function is not torch's own, so that its name says nothing about it."""
    if isinstance(func, (OpOverload, OpOverloadPacket)):
        return not str(func).startswith(("aten.", "pydisent."))
    module = getattr(func, "__module__", None)
    return inspect.isfunction(func) and not (module or "").startswith(("torch.", "pydisent."))


# -- arguments -----------------------------------------------------------------------------------

# The names that torch's argument parser takes for NumPy's sake.
_NUMPY_NAMES = {
    "axis": "dim",
    "keepdims": "keepdim",
    "x": "input",
    "a": "input",
    "self": "input",
    "x1": "input",
    "x2": "other",
}


def bind(func: Callable, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Put arguments given by name at their positions, as far as none before them is left out."""
    if not kwargs:
        return args, kwargs
    named = dict(kwargs)
    for names in _positions(func):
        if len(args) > len(names):
            continue
        aliases = {a: n for a, n in _NUMPY_NAMES.items() if a in named and a not in names}
        given = {aliases.get(name, name): value for name, value in named.items()}
        if not given.keys() & set(names[len(args) :]):
            continue
        bound = list(args)
        for name in names[len(args) :]:
            if name not in given:
                break
            bound.append(given.pop(name))
        return tuple(bound), given
    return args, named


@functools.lru_cache(4096)
def _positions(func: Callable) -> tuple[tuple[str, ...], ...]:
    """The names of a function's positional arguments, one tuple an overload."""
    try:
        parameters = inspect.signature(func).parameters.values()
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = tuple(p.name for p in parameters if p.kind in kinds)
        if names:
            return (names,)
    except (TypeError, ValueError):
        pass  # written in C: the operators' schemas tell
    return _schema_positions(func)


def _schema_positions(func: Callable) -> tuple[tuple[str, ...], ...]:
    name = getattr(func, "__name__", "").split(".")[0]
    packet = func if isinstance(func, OpOverloadPacket) else getattr(torch.ops.aten, name, None)
    if isinstance(func, OpOverload):
        overloads = [func]
    elif isinstance(packet, OpOverloadPacket):
        overloads = [getattr(packet, overload) for overload in packet.overloads()]
    else:
        return ()
    found = dict.fromkeys(
        tuple("input" if a.name == "self" else a.name for a in schema.arguments if not a.kwarg_only)
        for schema in (overload._schema for overload in overloads)
    )
    return tuple(found)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors among arguments, in the containers that torch functions take."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)


def generators_in(args: tuple, kwargs: dict[str, Any]) -> list[torch.Generator]:
    """The generators that a call was told to draw from."""
    return [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Generator)]


# -- writing in place ----------------------------------------------------------------------------

_AUGMENTED = frozenset(
    f"__i{name}__"
    for name in "add sub mul matmul truediv floordiv div mod pow and or xor lshift rshift".split()
)
# Methods with an underscore at the end that change no value.
_NO_WRITE = frozenset(
    "requires_grad_ retain_grad share_memory_ rename_ detach_ sparse_resize_ resize_".split()
)


@dataclass(slots=True)
class Write:
    """A call that writes into ``targets``: as one that returns the new value, if there is such."""

    targets: list[Tensor]
    func: Callable | None = None
    args: tuple = ()
    kwargs: dict[str, Any] | None = None


def write_of(func: Callable, name: str, args: tuple, kwargs: dict[str, Any]) -> Write | None:
    """What a call writes into, or None."""
    if not kwargs and not _can_write(func, name):
        return None
    if name == "__setitem__":
        return Write([args[0]], set_item, args, {})
    if kwargs.get("out") is not None:
        return Write(list(tensors_in(kwargs["out"])))
    if name in _AUGMENTED:
        return Write([args[0]], getattr(Tensor, "__" + name[3:], None), args, kwargs)
    if name.endswith("_") and not name.startswith("_") and name not in _NO_WRITE:
        bound, named = bind(func, args, kwargs)
        if not bound or not isinstance(bound[0], Tensor):
            targets = list(tensors_in(bound[:1]))  # of torch._foreach_mul_ and its like
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
    """Whether a call may write even if it is given positional arguments alone."""
    named = name in _AUGMENTED or name == "__setitem__" or name.endswith("_")
    return named or _inplace_position(func) >= 0


# Writes that leave nothing of the old value: found in the graph.
_OVERWRITES = frozenset(
    "zero_ uniform_ normal_ bernoulli_ exponential_ cauchy_ log_normal_ geometric_ random_".split()
)


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
    """Where a Python function has its argument ``inplace``, or -1."""
    try:
        names = list(inspect.signature(func).parameters)
    except (TypeError, ValueError):
        return -1  # written in C
    return names.index("inplace") if "inplace" in names else -1


def set_item(target: Tensor, index: Any, value: Any) -> Tensor:
    """``target`` with ``target[index] = value``, out of place."""
    result = target.clone()
    result[index] = value
    return result


def copied(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """What ``target.copy_(source)`` leaves in ``target``."""
    return source.to(target.device, target.dtype).expand_as(target)
