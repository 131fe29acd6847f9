"""A torch call as the tangent rules see it: by name, with its arguments bound."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket

from pydisent.jacobian._draws import RandomState
from pydisent.jacobian._step import Step


class DerivativeError(RuntimeError):
    """PyTorch's derivative of an operation, which the message names, is missing or wrong."""


class NoRuleError(Exception):
    """A rule does not cover the given arguments; the general rule takes over."""


@dataclass(slots=True)
class Call:
    """One torch call that touches a traced value.

    ``args`` holds every argument before the first omitted one, however it was passed; ``held`` are
    argument lists that a rule's map reads later.
    """

    func: Callable
    name: str
    args: tuple
    kwargs: dict[str, Any]
    out: Any
    is_traced: Callable[[Any], bool]
    drawn: RandomState | None = None  # before the call, if it drew random numbers
    held: list[list[Any]] | None = None

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """The argument given at ``position`` or by ``name``."""
        if len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(name, default)

    def hold(self, values: list[Any]) -> list[Any]:
        """Protect the tensors of a list from later in-place writes."""
        self.held = [*(self.held or ()), values]
        return values

    def replayed(self) -> AbstractContextManager[None]:
        """A context in which the call draws the same random numbers again."""
        return self.drawn.replayed() if self.drawn is not None else nullcontext()


Rule = Callable[[Call], Step[Tensor]]
GeneralRule = Callable[[Call], Step[Tensor] | None]


def differentiable(value: Any) -> bool:
    """Whether a value can carry a tangent."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


# -- names ---------------------------------------------------------------------------------------


@functools.lru_cache(4096)
def name_of(func: Callable) -> str:
    """A function's name in the table of rules (``rfft``), with namespace for custom operators."""
    if isinstance(func, (OpOverload, OpOverloadPacket)):
        full = str(func)
        return full.split(".")[1] if full.startswith("aten.") else full
    name = getattr(func, "__name__", "")
    for prefix in ("fft_", "special_"):
        if name.startswith(prefix) and len(name) > len(prefix):
            return name[len(prefix) :]
    return name


@functools.lru_cache(4096)  # bounded, as it keeps closures alive
def is_foreign(func: Callable) -> bool:
    """Whether a function is not torch's own, so that its name says nothing about it."""
    if isinstance(func, (OpOverload, OpOverloadPacket)):
        return not str(func).startswith(("aten.", "pydisent."))
    module = getattr(func, "__module__", None)
    return inspect.isfunction(func) and not (module or "").startswith(("torch.", "pydisent."))


def owner_of(types: Iterable[type]) -> Any:
    """The first argument type that overrides ``__torch_function__``, or None."""
    if not torch._C._is_torch_function_enabled():  # inside such an override
        return None
    for kind in types:
        handler: Any = getattr(kind, "__torch_function__", None)
        if handler is _DISABLED or getattr(handler, "__func__", None) is _OF_TENSORS:
            continue
        return kind
    return None


_OF_TENSORS = Tensor.__torch_function__.__func__  # type: ignore[attr-defined]
_DISABLED = torch._C._disabled_torch_function_impl


# -- arguments -----------------------------------------------------------------------------------

# NumPy's argument names, which torch's argument parser accepts.
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
    """Move keyword arguments to their positions, up to the first omitted argument."""
    if not kwargs:
        return args, kwargs
    moved, named = _binding(func, len(args), tuple(kwargs))
    bound = (*args, *[kwargs[given] for given in moved]) if moved else args
    return bound, {name: kwargs[given] for name, given in named}


@functools.lru_cache(4096)
def _binding(
    func: Callable, count: int, given: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The keywords that move behind ``count`` positional arguments; the others' names, as given."""
    for names in _positions(func):
        if count > len(names):
            continue
        aliases = {a: n for a, n in _NUMPY_NAMES.items() if a in given and a not in names}
        known = {aliases.get(name, name): name for name in given}
        free = names[count:]
        if not known.keys() & set(free):
            continue
        moved = list(itertools.takewhile(known.__contains__, free))
        rest = [(name, said) for name, said in known.items() if name not in moved]
        return tuple(known[name] for name in moved), tuple(rest)
    return (), tuple((name, name) for name in given)


@functools.lru_cache(4096)
def _positions(func: Callable) -> tuple[tuple[str, ...], ...]:
    """The names of a function's positional arguments, one tuple per overload."""
    try:
        parameters = inspect.signature(func).parameters.values()
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = tuple(p.name for p in parameters if p.kind in kinds)
        if names:
            return (names,)
    except (TypeError, ValueError):
        pass  # written in C: read the operators' schemas
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


_CONTAINERS = frozenset((list, tuple, dict, slice))


def settled(value: Any) -> Any:
    """A copy of arguments that is not affected when the caller later changes lists or counters."""
    kind = type(value)
    if kind is tuple:
        for part in value:
            if type(part) in _CONTAINERS:
                return tuple(map(settled, value))
        return value
    if kind is list:
        return list(map(settled, value))
    if kind is dict:
        return {name: _settled_number(name, part) for name, part in value.items()}
    if kind is slice:
        ends = (value.start, value.stop, value.step)
        return slice(*(int(end) if isinstance(end, Tensor) else end for end in ends))
    return value


def _settled_number(name: str, value: Any) -> Any:
    """As ``settled``; a factor given as a tensor is replaced by its current value."""
    if name in ("alpha", "beta") and isinstance(value, Tensor) and value.dim() == 0:
        return value.item()
    return settled(value)


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors among arguments, in the containers that torch functions take."""
    found: list[Tensor] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, (tuple, list)):
        for item in value:
            _collect(item, found)
    elif isinstance(value, dict):
        for item in value.values():
            _collect(item, found)


def generators_in(args: tuple, kwargs: dict[str, Any]) -> list[torch.Generator]:
    """The ``torch.Generator``s among the arguments."""
    return [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Generator)]
