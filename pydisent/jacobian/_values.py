"""The values that depend on z, identified by their edges in the autograd graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from pydisent.jacobian._call import DerivativeError, differentiable, tensors_in
from pydisent.jacobian._hidden import (
    Edge,
    Region,
    edge_of,
    function_name,
    is_custom,
    leaves_behind,
    live_bend,
    live_push,
    refuse_wrong_nodes,
)
from pydisent.jacobian._hooks import Hooks, behind_module_hooks
from pydisent.jacobian._intermediates import Intermediates, words_for
from pydisent.jacobian._memory import address_of
from pydisent.jacobian._step import Bend, Step
from pydisent.jacobian._views import picked, replaced, view_places
from pydisent.jacobian._writes import written_by


class Values:
    """Which tensors depend on z, the slots of their tangents, and the steps between them."""

    def __init__(self, z: Tensor, intermediates: Intermediates) -> None:
        self.z, self._batch = z, z.size(0)
        self.steps: list[Step[int]] = []
        self.slots: dict[Edge, int] = {}
        self.sizes: dict[int, int] = {}  # elements of the value of each slot
        self.has_rows: set[int] = set()  # slots of values with a row for each sample
        self.apart: set[Any] = {None}  # nodes of the autograd graph that z does not reach
        self.shown: dict[Any, str] = {}  # names of calls without a step, by their nodes
        self.hidden: list[str] = []  # operations visible only in the autograd graph
        self.live: dict[int, Tensor] = {}  # leaves that steps read through the graph
        self.hooks = Hooks()
        self.intermediates = intermediates
        self.rounding = 0.0  # machine epsilon of the coarsest dtype of a value
        self.input_slot = self.add(z)

    def slot_of(self, tensor: Any) -> int | None:
        """The slot of a value's tangent, or None if the value does not depend on z."""
        if not isinstance(tensor, Tensor):
            return None
        node = tensor.grad_fn
        if node in self.apart:
            return None
        slot = self.slots.get((node, tensor.output_nr))
        return self._discover(tensor, node) if slot is None else slot

    def is_traced(self, value: Any) -> bool:
        """Whether ``value`` is a tensor that depends on z."""
        return self.slot_of(value) is not None

    def reach(self, values: Iterable[Any]) -> bool:
        """Whether any tensor among the arguments is traced; unrolls ``tensors_in`` for speed."""
        for value in values:
            if isinstance(value, Tensor):
                if value.grad_fn is not None and self.slot_of(value) is not None:
                    return True
            elif isinstance(value, (tuple, list)):
                if self.reach(value):
                    return True
            elif isinstance(value, dict) and self.reach(value.values()):
                return True
        return False

    def is_new(self, value: Any) -> bool:
        """Whether a result is differentiable and not just a returned argument."""
        return (
            isinstance(value, Tensor)
            and value.grad_fn is not None
            and edge_of(value) not in self.slots
        )

    def add(self, tensor: Tensor) -> int:
        """A slot for the tangent of a new value."""
        slot = len(self.sizes)
        self.sizes[slot] = tensor.numel()
        if tensor.dim() and tensor.size(0) == self._batch:
            self.has_rows.add(slot)
        self.rounding = max(self.rounding, _rounding_of(tensor.dtype))
        node = tensor.grad_fn
        if node is not None:
            self.slots[node, tensor.output_nr] = slot
        return slot

    def _discover(self, tensor: Tensor, node: Any) -> int | None:
        """Record a value not seen in any call: a view of a traced value, or a hidden operation."""
        known = self.slots.get(behind_module_hooks(node, tensor.output_nr))
        if known is not None:
            self.slots[node, tensor.output_nr] = known
            return known
        region = Region.behind(node, self.slots.__contains__, self.apart)
        if not region.boundary:
            self.apart.update(region.nodes)
            return None
        if tensor.is_nested:
            raise DerivativeError(
                "fn makes a nested tensor, which has no tangents: pad its parts to one shape"
            )
        base = tensor._base if tensor._is_view() else None
        if base is not None and not any(map(is_custom, region.nodes)):
            source = self.slot_of(base)
            places = view_places(tensor, base)
            if source is not None and places is not None:
                return self._add_view(tensor, source, places)
        name = self.shown.get(node)
        refuse_wrong_nodes(region, name or region.name)
        if name is None and not region.is_custom:
            self.hidden.append(region.name)
        name = name or region.name
        push = live_push(tensor, region, name, self.hooks)
        for leaf in leaves_behind(node, self.z.grad_fn):
            self.live[id(leaf)] = leaf
        slot = self.add(tensor)
        inputs = tuple(self.slots[edge] for edge in region.boundary)
        bend = Bend[int]((), live_bend(tensor, region, self.hooks))
        step = Step(inputs, (), push, (slot,), name=name, live=True, bend=bend)
        step.only_first = self._lost_by(region)
        self.steps.append(step)
        return slot

    def _lost_by(self, region: Region) -> str:
        """Why derivatives of a region of higher than first order are wrong, or nothing."""
        for node in filter(is_custom, region.nodes):
            with self.hooks.silent():
                value = self.intermediates.held_by(node)
            if value is not None:
                return words_for(function_name(node), value)
        return ""

    def _add_view(self, tensor: Tensor, source: int, places: Tensor) -> int:
        slot = self.add(tensor)
        push = lambda _, t: picked(t[0], places)  # noqa: E731
        self.steps.append(Step((source,), (), push, (slot,), name="view"))
        return slot

    def copies(self, target: Tensor, arguments: Any) -> dict[int, Tensor]:
        """Copies, by id, of the arguments that share memory with ``target``, before a write."""
        address = address_of(target)
        copies: dict[int, Tensor] = {}
        for tensor in tensors_in(arguments):
            if id(tensor) in copies or (tensor is not target and address_of(tensor) != address):
                continue
            slot = self.slot_of(tensor)
            copies[id(tensor)] = copy = tensor.clone()
            if slot is not None:
                self.slots[edge_of(copy)] = slot  # type: ignore[index]
        return copies

    def write_through(self, view: Tensor, base: Tensor, source: int | None) -> None:
        """Record a write into a view as one into its part of ``base``, whose slot is ``source``."""
        places = view_places(view, base)
        edge = edge_of(base)
        if places is None or edge is None or edge in self.slots:
            return
        shape = base.shape
        inputs = (self.slots[edge_of(view)],)  # type: ignore[index]

        def push(_, tangents):
            part, *rest = tangents
            whole = rest[0] if rest else part.new_zeros(len(part), *shape)
            return replaced(whole, places, part)

        slot = self.add(base)
        both = inputs if source is None else (*inputs, source)
        self.steps.append(Step(both, (), push, (slot,), name="write"))


