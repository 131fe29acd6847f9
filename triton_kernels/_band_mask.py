"""Kernels of soft rectangular masks and of their adjoint: see ``gates.py``."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import product
from ._softmax import at_most, falling_gate, gate_adjoint, rising_gate


@triton.jit
def _gates(
    rise, fall, j, rectangles, at, rise_row, rise_place, fall_row, fall_place, length, first,
    WHOLE: tl.constexpr, DOUBLE: tl.constexpr,
):  # fmt: skip
    """Band gates of some rectangles of a mask, zero beyond the last rectangle or position."""
    row = tl.where(j < rectangles, j, rectangles - 1).to(tl.int64)[:, None]
    rise, fall = rise + row * rise_row, fall + row * fall_row
    _, rising = rising_gate(rise, at, rise_place, length, first, 1, WHOLE, DOUBLE)
    _, falling = falling_gate(fall, at, fall_place, length, first, 1, WHOLE, DOUBLE)
    return tl.where((j < rectangles)[:, None], rising * falling, 0.0)


@triton.jit
def mask_kernel(
    rise_h, fall_h, rise_w, fall_w, out,
    rise_h_mask, rise_h_row, rise_h_place, fall_h_mask, fall_h_row, fall_h_place,
    rise_w_mask, rise_w_row, rise_w_place, fall_w_mask, fall_w_row, fall_w_place,
    rectangles, height, width, high, wide,
    WHOLE_H: tl.constexpr, WHOLE_W: tl.constexpr, DOUBLE: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr, RECTANGLES: tl.constexpr,
):  # fmt: skip
    """Compute one of a mask's high x wide blocks: the mean of outer products of gates."""
    block = tl.program_id(0) % (high * wide)
    mask = (tl.program_id(0) // (high * wide)).to(tl.int64)
    h, w = block // wide * BLOCK_H, block % wide * BLOCK_W
    rows, columns = h + tl.arange(0, BLOCK_H), w + tl.arange(0, BLOCK_W)
    rise_h, fall_h = rise_h + mask * rise_h_mask, fall_h + mask * fall_h_mask
    rise_w, fall_w = rise_w + mask * rise_w_mask, fall_w + mask * fall_w_mask
    sums = tl.zeros([BLOCK_H, BLOCK_W], tl.float64 if DOUBLE else tl.float32)
    for first in range(0, rectangles, RECTANGLES):
        j = first + tl.arange(0, RECTANGLES)
        gates_h = _gates(
            rise_h, fall_h, j, rectangles, rows[None, :],
            rise_h_row, rise_h_place, fall_h_row, fall_h_place, height, h, WHOLE_H, DOUBLE,
        )  # fmt: skip
        gates_w = _gates(
            rise_w, fall_w, j, rectangles, columns[None, :],
            rise_w_row, rise_w_place, fall_w_row, fall_w_place, width, w, WHOLE_W, DOUBLE,
        )  # fmt: skip
        sums = product(tl.trans(gates_h), gates_w, sums, DOUBLE)
    at = (mask * height + rows)[:, None] * width + columns[None, :]
    mean = at_most(sums / rectangles, 1.0)  # a literal 1 would be a constant without a dtype
    tl.store(out + at, mean, mask=(rows < height)[:, None] & (columns < width)[None, :])


@triton.jit
def _cotangent(
    grad, rise, fall, rise_place, fall_place, along, across, length, others,
    WHOLE: tl.constexpr, DOUBLE: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """The cotangent of one whole gate: the mask's cotangent times the other side's gate, summed."""
    at = tl.arange(0, BLOCK).to(tl.int64)[:, None]
    total = tl.zeros([BLOCK], tl.float64 if DOUBLE else tl.float32)
    for first in range(0, others, CHUNK):
        other = first + tl.arange(0, CHUNK)
        _, rising = rising_gate(rise, other, rise_place, others, first, 0, WHOLE, DOUBLE)
        _, falling = falling_gate(fall, other, fall_place, others, first, 0, WHOLE, DOUBLE)
        places = at * along + other.to(tl.int64)[None, :] * across
        inside = (at < length) & (other < others)[None, :]
        values = tl.load(grad + places, mask=inside, other=0.0).to(total.dtype)
        total += tl.sum(values * (rising * falling)[None, :], axis=1)
    return total


@triton.jit
def mask_adjoint_kernel(
    grad, rise_h, fall_h, rise_w, fall_w, grad_rise_h, grad_fall_h, grad_rise_w, grad_fall_w,
    grad_mask, grad_h, grad_w,
    rise_h_mask, rise_h_row, rise_h_place, fall_h_mask, fall_h_row, fall_h_place,
    rise_w_mask, rise_w_row, rise_w_place, fall_w_mask, fall_w_row, fall_w_place,
    rectangles, height, width,
    WHOLE_H: tl.constexpr, WHOLE_W: tl.constexpr, DOUBLE: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr, CHUNK_H: tl.constexpr, CHUNK_W: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of the four rows of logits of one rectangle of one mask."""
    row = tl.program_id(0).to(tl.int64)
    mask, j = row // rectangles, row % rectangles
    grad += mask * grad_mask
    rise_h, fall_h = rise_h + mask * rise_h_mask + j * rise_h_row, fall_h + mask * fall_h_mask
    rise_w, fall_w = rise_w + mask * rise_w_mask + j * rise_w_row, fall_w + mask * fall_w_mask
    fall_h, fall_w = fall_h + j * fall_h_row, fall_w + j * fall_w_row
    to_h = _cotangent(
        grad, rise_w, fall_w, rise_w_place, fall_w_place, grad_h, grad_w, height, width,
        WHOLE_W, DOUBLE, BLOCK_H, CHUNK_W,
    )  # fmt: skip
    gate_adjoint(
        to_h / rectangles, rise_h, fall_h, grad_rise_h + row * height, grad_fall_h + row * height,
        tl.arange(0, BLOCK_H), rise_h_place, fall_h_place, height, True, 0, DOUBLE,
    )  # fmt: skip
    to_w = _cotangent(
        grad, rise_h, fall_h, rise_h_place, fall_h_place, grad_w, grad_h, width, height,
        WHOLE_H, DOUBLE, BLOCK_W, CHUNK_H,
    )  # fmt: skip
    gate_adjoint(
        to_w / rectangles, rise_w, fall_w, grad_rise_w + row * width, grad_fall_w + row * width,
        tl.arange(0, BLOCK_W), rise_w_place, fall_w_place, width, True, 0, DOUBLE,
    )  # fmt: skip
