"""Operations visible only in the autograd graph, differentiated by reverse mode twice.

A custom ``autograd.Function``, TorchScript, a ``torch.func`` transform or ``torch.autograd.grad``
inside a function are invisible to a ``TorchFunctionMode``. The part of the autograd graph that they
leave between traced values becomes one step of the program. It is a live piece of the function's
graph: nothing is run again, and gradients of pushed tangents flow through that graph to its leaves
rather than to captured values.
"""

from __future__ import annotations

import functools
import inspect
import re
import weakref
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge

from pydisent.jacobian._adjoint import (
    adjoint_holds,
    bent_by_reverse,
    coarsest,
    normal_like,
    once,
)
from pydisent.jacobian._call import DerivativeError
from pydisent.jacobian._hooks import Hooks
from pydisent.jacobian._modes import is_capturing
from pydisent.jacobian._refused import refuse_node
from pydisent.jacobian._step import Bending, Push

Edge = tuple[Any, int]  # a node of the autograd graph, and the number of its output


def edge_of(tensor: Tensor) -> Edge | None:
    """A tensor's edge in the autograd graph, which identifies it while the graph is alive."""
    node = tensor.grad_fn
    return None if node is None else (node, tensor.output_nr)


@dataclass(frozen=True)
class Region:
    """The part of the autograd graph between a tensor and the traced values that it depends on."""

    nodes: list[Any]
    boundary: list[Edge]

    @classmethod
    def behind(cls, node: Any, is_known: Callable[[Edge], bool], apart: Container) -> Region:
        """Walk back from ``node`` to traced values, nodes in ``apart``, or the graph's ends."""
        pending, nodes = [node], {node: None}
        boundary: dict[Edge, None] = {}
        while pending:
            for parent, number in pending.pop().next_functions:
                if parent is None or parent in apart:
                    continue
                if is_known((parent, number)):
                    boundary[parent, number] = None
                elif parent not in nodes:
                    nodes[parent] = None
                    pending.append(parent)
        return cls(list(nodes), list(boundary))

    @property
    def name(self) -> str:
        """The names of its custom functions, or else of its nodes."""
        own = dict.fromkeys(function_name(n) for n in self.nodes if is_custom(n))
        inner = [n for n in self.nodes if not hasattr(n, "variable")]
        return ", ".join(own or dict.fromkeys(n.name() for n in inner[:4]))

    @property
    def is_custom(self) -> bool:
        """Whether it consists of ``autograd.Function``s alone."""
        return all(is_custom(n) for n in self.nodes if not hasattr(n, "variable"))


def is_custom(node: Any) -> bool:
    """Whether a node belongs to an ``autograd.Function`` written in Python."""
    return isinstance(node, BackwardCFunction)


def function_name(node: Any) -> str:
    """The name of the ``autograd.Function`` of a node."""
    return getattr(node._forward_cls, "__qualname__", node.name())


@contextmanager
def cut_at(edges: Sequence[Edge]) -> Iterator[None]:
    """A context in which gradients stop at the given edges of the autograd graph."""
    with ExitStack() as stack:
        for node, number in edges:
            stack.callback(node.register_prehook(without(number)).remove)
        yield


def without(number: int) -> Callable:
    """A pre-hook for a graph node: no gradient passes through its output ``number``."""

    def hook(cotangents):
        return tuple(
            torch.zeros_like(c) if i == number and c is not None else c
            for i, c in enumerate(cotangents)
        )

    return hook


def leaves_behind(node: Any, stop: Any) -> list[Tensor]:
    """The leaves of the autograd graph that ``node`` depends on, other than through ``stop``."""
    pending, seen, leaves = [node], {node, stop}, {}
    while pending:
        for parent, _ in pending.pop().next_functions:
            if parent is None or parent in seen:
                continue
            seen.add(parent)
            if hasattr(parent, "variable"):
                leaves[id(parent.variable)] = parent.variable
            else:
                pending.append(parent)
    return list(leaves.values())


def refuse_wrong_nodes(region: Region, operation: str) -> None:
    """Raise DerivativeError if a node of the region, of an operation of that name, is refused."""
    for node in region.nodes:
        refuse_node(node, operation)


def live_push(output: Tensor, region: Region, name: str, hooks: Hooks) -> Push:
    """J v of a region of the autograd graph, by reverse mode twice; checked at a random v."""
    edges = [GradientEdge(node, number) for node, number in region.boundary]
    assert output.grad_fn is not None
    end = GradientEdge(output.grad_fn, output.output_nr)  # the tensor may be overwritten later
    rows = _Rows()
    shape, dtype, device = output.shape, output.dtype, output.device

    def pulled_along(probe: Tensor, *, graph: bool) -> list[Tensor | None]:
        # One traced value may depend on another.
        stops = region.boundary if len(region.boundary) > 1 else ()
        with hooks.silent(), cut_at(stops):
            return list(
                torch.autograd.grad(
                    end, edges, probe, create_graph=graph, retain_graph=True, allow_unused=True
                )
            )

    def push(_captured: Sequence[Tensor], tangents: Sequence[Tensor]) -> Tensor:
        keep = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            probe = torch.zeros(shape, dtype=dtype, device=device, requires_grad=True)
            pulled = pulled_along(probe, graph=True)
            moved = [
                (part, t.to(part.dtype))
                for part, t in zip(pulled, tangents, strict=True)
                if part is not None and part.requires_grad
            ]
            if not moved:
                return tangents[0].new_zeros(len(tangents[0]), *shape)
            parts, tangents = map(list, zip(*moved))
            with hooks.silent():
                return rows(parts, probe, tangents, keep)

    if not is_capturing():  # which forbids reading back
        kinds = tuple(map(_kind_of, region.nodes))
        kind = None if None in kinds else (*kinds, len(edges), shape, dtype, device.type)
        once(kind, lambda: _check_push(push, pulled_along, output.detach(), name))
    return push


