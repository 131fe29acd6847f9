"""Taylor mode: second directional derivatives, pushed through a program with the first ones.

Along directions v and w an operation f maps the second derivative h_vw of its input, and the first
derivatives h_v and h_w, to J h_vw + D²f[h_v, h_w]. J is the step's linear map, applied to the first
and second derivatives of all directions at once; D²f is its ``Bend``: a rule's own, or the
derivative of the map with respect to the captured primal values, along their tangents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pydisent.jacobian._call import DerivativeError
from pydisent.jacobian._modes import without_callers_modes
from pydisent.jacobian._program import Program, applied, of_type
from pydisent.jacobian._step import Step


class Pairs:
    """Pairs of directions, along which second derivatives are taken."""

    def __init__(self, left: Tensor | None = None, right: Tensor | None = None) -> None:
        self._left, self._right = left, right  # None if each direction is paired with itself

    @property
    def are_alike(self) -> bool:
        """Whether each direction is paired with itself."""
        return self._left is None

    def count(self, tangents: Tensor) -> int:
        """P, for tangents (K, ...)."""
        return len(tangents if self._left is None else self._left)

    def of(self, tangents: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Tangents (P, ...) along the first and along the second of each pair, from (K, ...)."""
        if self._left is None or self._right is None:
            return list(tangents), list(tangents)
        return [t[self._left] for t in tangents], [t[self._right] for t in tangents]


class _Jet:
    """First derivatives along K directions, and second ones along P pairs, or none if all are zero.

    They are available as one tensor (K + P, *primal.shape) and separately; each form is created on
    demand.
    """

    def __init__(self, count: int, both: Tensor | None, parts: tuple[Tensor, ...] = ()) -> None:
        self.count, self._both, self._parts = count, both, parts

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """The first derivatives, and the second ones unless they are zero."""
        if not self._parts:
            assert self._both is not None
            whole, rest = self._both, len(self._both) - self.count
            self._parts = whole.split([self.count, rest]) if rest else (whole,)
        return self._parts

    @property
    def both(self) -> Tensor:
        """First and second derivatives in one tensor."""
        if self._both is None:
            self._both = _joined(self._parts)
        return self._both

    @property
    def is_straight(self) -> bool:
        """Whether the second derivatives are zero."""
        if self._both is None:
            return len(self._parts) == 1
        return len(self._both) == self.count


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Tangents concatenated, images in their own memory format."""
    if parts[0].dim() != 5:
        return torch.cat(list(parts))
    return torch.cat([p.flatten(0, 1) for p in parts]).unflatten(0, (-1, parts[0].shape[1]))


def push_second(
    program: Program,
    tangents: Tensor,
    pairs: Pairs,
    captured: Sequence[Tensor],
    watch: Callable[[str, Tensor], None] | None = None,
) -> list[tuple[Tensor, Tensor | None]]:
    """J v (K, *out) and v'H w (P, *out), or None for zero, for each output that moves.

    The program must have been traced to second order. ``watch`` is called with the name of each
    step and with both derivatives of each of its results.
    """
    count = len(tangents)
    jets = {program.input_slot: _Jet(count, tangents)}
    with torch.autocast(tangents.device.type, enabled=False), without_callers_modes():
        for step, dead in zip(program.steps, program.dead):
            arguments = [jets[slot] for slot in step.inputs]
            for slot in dead:
                del jets[slot]
            results = _moved(step, arguments, pairs, captured, tangents.dtype)
            jets.update(zip(step.outputs, results, strict=True))
            for jet in results if watch is not None else ():
                watch(step.name, jet.both)  # type: ignore[misc]
    parts = [jets[slot].parts for slot in program.results]
    return [(part[0], part[1] if len(part) > 1 else None) for part in parts]


def _moved(
    step: Step[int],
    arguments: Sequence[_Jet],
    pairs: Pairs,
    captured: Sequence[Tensor],
    dtype: torch.dtype,
) -> list[_Jet]:
    count = arguments[0].count
    if step.bend is not None and step.bend.together is not None and pairs.are_alike:
        read = [captured[index] for index in step.bend.reads]
        both = step.bend.together(read, arguments[0].both, count)
        if both is not None:
            return [_Jet(count, both)]
    read = [captured[index] for index in step.captured]
    straight = all(jet.is_straight for jet in arguments)
    tangents = [jet.parts[0] for jet in arguments] if straight else _all(arguments)
    pushed = [_Jet(count, t) for t in of_type(step, applied(step.push, read, tangents), dtype)]
    if step.bend is None:
        return pushed
    firsts = [jet.parts[0] for jet in (*arguments, *pushed)]
    read = [captured[index] for index in step.bend.reads]
    try:
        bent = of_type(step, step.bend.apply(read, *pairs.of(firsts)), dtype)
    except (RuntimeError, NotImplementedError) as error:
        if isinstance(error, DerivativeError) or "memory" in str(error):
            raise
        raise DerivativeError(
            f"PyTorch has no second derivative of '{step.name}' along tangents: {error}"
        ) from error
    return [
        _Jet(count, None, (jet.parts[0], jet.parts[1] + more if len(jet.parts) > 1 else more))
        for jet, more in zip(pushed, bent, strict=True)
    ]


def _all(arguments: Sequence[_Jet]) -> list[Tensor]:
    """First and second derivatives of each argument, zeros where it has no second ones."""
    longest = max(len(jet.both) for jet in arguments)
    result = []
    for jet in arguments:
        whole, missing = jet.both, longest - len(jet.both)
        if missing:
            whole = torch.cat([whole, whole.new_zeros(missing, *whole.shape[1:])])
        result.append(whole)
    return result
