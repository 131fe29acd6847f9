"""Triton kernels of the gate ops: cumulative softmax gates, their outer products, and adjoints.

Softmaxes are computed where they are needed, a block of a row at a time, and never stored. No sum
crosses programs, so that bits are repeatable.

Floor, with s bytes a number and L logits (n a row and side, M masks of J bands): a gate of one side
2 L s bytes, of two 1.5 L s, and 5 L operations; the adjoints 3 L s, 2.5 L s and 12 L. A mask with
L = 2 M J (H + W) takes (L + M H W) s and 5 L + 2 M J H W; its adjoint (2 L + M H W) s and
12 L + 4 M J H W.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._softmax import at_most, falling_gate, load_places, rising_gate

# Places of a row that a program of a gate owns.
_ROW = 128
# Elements of a mask, or of its gradient, that a program holds at a time; half in float64.
_TILE = 4096
# Registers a thread that the mask's kernel may have: left to itself, ptxas takes fewer and spills.
_REGISTERS = 168


@triton.jit
def _gate(
    rise, fall, rise_stride, fall_stride, length, first, BLOCK: tl.constexpr, DOUBLE: tl.constexpr
):
    """The band gate of the places [first, first + BLOCK) of a row; zeros beyond its end."""
    _, rising = rising_gate(rise, rise_stride, length, first, BLOCK, DOUBLE)
    return rising * falling_gate(fall, fall_stride, length, first, BLOCK, DOUBLE)


@triton.jit
def _rising_adjoint(grad, p):
    """Gradient of the logits of a whole row: p (s − Σ p s), s_k = Σ_{i >= k} grad_i."""
    sums = tl.cumsum(grad, axis=0, reverse=True)
    return p * (sums - tl.sum(p * sums, axis=0))


@triton.jit
def gate_kernel(
    rise, fall, out, rise_row, rise_place, fall_row, fall_place, length,
    FALLS: tl.constexpr, DOUBLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A block of one row's band gate, or of its cumax."""
    row = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1).to(tl.int64) * BLOCK
    rise += row * rise_row
    if FALLS:
        fall += row * fall_row
        gate = _gate(rise, fall, rise_place, fall_place, length, first, BLOCK, DOUBLE)
    else:
        _, gate = rising_gate(rise, rise_place, length, first, BLOCK, DOUBLE)
    at = first + tl.arange(0, BLOCK)
    tl.store(out + row * length + at, gate, mask=at < length)


@triton.jit
def _gate_adjoint(
    grad, rise, fall, grad_rise, grad_fall, rise_stride, fall_stride, length,
    BLOCK: tl.constexpr, DOUBLE: tl.constexpr,
):  # fmt: skip
    """Store the gradients of the logits of one whole gate, which has this cotangent."""
    at = tl.arange(0, BLOCK)
    p, rising = rising_gate(rise, rise_stride, length, 0, BLOCK, DOUBLE)
    q, _ = rising_gate(fall, fall_stride, length, 0, BLOCK, DOUBLE)
    falling = falling_gate(fall, fall_stride, length, 0, BLOCK, DOUBLE)
    rise_gradient = _rising_adjoint(grad * falling, p)
    fall_gradient = _rising_adjoint(-grad * rising, q)
    tl.store(grad_rise + at, rise_gradient, mask=at < length)
    tl.store(grad_fall + at, fall_gradient, mask=at < length)


