"""Rules for the gate ops: K tangents share the primal's softmaxes, gates and masks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pydisent.jacobian._call import Call
from pydisent.jacobian._step import Step
from pydisent.jacobian.rules._base import rule
from pydisent.reference.dtypes import compute_dtype
from pydisent.reference.gates import falling, rising


def _sums_tangent(logits: Tensor, tangent: Tensor) -> Tensor:
    """The tangent of cumax: the cumulative sum of that of the softmax."""
    p = logits.softmax(-1)
    return (p * (tangent - (p * tangent).sum(-1, keepdim=True))).cumsum(-1)


def _gate_tangent(
    rise: Tensor, fall: Tensor, rise_tangent: Tensor | None, fall_tangent: Tensor | None
) -> Tensor | None:
    """The tangent of a band gate, or None if neither edge moves."""
    parts = []
    if rise_tangent is not None:
        parts.append(_sums_tangent(rise, rise_tangent) * falling(fall))
    if fall_tangent is not None:
        parts.append(-rising(rise) * _sums_tangent(fall, fall_tangent))
    return sum(parts[1:], parts[0]) if parts else None


def moving(call: Call, count: int) -> tuple[list[Tensor], list[Tensor], list[int]]:
    """The first ``count`` arguments, those among them that are traced, and their positions."""
    tensors = list(call.args[:count])
    places = [i for i, tensor in enumerate(tensors) if call.is_traced(tensor)]
    return tensors, [tensors[i] for i in places], places


def placed(tangents: list[Tensor], places: list[int], count: int) -> list[Tensor | None]:
    """The tangent of each of ``count`` arguments, None where an argument does not move."""
    table = dict(zip(places, tangents))
    return [table.get(i) for i in range(count)]


def _wide(captured: Sequence[Tensor], tangents: Sequence[Tensor]) -> tuple[list[Tensor], ...]:
    """Both in the dtype of the primal's arithmetic: rounding the logits changes the softmax."""
    dtype = compute_dtype(captured[0])
    return [x.to(dtype) for x in captured], [tangent.to(dtype) for tangent in tangents]


@rule("pydisent.cumax.default")
def _cumax(call: Call) -> Step:
    source = call.args[0]

    def push(captured, tangents):
        (logits,), (tangent,) = _wide(captured, tangents)
        return _sums_tangent(logits, tangent).to(tangents[0].dtype)

    return Step([source], [source], push, keep=True, by_rows=True)


@rule("pydisent.band_gate.default")
def _band_gate(call: Call) -> Step:
    tensors, inputs, places = moving(call, 2)

    def push(captured, tangents):
        (rise, fall), wide = _wide(captured, tangents)
        moved = _gate_tangent(rise, fall, *placed(wide, places, 2))
        assert moved is not None  # a call without moving arguments is not traced
        return moved.to(tangents[0].dtype)

    return Step(inputs, tensors, push, keep=True, by_rows=True)


@rule("pydisent.band_mask.default")
def _band_mask(call: Call) -> Step:
    """The product rule on the outer products, which a matrix product sums over rectangles."""
    tensors, inputs, places = moving(call, 4)

    def push(captured, tangents):
        (rise_h, fall_h, rise_w, fall_w), wide = _wide(captured, tangents)
        of_rise_h, of_fall_h, of_rise_w, of_fall_w = placed(wide, places, 4)
        of_h = _gate_tangent(rise_h, fall_h, of_rise_h, of_fall_h)
        of_w = _gate_tangent(rise_w, fall_w, of_rise_w, of_fall_w)
        parts = []
        if of_h is not None:
            parts.append(of_h.mT @ (rising(rise_w) * falling(fall_w)))
        if of_w is not None:
            parts.append((rising(rise_h) * falling(fall_h)).mT @ of_w)
        return (sum(parts[1:], parts[0]) / rise_h.shape[1]).to(tangents[0].dtype)

    return Step(inputs, tensors, push, keep=True, by_rows=True)
