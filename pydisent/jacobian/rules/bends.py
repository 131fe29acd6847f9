"""Second derivatives of steps: a rule's own, or the derivative of its map by captured tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pydisent.jacobian._call import DerivativeError, differentiable
from pydisent.jacobian._hidden import Region, edge_of
from pydisent.jacobian._step import Bend, Bending, Push, Step
from pydisent.jacobian._values import Values
from pydisent.jacobian.rules._base import FLAT, dense, over_tangents, vmap_kind


def add_bend(
    recorded: Step[int], step: Step[Tensor], values: Values, capture: Callable[[Tensor], int]
) -> None:
    """Give a recorded step its second derivative; DerivativeError if there is none."""
    if step.bend is FLAT:
        return
    if step.bend is not None:
        reads = tuple(map(capture, step.bend.reads))
        recorded.bend = Bend(reads, step.bend.apply, step.bend.together)
    else:
        slots = [_slot_of(tensor, values, recorded.name) for tensor in step.captured]
        if all(slot is None for slot in slots):
            return
        known = (*recorded.inputs, *recorded.outputs)
        more = tuple(dict.fromkeys(s for s in slots if s is not None and s not in known))
        push, count = recorded.push, len(recorded.inputs)
        if more:
            recorded.inputs = (*recorded.inputs, *more)
            recorded.push = lambda captured, tangents: push(captured, tangents[:count])
            recorded.overwrites = None
        all_slots = [*recorded.inputs, *recorded.outputs]
        places = [None if slot is None else all_slots.index(slot) for slot in slots]
        recorded.bend = Bend(recorded.captured, _derivative_of(recorded.name, push, count, places))
    recorded.scale, recorded.is_identity = None, False


def _slot_of(tensor: Tensor, values: Values, name: str) -> int | None:
    """The slot of a captured value's tangent, None if the value does not depend on z."""
    edge = edge_of(tensor)
    if edge is None or not differentiable(tensor):
        return None
    if edge in values.slots:
        return values.slots[edge]
    if edge[0] in values.apart:
        return None
    region = Region.behind(edge[0], values.slots.__contains__, values.apart)
    if not region.boundary:
        values.apart.update(region.nodes)
        return None
    raise DerivativeError(f"there is no rule for the second derivative of '{name}'")


def _derivative_of(name: str, push: Push, count: int, places: Sequence[int | None]) -> Bending:
    """The derivative of a linear map with respect to captured tensors, by forward mode."""
    moving = [i for i, place in enumerate(places) if place is not None]

    def apply(read: Sequence[Tensor], a: Sequence[Tensor], b: Sequence[Tensor]) -> tuple:
        read = [x.resolve_conj() for x in read]  # forward mode does not accept conjugate views
        primals = tuple(dense(read[i]) for i in moving)
        along = [b[places[i]].to(read[i].dtype).resolve_conj() for i in moving]  # type: ignore[index]

        def one(*tangents: Tensor) -> tuple[Tensor, ...]:
            inputs, directions = tangents[:count], tangents[count:]

            def mapped(*values: Tensor) -> tuple[Tensor, ...]:
                filled = list(read)
                for i, value in zip(moving, values):
                    filled[i] = value
                results = push(filled, [t[None] for t in inputs])
                results = (results,) if isinstance(results, Tensor) else results
                return tuple(result[0] for result in results)

            return torch.func.jvp(mapped, primals, directions)[1]

        tangents = [*a[:count], *along]
        like = vmap_kind(push.__code__, [*read, *tangents], name, *places)
        return over_tangents(one, tangents, like)

    return apply