@triton.jit
def gate_adjoint_kernel(
    grad, rise, fall, grad_rise, grad_fall,
    grad_row, grad_place, rise_row, rise_place, fall_row, fall_place, length,
    FALLS: tl.constexpr, DOUBLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of the logits of one row."""
    row, at = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    g = load_places(grad + row * grad_row, at, grad_place, at < length, 0.0, DOUBLE)
    rise += row * rise_row
    if FALLS:
        _gate_adjoint(
            g, rise, fall + row * fall_row, grad_rise + row * length, grad_fall + row * length,
            rise_place, fall_place, length, BLOCK, DOUBLE,
        )  # fmt: skip
    else:
        p, _ = rising_gate(rise, rise_place, length, 0, BLOCK, DOUBLE)
        tl.store(grad_rise + row * length + at, _rising_adjoint(g, p), mask=at < length)


@triton.jit
def mask_kernel(
    rise_h, fall_h, rise_w, fall_w, out,
    rise_h_mask, rise_h_row, rise_h_place, fall_h_mask, fall_h_row, fall_h_place,
    rise_w_mask, rise_w_row, rise_w_place, fall_w_mask, fall_w_row, fall_w_place,
    rectangles, height, width, DOUBLE: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """A block of one mask: the mean over the rectangles of outer products of gates."""
    mask = tl.program_id(0).to(tl.int64)
    h, w = tl.program_id(1).to(tl.int64) * BLOCK_H, tl.program_id(2).to(tl.int64) * BLOCK_W
    rise_h, fall_h = rise_h + mask * rise_h_mask, fall_h + mask * fall_h_mask
    rise_w, fall_w = rise_w + mask * rise_w_mask, fall_w + mask * fall_w_mask
    sums = tl.zeros([BLOCK_H, BLOCK_W], tl.float64 if DOUBLE else tl.float32)
    for _ in range(rectangles):
        gate_h = _gate(rise_h, fall_h, rise_h_place, fall_h_place, height, h, BLOCK_H, DOUBLE)
        gate_w = _gate(rise_w, fall_w, rise_w_place, fall_w_place, width, w, BLOCK_W, DOUBLE)
        sums += gate_h[:, None] * gate_w[None, :]
        rise_h, fall_h = rise_h + rise_h_row, fall_h + fall_h_row
        rise_w, fall_w = rise_w + rise_w_row, fall_w + fall_w_row
    rows, columns = h + tl.arange(0, BLOCK_H), w + tl.arange(0, BLOCK_W)
    at = (mask * height + rows)[:, None] * width + columns[None, :]
    mean = at_most(sums / rectangles, 1.0)  # an argument of 1 is a constant, without a dtype
    tl.store(out + at, mean, mask=(rows < height)[:, None] & (columns < width)[None, :])


@triton.jit
def _cotangent(
    grad, rise, fall, rise_stride, fall_stride, along, across, length, others,
    DOUBLE: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """The cotangent of one whole gate: the mask's, summed with the other side's gate."""
    at = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float64 if DOUBLE else tl.float32)
    for first in range(0, others, CHUNK):
        gate = _gate(rise, fall, rise_stride, fall_stride, others, first, CHUNK, DOUBLE)
        other = first + tl.arange(0, CHUNK).to(tl.int64)
        places = at.to(tl.int64)[:, None] * along + other[None, :] * across
        inside = (at < length)[:, None] & (other < others)[None, :]
        values = tl.load(grad + places, mask=inside, other=0.0)
        total += tl.sum(values.to(tl.float64 if DOUBLE else tl.float32) * gate[None, :], axis=1)
    return total


@triton.jit
def mask_adjoint_kernel(
    grad, rise_h, fall_h, rise_w, fall_w, grad_rise_h, grad_fall_h, grad_rise_w, grad_fall_w,
    grad_mask, grad_h, grad_w,
    rise_h_mask, rise_h_row, rise_h_place, fall_h_mask, fall_h_row, fall_h_place,
    rise_w_mask, rise_w_row, rise_w_place, fall_w_mask, fall_w_row, fall_w_place,
    rectangles, height, width, DOUBLE: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
    CHUNK_H: tl.constexpr, CHUNK_W: tl.constexpr,
):  # fmt: skip
    """Gradients of the four rows of logits of one rectangle of one mask."""
    mask, j = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    grad += mask * grad_mask
    rise_h, fall_h = rise_h + mask * rise_h_mask + j * rise_h_row, fall_h + mask * fall_h_mask
    rise_w, fall_w = rise_w + mask * rise_w_mask + j * rise_w_row, fall_w + mask * fall_w_mask
    fall_h, fall_w = fall_h + j * fall_h_row, fall_w + j * fall_w_row
    row = mask * rectangles + j
    to_h = _cotangent(
        grad, rise_w, fall_w, rise_w_place, fall_w_place, grad_h, grad_w, height, width,
        DOUBLE, BLOCK_H, CHUNK_W,
    )  # fmt: skip
    _gate_adjoint(
        to_h / rectangles, rise_h, fall_h, grad_rise_h + row * height, grad_fall_h + row * height,
        rise_h_place, fall_h_place, height, BLOCK_H, DOUBLE,
    )  # fmt: skip
    to_w = _cotangent(
        grad, rise_h, fall_h, rise_h_place, fall_h_place, grad_w, grad_h, width, height,
        DOUBLE, BLOCK_W, CHUNK_H,
    )  # fmt: skip
    _gate_adjoint(
        to_w / rectangles, rise_w, fall_w, grad_rise_w + row * width, grad_fall_w + row * width,
        rise_w_place, fall_w_place, width, BLOCK_W, DOUBLE,
    )  # fmt: skip


def _block(length: int, limit: int) -> int:
    return min(limit, _whole(length))


def _tile(x: Tensor) -> int:
    return _TILE // 2 if x.dtype == torch.float64 else _TILE


def _whole(length: int) -> int:
    """The block of a program that owns a whole row, as an adjoint's sums run from its end."""
    return max(2, triton.next_power_of_2(length))


def _strides(*tensors: Tensor) -> list[int]:
    return [stride for x in tensors for stride in x.stride()]


def _run_gate(rise: Tensor, fall: Tensor | None) -> Tensor:
    rows, length = rise.shape
    out = rise.new_empty(rows, length)
    if rows > 0:
        block, other = _block(length, _ROW), rise if fall is None else fall
        gate_kernel[rows, triton.cdiv(length, block)](
            rise, other, out, *_strides(rise, other), length,
            FALLS=fall is not None, DOUBLE=rise.dtype == torch.float64, BLOCK=block, num_warps=1,
        )  # fmt: skip
    return out


def _run_gate_adjoint(grad: Tensor, rise: Tensor, fall: Tensor | None) -> tuple[Tensor, Tensor]:
    rows, length = rise.shape
    grads = rise.new_empty(rows, length), rise.new_empty(0 if fall is None else (rows, length))
    if rows > 0:
        other, block = rise if fall is None else fall, _whole(length)
        gate_adjoint_kernel[(rows,)](
            grad, rise, other, *grads, *_strides(grad, rise, other), length,
            FALLS=fall is not None, DOUBLE=rise.dtype == torch.float64, BLOCK=block,
            num_warps=max(1, min(16, block // 128)),
        )  # fmt: skip
    return grads


def cumax(logits: Tensor) -> Tensor:
    """Launch the op of that name."""
    return _run_gate(logits, None)


def cumax_backward(grad_sums: Tensor, logits: Tensor) -> Tensor:
    """Launch the op of that name."""
    return _run_gate_adjoint(grad_sums, logits, None)[0]


def band_gate(rise: Tensor, fall: Tensor) -> Tensor:
    """Launch the op of that name."""
    return _run_gate(rise, fall)


def band_gate_backward(grad_gate: Tensor, rise: Tensor, fall: Tensor) -> tuple[Tensor, Tensor]:
    """Launch the op of that name."""
    return _run_gate_adjoint(grad_gate, rise, fall)


def band_mask(rise_h: Tensor, fall_h: Tensor, rise_w: Tensor, fall_w: Tensor) -> Tensor:
    """Launch the op of that name."""
    (masks, rectangles, height), width = rise_h.shape, rise_w.shape[2]
    out = rise_h.new_empty(masks, height, width)
    if masks > 0:
        wide = _block(width, 64)
        high = _block(height, _tile(rise_h) // 64)
        mask_kernel[masks, triton.cdiv(height, high), triton.cdiv(width, wide)](
            rise_h, fall_h, rise_w, fall_w, out, *_strides(rise_h, fall_h, rise_w, fall_w),
            rectangles, height, width, DOUBLE=rise_h.dtype == torch.float64,
            BLOCK_H=high, BLOCK_W=wide, maxnreg=_REGISTERS,
        )  # fmt: skip
    return out


def band_mask_backward(
    grad_mask: Tensor, rise_h: Tensor, fall_h: Tensor, rise_w: Tensor, fall_w: Tensor
) -> tuple[Tensor, ...]:
    """Launch the op of that name."""
    (masks, rectangles, height), width = rise_h.shape, rise_w.shape[2]
    logits = rise_h, fall_h, rise_w, fall_w
    grads = tuple(x.new_empty(x.shape) for x in logits)
    if masks > 0:
        high, wide = _whole(height), _whole(width)
        mask_adjoint_kernel[masks, rectangles](
            grad_mask, *logits, *grads, *_strides(grad_mask, *logits), rectangles, height, width,
            DOUBLE=rise_h.dtype == torch.float64, BLOCK_H=high, BLOCK_W=wide,
            CHUNK_H=_block(height, max(2, _tile(rise_h) // wide)),
            CHUNK_W=_block(width, max(2, _tile(rise_h) // high)),
        )  # fmt: skip
    return grads


def _compilations() -> list[tuple[object, dict[str, str], dict[str, int], dict[str, int]]]:
    """List typical configurations of every kernel: float32, bfloat16 and float64."""
    found = []
    for kernel, options in (
        (gate_kernel, {"FALLS": 0, "BLOCK": _ROW}),
        (gate_kernel, {"FALLS": 1, "BLOCK": _ROW}),
        (gate_adjoint_kernel, {"FALLS": 0, "BLOCK": 256}),
        (gate_adjoint_kernel, {"FALLS": 1, "BLOCK": 256}),
        (mask_kernel, {"BLOCK_H": 64, "BLOCK_W": 64}),
        (mask_adjoint_kernel, {"BLOCK_H": 64, "BLOCK_W": 64, "CHUNK_H": 64, "CHUNK_W": 64}),
        (mask_adjoint_kernel, {"BLOCK_H": 512, "BLOCK_W": 512, "CHUNK_H": 8, "CHUNK_W": 8}),
    ):
        for storage in ("*fp32", "*bf16", "*fp64"):
            constants = {"DOUBLE": int(storage == "*fp64"), **options}
            for side in {"BLOCK_H", "CHUNK_H", "CHUNK_W"} & options.keys():
                # As launched, half the tile in float64.
                halved = storage == "*fp64" and (side != "BLOCK_H" or kernel is mask_kernel)
                constants[side] //= 2 if halved else 1
            types = dict.fromkeys(constants, "constexpr")
            types |= dict.fromkeys(("length", "rectangles", "height", "width"), "i32")
            types |= {n: "i64" for n in kernel.arg_names if n.endswith(("_row", "_place", "_mask"))}
            if kernel is mask_adjoint_kernel:
                types |= {"grad_h": "i64", "grad_w": "i64"}
            signature = {name: types.get(name, storage) for name in kernel.arg_names}
            launch = {"num_warps": {gate_kernel: 1, gate_adjoint_kernel: 2}.get(kernel, 4)}
            launch |= {"maxnreg": _REGISTERS} if kernel is mask_kernel else {}
            found.append((kernel, signature, constants, launch))
    return found


#: What tests compile for every GPU: kernel, types of its arguments, values of its constants.
COMPILE = _compilations()