@functools.cache
def _rounding_of(dtype: torch.dtype) -> float:
    """Machine epsilon of a dtype that can carry a tangent, else 0."""
    return torch.finfo(dtype).eps if dtype.is_floating_point or dtype.is_complex else 0.0


class LostDerivatives:
    """Floating-point results, or arguments written, whose derivative torch lacks and drops."""

    def __init__(self) -> None:
        self.results: dict[int, tuple[Tensor, str]] = {}

    def note(self, name: str, out: Any) -> None:
        """Remember the results of the operation ``name`` that lost their derivative."""
        for tensor in tensors_in(out):
            if differentiable(tensor) and not tensor.requires_grad:
                self.results[id(tensor)] = (tensor, name)

    def watched(self, func: Callable, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Run a foreign operator, and remember arguments that it writes without a derivative."""
        written = [(tensor, edge_of(tensor)) for tensor in written_by(func, args, kwargs)]
        out = func(*args, **kwargs)
        for tensor, edge in written:
            if differentiable(tensor) and edge_of(tensor) == edge:
                self.results[id(tensor)] = (tensor, name)
        return out

    def refuse(self, name: str, arguments: Any) -> None:
        """Raise DerivativeError if the operation ``name`` reads such a result."""
        for tensor in tensors_in(arguments):
            if id(tensor) in self.results and torch.is_grad_enabled():
                origin = self.results[id(tensor)][1]
                raise DerivativeError(
                    f"torch has no derivative of '{origin}', whose result '{name}' reads: it would "
                    "count as a constant. If that is intended, detach() it"
                )