def _kind_of(node: Any) -> Any:
    """What determines a node's derivative formula, or None if that may depend on more."""
    if not is_custom(node):
        return node.name() if _NATIVE.fullmatch(node.name()) else None
    told = vars(node)  # what its forward saved for its backward, besides tensors
    around = _read_around(node._forward_cls)
    if around is None or not all(type(value) in _PLAIN for value in told.values()):
        return None
    own = weakref.ref(node._forward_cls)  # a class may be recreated at each step
    return own, tuple(told.items()), around, node.needs_input_grad


_PLAIN = (int, float, bool, str, type(None), torch.dtype, torch.device, torch.Size)
_FIXED = (ModuleType, FunctionType, BuiltinFunctionType)


def _read_around(function: type) -> tuple[tuple[str, Any], ...] | None:
    """The values that a custom function's backward reads from its class and from around it.

    None if it reads more there than numbers, strings and the like, such as a settings object.
    """
    base: Any = torch.autograd.Function
    own: Any = function
    backward = inspect.unwrap(own.backward if own.vjp is base.vjp else own.vjp)
    if not isinstance(backward, FunctionType):
        return None
    code, cells = backward.__code__, backward.__closure__ or ()
    around = {n: backward.__globals__[n] for n in code.co_names if n in backward.__globals__}
    try:
        around.update((name, cell.cell_contents) for name, cell in zip(code.co_freevars, cells))
    except ValueError:  # a variable without a value
        return None
    read = [(name, v) for name, v in around.items() if v is not function and not _is_fixed(v)]
    bases = function.__mro__[: function.__mro__.index(base)]
    read += [(n, v) for part in bases for n, v in vars(part).items() if type(v) in _PLAIN]
    return tuple(read) if all(type(value) in _PLAIN for _, value in read) else None


def _is_fixed(value: Any) -> bool:
    return isinstance(value, _FIXED) or value is Tensor


def live_bend(output: Tensor, region: Region, hooks: Hooks) -> Bending:
    """The second derivative of a region of the autograd graph, by reverse mode, pair by pair."""
    edges = [GradientEdge(node, number) for node, number in region.boundary]
    assert output.grad_fn is not None
    end, like = GradientEdge(output.grad_fn, output.output_nr), output.detach()

    def apply(_: Sequence[Tensor], a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        keep, rows = torch.is_grad_enabled(), []
        with hooks.silent(), torch.inference_mode(False), torch.enable_grad():
            for first, second in zip(zip(*a[: len(edges)]), zip(*b[: len(edges)])):
                # One traced value may depend on another, and tangents on all of them.
                stops = [edge for edge in map(edge_of, first) if edge is not None]
                cut = functools.partial(cut_at, [*region.boundary, *stops])
                rows += bent_by_reverse([end], edges, [like], first, second, keep=keep, cut=cut)
        return torch.stack(rows)

    return apply


# Nodes of PyTorch's own, whose derivatives are determined by their names and shapes.
_NATIVE = re.compile(r"[A-Za-z]\w*Backward\d*|torch::autograd::AccumulateGrad")


class _Rows:
    """K pulled-back cotangents (K, *source.shape), by vmap, or one by one if that fails."""

    def __init__(self) -> None:
        self._at_once = True

    def __call__(
        self, ends: Sequence[Tensor], source: Tensor, cotangents: Sequence[Tensor], graph: bool
    ) -> Tensor:
        def pulled(cotangents: Sequence[Tensor], *, batched: bool) -> Tensor:
            return torch.autograd.grad(
                ends,
                source,
                cotangents,
                create_graph=graph,
                retain_graph=True,
                materialize_grads=True,
                is_grads_batched=batched,
            )[0]

        if self._at_once and len(cotangents[0]) > 1:
            try:
                return pulled(cotangents, batched=True)
            except (RuntimeError, NotImplementedError, ValueError, LookupError):
                self._at_once = False
        rows = zip(*(cotangent.unbind() for cotangent in cotangents))
        return torch.stack([pulled(row, batched=False) for row in rows])


def _check_push(push: Push, pulled_along: Callable, output: Tensor, name: str) -> bool:
    """Raise DerivativeError if reverse mode is not differentiable in its cotangent.

    Tests v and w together, by <u, J v + 2 J w>, to detect a vmap that mixes them up. Returns False
    if all values were zero, which proves nothing.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    try:
        u = normal_like(output, generator)
        with torch.no_grad():
            pulled = pulled_along(u, graph=False)
            first = next((part for part in pulled if part is not None), None)
            if first is None:
                return False
            zero = first.new_zeros(2, *first.shape)
            pairs = [zero if p is None else normal_like(p, generator, 2) for p in pulled]
            both = push([], pairs)
            moved, tangents = both[0] + 2 * both[1], [pair[0] + 2 * pair[1] for pair in pairs]
    except (RuntimeError, NotImplementedError) as error:
        raise DerivativeError(
            f"'{name}' cannot be differentiated twice, which J v by its reverse mode needs "
            f"(is it marked once_differentiable?): {error}"
        ) from error
    if not adjoint_holds([u], [moved], pulled, tangents, coarsest([output, *tangents])):
        raise DerivativeError(
            f"the backward of '{name}' does not depend on its cotangent as a differentiable "
            "function: J v by its reverse mode would be wrong. Write it in torch operations, so "
            "that it can be differentiated twice"
        )
    return any(bool(part.any()) for part in pulled if part is not None)
