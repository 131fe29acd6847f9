"""The tangent program: a function's derivative as a list of linear steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from pydisent.jacobian._call import DerivativeError, differentiable
from pydisent.jacobian._diagonal import fuse_diagonals, like_tangent
from pydisent.jacobian._hidden import cut_at, edge_of, without
from pydisent.jacobian._layout import is_channels_last
from pydisent.jacobian._modes import without_callers_modes
from pydisent.jacobian._step import Push, Step
from pydisent.jacobian._views import overlaps_itself
from pydisent.jacobian.cost import Work

_PRODUCTS = frozenset(
    "linear matmul __matmul__ bmm mm addmm baddbmm einsum conv1d conv2d conv3d conv_transpose1d "
    "conv_transpose2d conv_transpose3d bilinear".split()
)
_SMALL = 1 << 12  # elements that are allocated faster than the check for an overwrite takes
_IMAGE_CONVOLUTIONS = ("conv2d", "conv_transpose2d")
NOTHING: Mapping[int, Any] = MappingProxyType({})
Kept = Mapping[int, list[Tensor]]  # by slots
Watch = Callable[[Step[int], list[Tensor]], list[Tensor]]


class Program:
    """The derivative of a traced function at one point, as a list of linear steps.

    Running it forward gives J v for K tangents at once. As its operations are differentiable and
    linear in the tangents, autograd can transpose it (J'u), and differentiate it with respect to
    the captured tensors (the gradient of a Jacobian penalty).
    """

    def __init__(
        self,
        steps: list[Step[int]],
        captured: list[Tensor],
        outputs: list[int | None],
        output_shapes: list[torch.Size],
        slot_sizes: dict[int, int],
        input_slot: int,
        *,
        live: Sequence[Tensor] = (),
        rounding: float = 0.0,
        origins: dict[int, Any] | None = None,
    ) -> None:
        self.rounding = rounding
        # Outputs that depend on the input, and the slots of their tangents.
        self.moved = [i for i, slot in enumerate(outputs) if slot is not None]
        self.results = [slot for slot in outputs if slot is not None]
        self.output_shapes = output_shapes
        self.input_slot = input_slot
        self.steps = _drop_unused(steps, self.results)
        # One entry per tensor and dtype, which is its own or that of the tangents.
        places: dict[tuple[int, bool], int] = {}
        for step in self.steps:
            step.captured = _places_of(step.captured, step.keep, places)
            if step.bend is not None:
                step.bend.reads = _places_of(step.bend.reads, step.keep, places)
        self.captured = [captured[index] for index, _ in places]
        self._kept = [keep for _, keep in places]
        self.steps = fuse_diagonals(self.steps, self.results)
        # What steps read through the autograd graph: the function's input and leaves.
        self.live = len(live) if any(step.live for step in self.steps) else 0
        self.captured += live[: self.live]
        self._origins = origins or {}
        self._slot_sizes = slot_sizes
        #: For each step, the slots that are not read after it.
        self.dead = self._liveness()

    def _liveness(self) -> list[tuple[int, ...]]:
        """For each step, the slots that are not read after it."""
        last = {slot: place for place, step in enumerate(self.steps) for slot in step.inputs}
        last.update(dict.fromkeys(self.results, len(self.steps)))
        return [
            tuple(slot for slot in dict.fromkeys(step.inputs) if last[slot] == place)
            for place, step in enumerate(self.steps)
        ]

    @property
    def elements_saved(self) -> int:
        """Elements kept in memory for a reverse pass, for one tangent of the whole batch."""
        slots = {slot for step in self.steps for slot in step.outputs}
        return sum(self._slot_sizes[slot] for slot in slots)

    def work(self) -> Work:
        """The work of pushing one tangent of the whole batch."""
        products = sum(map(self.products_of, self.steps))
        numbers = sum(
            self._slot_sizes[slot] for step in self.steps for slot in {*step.inputs, *step.outputs}
        )
        return Work(len(self.steps), products, numbers)

    def products_of(self, step: Step[int]) -> int:
        """The multiplications of a step for one tangent of the whole batch."""
        weight = self.captured[step.captured[0]] if step.captured else None
        if step.name not in _PRODUCTS or weight is None or weight.dim() <= 1:
            return 0
        # Each output is a sum over a row of the weight.
        side = step.inputs[0] if "transpose" in step.name else step.outputs[0]
        return self._slot_sizes[side] * (weight.numel() // max(1, weight.shape[0]))

    def recallable(self) -> dict[int, tuple[int, int]]:
        """Products whose reverse pass needs no push if their tangents are known.

        Maps the slot of each to its elements and multiplications. A sample's tangent there is a
        linear function of that sample's direction alone.
        """
        apart, found = {self.input_slot}, {}
        for step in self.steps:
            if step.by_rows and apart.issuperset(step.inputs):
                apart.update(step.outputs)
                if step.pull is not None and not any(step.is_complex):
                    (slot,) = step.outputs
                    found[slot] = self._slot_sizes[slot], self.products_of(step)
        return found

    @property
    def elements_peak(self) -> int:
        """Peak number of elements in a forward pass, for one tangent of the whole batch."""
        largest = 1
        for step in self.steps:
            slots = {*step.inputs, *step.outputs}
            largest = max(largest, sum(self._slot_sizes[slot] for slot in slots))
        return largest

    @property
    def general(self) -> list[str]:
        """The operations that have no rule of their own."""
        return list(dict.fromkeys(step.name for step in self.steps if step.general))

    @property
    def keeps_samples_apart(self) -> bool:
        """Whether the steps themselves prove that no sample moves another."""
        return all(step.by_rows for step in self.steps)

    @contextmanager
    def _cut_at_the_input(self) -> Iterator[None]:
        """A context in which no gradient flows past the function's input.

        The caller's graph accounts for that part.
        """
        edges = [edge_of(self.captured[-self.live])] if self.live else []
        with cut_at(edges):  # type: ignore[arg-type]
            yield

    def hold(self, steps: Sequence[Step[int]]) -> None:
        """Hold the results of some steps constant, in tangents and gradients."""
        held = {slot for step in steps for slot in step.outputs}
        for step in self.steps:
            if step.outputs[0] in held:
                step.push = _zeros(step.push)
                step.overwrites = step.pull = step.bend = None
        for slot in held:
            if slot in self._origins:
                origin, number = self._origins[slot]
                origin.register_prehook(without(number))

    def refuse_higher_order(self) -> None:
        """Raise DerivativeError if only the first derivatives of a step are right."""
        for step in self.steps:
            if step.only_first:
                raise DerivativeError(step.only_first)

    def prepare(self, dtype: torch.dtype) -> list[Tensor]:
        """The captured tensors, detached, as ``push`` reads them."""
        read = [
            tensor.detach() if keep else as_dtype(tensor.detach(), dtype)
            for tensor, keep in zip(self.captured, self._kept)
        ]
        for step in self.steps:
            if step.name in _IMAGE_CONVOLUTIONS and read[step.captured[0]].device.type != "cpu":
                weight = read[step.captured[0]]  # or cuDNN would convert it at each call
                if weight.dim() == 4:
                    read[step.captured[0]] = weight.contiguous(memory_format=torch.channels_last)
        return read + self.captured[len(self._kept) :]

    def attached(self, dtype: torch.dtype) -> list[Tensor]:
        """The captured tensors, attached to the function's graph, as ``push`` reads them."""
        self.refuse_higher_order()
        own = self.captured[: len(self._kept)]
        return [t if keep else as_dtype(t, dtype) for t, keep in zip(own, self._kept)]

    def leaves(
        self, prepared: Sequence[Tensor], needed: Sequence[bool]
    ) -> tuple[list[Tensor], list[int]]:
        """The prepared tensors as leaves of a new graph, and which of them need a gradient."""
        self.refuse_higher_order()
        leaves = list(prepared)
        wanted = [i for i, need in enumerate(needed) if need and differentiable(leaves[i])]
        for i in wanted:
            if i < len(leaves) - self.live:
                leaves[i] = leaves[i].detach().requires_grad_()
        return leaves, wanted

    def pull(
        self,
        ends: Sequence[Tensor],
        leaves: Sequence[Tensor],
        seeds: Sequence[Tensor],
        *,
        keep_graph: bool = False,
    ) -> tuple[Tensor | None, ...]:
        """Gradients of outputs with respect to leaves; DerivativeError if a step has none."""
        try:
            with self._cut_at_the_input():
                return torch.autograd.grad(
                    ends, leaves, seeds, allow_unused=True, retain_graph=keep_graph or self.live > 0
                )
        except (RuntimeError, NotImplementedError) as error:
            suspects = dict.fromkeys(step.name for step in self.steps if step.general or step.live)
            named = f" ({', '.join(suspects)})" if suspects else ""
            raise DerivativeError(
                f"an operation of fn{named} has no derivative of the order that the gradient of "
                f"the penalty needs: {error}"
            ) from error

    def push(
        self,
        tangents: Tensor,
        captured: Sequence[Tensor],
        *,
        overwrite: bool = False,
        watch: Watch | None = None,
        keep: Kept = NOTHING,
        known: Mapping[int, Tensor] = NOTHING,
    ) -> list[Tensor]:
        """Apply J to (K, B, m) tangents: one (K, *output.shape) tensor for each of ``moved``.

        ``overwrite`` lets steps write into tangents that are not read again; grad mode must be off.
        ``watch`` is called with each step's results and returns those to use. Tangents of the slots
        in ``keep`` are appended to its lists. Tangents in ``known``, whose steps have a ``pull``,
        are not recomputed.
        """
        values, kept = {self.input_slot: tangents}, list[Tensor]()
        dtype = tangents.dtype
        with torch.autocast(tangents.device.type, enabled=False), without_callers_modes():
            for step, dead in zip(self.steps, self.dead):
                arguments = [values[slot] for slot in step.inputs]
                if arguments and is_channels_last(arguments[0]):
                    _lay_out(captured, step.captured, arguments[0])
                read = [captured[index] for index in step.captured]
                for slot in dead:
                    del values[slot]
                push = step.push
                if known and step.outputs[0] in known:
                    push = step.known_as(known[step.outputs[0]])
                if overwrite and step.overwrites is not None and dead:
                    live = [tangents, *values.values(), *kept]
                    if arguments[0].numel() >= _SMALL and _owns_its_memory(arguments[0], live):
                        push = step.overwrites
                results = of_type(step, applied(push, read, arguments), dtype)
                if watch is not None:
                    results = watch(step, results)
                for slot, result in zip(step.outputs, results, strict=True):
                    values[slot] = result
                    if keep and slot in keep:
                        keep[slot].append(result)
                        kept.append(result)
        return [values[slot] for slot in self.results]


def of_type(
    step: Step[int], results: Tensor | Sequence[Tensor], dtype: torch.dtype
) -> list[Tensor]:
    """A step's results in the precision of ``dtype``, complex if the step's outputs are."""
    if isinstance(results, Tensor):
        results = (results,)
    results = [r if r.dtype is dtype else as_dtype(r, dtype) for r in results]
    if True in step.is_complex:  # a real value plus a complex constant, say
        results = [
            torch.complex(result, torch.zeros_like(result))
            if complex_ and not result.is_complex()
            else result
            for result, complex_ in zip(results, step.is_complex, strict=True)
        ]
    return results


def _places_of(
    indices: Sequence[int], keep: bool, places: dict[tuple[int, bool], int]
) -> tuple[int, ...]:
    """The places of captured tensors among those in ``places``, to which new ones are added."""
    return tuple([places.setdefault((index, keep), len(places)) for index in indices])


def as_dtype(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Floating and complex values in ``dtype``, or the complex type of its precision."""
    if value.is_complex():
        return value.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    return value.to(dtype) if value.is_floating_point() else value


def _lay_out(captured: Sequence[Tensor], places: Sequence[int], tangent: Tensor) -> None:
    """Give primal values the memory format of a step's tangents, once for all chunks."""
    for place in places:
        value = captured[place]
        if value.shape == tangent.shape[1:] and not value.requires_grad:
            captured[place] = like_tangent(value, tangent)  # type: ignore[index]


def _zeros(push: Push) -> Push:
    def held(captured, tangents):
        with torch.no_grad():
            results = push(captured, tangents)
        if isinstance(results, Tensor):
            return torch.zeros_like(results)
        return [torch.zeros_like(result) for result in results]

    return held


def applied(
    push: Push, captured: Sequence[Tensor], tangents: Sequence[Tensor]
) -> Tensor | Sequence[Tensor]:
    """Apply a step, in float32 if it has no kernel for a half type."""
    if tangents and tangents[0].dtype in (torch.float16, torch.bfloat16):
        try:
            return push(captured, tangents)
        except (RuntimeError, NotImplementedError):
            captured = [as_dtype(value, torch.float32) for value in captured]
            tangents = [as_dtype(tangent, torch.float32) for tangent in tangents]
    return push(captured, tangents)


def _owns_its_memory(tensor: Tensor, live: Sequence[Tensor]) -> bool:
    """Whether writing into ``tensor`` changes none of ``live``."""
    address = tensor.untyped_storage().data_ptr()
    if any(other.untyped_storage().data_ptr() == address for other in live):
        return False
    return not overlaps_itself(tensor)


def _drop_unused(steps: list[Step[int]], results: Sequence[int]) -> list[Step[int]]:
    """Drop the steps that no output depends on."""
    wanted = set(results)
    kept = []
    for step in reversed(steps):
        if wanted.intersection(step.outputs):
            wanted.update(step.inputs)
            kept.append(step)
    return kept[::-1]
