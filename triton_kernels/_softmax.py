"""Cumulative softmaxes at some positions of rows, computed where they are needed.

Positions belong to one row or to a column of rows; the last axis, AXIS, runs along a row.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import exponential


@triton.jit
def load_places(x, at, stride, inside, other: tl.constexpr, DOUBLE: tl.constexpr):
    values = tl.load(x + at.to(tl.int64) * stride, mask=inside, other=other)
    return values.to(tl.float64 if DOUBLE else tl.float32)


@triton.jit
def _exponentials(
    logits, at, stride, length, first,
    AXIS: tl.constexpr, WHOLE: tl.constexpr, DOUBLE: tl.constexpr,
):  # fmt: skip
    """e^(x − peak) at the positions; a row's peak; its sums: total, before and after them.

    WHOLE means that the positions cover whole rows.
    """
    x = load_places(logits, at, stride, at < length, float("-inf"), DOUBLE)
    peak = tl.max(x, axis=AXIS, keep_dims=True)
    if WHOLE:
        e = exponential(x - peak, DOUBLE)
        total = tl.sum(e, axis=AXIS, keep_dims=True)
        before, after = tl.zeros_like(total), tl.zeros_like(total)
    else:
        BLOCK: tl.constexpr = at.shape[AXIS]
        for start in range(0, length, BLOCK):
            place = at - first + start
            x = load_places(logits, place, stride, place < length, float("-inf"), DOUBLE)
            peak = tl.maximum(peak, tl.max(x, axis=AXIS, keep_dims=True))
        total, before, after = tl.zeros_like(peak), tl.zeros_like(peak), tl.zeros_like(peak)
        for start in range(0, length, BLOCK):
            place = at - first + start
            x = load_places(logits, place, stride, place < length, float("-inf"), DOUBLE)
            part = tl.sum(exponential(x - peak, DOUBLE), axis=AXIS, keep_dims=True)
            total += part
            before += tl.where(start < first, part, 0.0)
            after += tl.where(start > first, part, 0.0)
        x = load_places(logits, at, stride, at < length, float("-inf"), DOUBLE)
        e = exponential(x - peak, DOUBLE)
    return e, peak, total, before, after


@triton.jit
def at_most(x, limit):
    return tl.where(x > limit, limit, x)  # NaN stays NaN


@triton.jit
def rising_gate(
    logits, at, stride, length, first,
    AXIS: tl.constexpr, WHOLE: tl.constexpr, DOUBLE: tl.constexpr,
):  # fmt: skip
    """Softmax (zero beyond the row's end) and cumax at some positions, from ``first`` on."""
    e, _, total, before, _ = _exponentials(logits, at, stride, length, first, AXIS, WHOLE, DOUBLE)
    # One division per row, not per position, as divisions are calls, which spill. So the last entry
    # is set to 1.
    share = 1.0 / total
    sums = at_most((before + tl.cumsum(e, axis=AXIS)) * share, 1.0)
    end = tl.where(total == total, 1.0, total)
    return e * share, tl.where(at + 1 < length, sums, end)


@triton.jit
def falling_gate(
    logits, at, stride, length, first,
    AXIS: tl.constexpr, WHOLE: tl.constexpr, DOUBLE: tl.constexpr,
):  # fmt: skip
    """Softmax and 1 − cumax at some positions, the latter as sums over later positions."""
    e, peak, total, _, after = _exponentials(logits, at, stride, length, first, AXIS, WHOLE, DOUBLE)
    inside = (at + 1 < length) & (at + 1 < first + at.shape[AXIS])
    x = load_places(logits, at + 1, stride, inside, float("-inf"), DOUBLE)
    following = tl.where(inside, exponential(x - peak, DOUBLE), 0.0)
    sums = after + tl.cumsum(following, axis=AXIS, reverse=True)
    share = 1.0 / total
    return e * share, at_most(sums * share, 1.0)


@triton.jit
def softmax_adjoint(grad, p, AXIS: tl.constexpr):
    """Gradient of the logits of whole rows: p (s − Σ p s), s_k = Σ_{i >= k} grad_i."""
    sums = tl.cumsum(grad, axis=AXIS, reverse=True)
    return p * (sums - tl.sum(p * sums, axis=AXIS, keep_dims=True))


@triton.jit
def gate_adjoint(
    grad, rise, fall, grad_rise, grad_fall, at, rise_stride, fall_stride, length, own,
    AXIS: tl.constexpr, DOUBLE: tl.constexpr,
):  # fmt: skip
    """Store the gradients of the logits of whole gates, given the gates' cotangents."""
    p, rising = rising_gate(rise, at, rise_stride, length, 0, AXIS, True, DOUBLE)
    q, falling = falling_gate(fall, at, fall_stride, length, 0, AXIS, True, DOUBLE)
    tl.store(grad_rise + at, softmax_adjoint(grad * falling, p, AXIS), mask=own & (at < length))
    tl.store(grad_fall + at, softmax_adjoint(-grad * rising, q, AXIS), mask=own & (at < length))
