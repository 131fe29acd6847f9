"""Cumulative softmaxes of some places of a row, computed where they are needed."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import exponential


@triton.jit
def load_places(x, at, stride, inside, other: tl.constexpr, DOUBLE: tl.constexpr):
    values = tl.load(x + at.to(tl.int64) * stride, mask=inside, other=other)
    return values.to(tl.float64 if DOUBLE else tl.float32)


@triton.jit
def softmax_statistics(logits, stride, length, first, BLOCK: tl.constexpr, DOUBLE: tl.constexpr):
    """A row's largest logit, and sums of exponentials: of all, before a block, and after it."""
    T: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    peak = tl.full((), float("-inf"), T)
    for start in range(0, length, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x = load_places(logits, at, stride, at < length, float("-inf"), DOUBLE)
        peak = tl.maximum(peak, tl.max(x, axis=0))
    total, before, after = tl.full((), 0.0, T), tl.full((), 0.0, T), tl.full((), 0.0, T)
    for start in range(0, length, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x = load_places(logits, at, stride, at < length, float("-inf"), DOUBLE)
        part = tl.sum(exponential(x - peak, DOUBLE), axis=0)
        total += part
        before += tl.where(start < first, part, 0.0)
        after += tl.where(start > first, part, 0.0)
    return peak, total, before, after


@triton.jit
def at_most(x, limit):
    return tl.where(x > limit, limit, x)  # NaN stays NaN


@triton.jit
def rising_gate(logits, stride, length, first, BLOCK: tl.constexpr, DOUBLE: tl.constexpr):
    """Softmax (zeros beyond the row's end) and cumax of the places [first, first + BLOCK)."""
    peak, total, before, _ = softmax_statistics(logits, stride, length, first, BLOCK, DOUBLE)
    at = first + tl.arange(0, BLOCK)
    x = load_places(logits, at, stride, at < length, float("-inf"), DOUBLE)
    e = exponential(x - peak, DOUBLE)
    # A quotient a row, not one a place: those are calls, which spill. So 1 is put at the end.
    share = 1.0 / total
    sums = at_most((before + tl.cumsum(e, axis=0)) * share, 1.0)
    end = tl.where(total == total, 1.0, total)
    return e * share, tl.where(at + 1 < length, sums, end)


@triton.jit
def falling_gate(logits, stride, length, first, BLOCK: tl.constexpr, DOUBLE: tl.constexpr):
    """1 − cumax of the places [first, first + BLOCK), as sums of what comes after each."""
    peak, total, _, after = softmax_statistics(logits, stride, length, first, BLOCK, DOUBLE)
    at = first + tl.arange(0, BLOCK)
    inside = (at + 1 < length) & (at + 1 < first + BLOCK)
    x = load_places(logits, at + 1, stride, inside, float("-inf"), DOUBLE)
    e = tl.where(inside, exponential(x - peak, DOUBLE), 0.0)
    sums = after + tl.cumsum(e, axis=0, reverse=True)
    return at_most(sums * (1.0 / total), 1.0)
