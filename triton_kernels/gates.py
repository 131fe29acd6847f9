"""Triton kernels of the gate ops: cumulative softmax gates, their outer products, and adjoints.

Softmaxes are computed where they are needed and never stored: by a program that owns whole rows,
unless they are longer than a block. No sum crosses programs, so results are bitwise reproducible.

Floor, with s bytes per number and L logits (n per row and side, M masks of J bands): a
one-sided gate moves 2 L s bytes, a two-sided one 1.5 L s, with 5 L operations; the adjoints 3 L s,
2.5 L s and 12 L. A mask with L = 2 M J (H + W) takes (L + M H W) s and 5 L + 2 M J H W; its adjoint
(2 L + M H W) s and 12 L + 4 M J H W.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._band_mask import mask_adjoint_kernel, mask_kernel
from ._common import blocks_of, power_of_2
from ._softmax import falling_gate, gate_adjoint, load_places, rising_gate, softmax_adjoint

# Maximum positions of a row per program of a gate, and positions per warp.
_ROW, _WARP = 4096, 512
# Positions of all rows of a program, if rows are shorter.
_PLACES = 256
# Maximum side of a mask's block; rectangles at a time, the inner size of a matrix product.
_SIDE, _RECTANGLES = 64, 16
# Registers per thread of the mask's kernel: by default, ptxas uses fewer and spills.
_REGISTERS = 255
# Elements of a mask's gradient that a program holds at a time; half as many in float64.
_TILE = 4096


@triton.jit
def _rows(rows, blocks, ROWS: tl.constexpr):
    """A program's rows (clamped to the last row), a mask of those inside, and its block."""
    row = (tl.program_id(0) // blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    return tl.where(row < rows, row, rows - 1), row < rows, tl.program_id(0) % blocks


@triton.jit
def gate_kernel(
    rise, fall, out, rise_row, rise_place, fall_row, fall_place, rows, length, blocks,
    FALLS: tl.constexpr, WHOLE: tl.constexpr, DOUBLE: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute blocks of some rows' band gates, or of their cumax."""
    row, own, block = _rows(rows, blocks, ROWS)
    first = block.to(tl.int64) * BLOCK
    at = first + tl.arange(0, BLOCK)[None, :]
    _, gate = rising_gate(rise + row * rise_row, at, rise_place, length, first, 1, WHOLE, DOUBLE)
    if FALLS:
        fall += row * fall_row
        _, falling = falling_gate(fall, at, fall_place, length, first, 1, WHOLE, DOUBLE)
        gate *= falling
    tl.store(out + row * length + at, gate, mask=own & (at < length))


@triton.jit
def gate_adjoint_kernel(
    grad, rise, fall, grad_rise, grad_fall,
    grad_row, grad_place, rise_row, rise_place, fall_row, fall_place, rows, length,
    FALLS: tl.constexpr, DOUBLE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of some rows' logits."""
    row, own, _ = _rows(rows, 1, ROWS)
    at = tl.arange(0, BLOCK)[None, :]
    g = load_places(grad + row * grad_row, at, grad_place, at < length, 0.0, DOUBLE)
    rise += row * rise_row
    if FALLS:
        gate_adjoint(
            g, rise, fall + row * fall_row, grad_rise + row * length, grad_fall + row * length,
            at, rise_place, fall_place, length, own, 1, DOUBLE,
        )  # fmt: skip
    else:
        p, _ = rising_gate(rise, at, rise_place, length, 0, 1, True, DOUBLE)
        tl.store(grad_rise + row * length + at, softmax_adjoint(g, p, 1), mask=own & (at < length))


@lru_cache(1024)
def _rows_of(length: int, most: int | None = None) -> dict[str, int]:
    """Rows and positions per program; an adjoint needs whole rows, as it sums from their end."""
    block = max(2, power_of_2(length))
    block = block if most is None else min(most, block)
    warps = max(1, min(16, block // _WARP))
    return {"ROWS": max(1, _PLACES // block), "BLOCK": block, "num_warps": warps}


def _run_gate(rise: Tensor, fall: Tensor | None) -> Tensor:
    rows, length = rise.shape
    out = rise.new_empty(rows, length)
    if rows > 0:
        shape, other = _rows_of(length, _ROW), rise if fall is None else fall
        blocks = blocks_of(length, shape["BLOCK"])
        gate_kernel[(blocks_of(rows, shape["ROWS"]) * blocks,)](
            rise, other, out, *rise.stride(), *other.stride(), rows, length, blocks,
            FALLS=fall is not None, WHOLE=blocks == 1, DOUBLE=rise.dtype == torch.float64, **shape,
        )  # fmt: skip
    return out


def _run_gate_adjoint(grad: Tensor, rise: Tensor, fall: Tensor | None) -> tuple[Tensor, Tensor]:
    rows, length = rise.shape
    grads = rise.new_empty(rows, length), rise.new_empty(0 if fall is None else (rows, length))
    if rows > 0:
        shape, other = _rows_of(length), rise if fall is None else fall
        gate_adjoint_kernel[(blocks_of(rows, shape["ROWS"]),)](
            grad, rise, other, *grads, *grad.stride(), *rise.stride(), *other.stride(),
            rows, length, FALLS=fall is not None, DOUBLE=rise.dtype == torch.float64, **shape,
        )  # fmt: skip
    return grads


def cumax(logits: Tensor) -> Tensor:
    """Launch the op of the same name."""
    return _run_gate(logits, None)


def cumax_backward(grad_sums: Tensor, logits: Tensor) -> Tensor:
    """Launch the op of the same name."""
    return _run_gate_adjoint(grad_sums, logits, None)[0]


def band_gate(rise: Tensor, fall: Tensor) -> Tensor:
    """Launch the op of the same name."""
    return _run_gate(rise, fall)


def band_gate_backward(grad_gate: Tensor, rise: Tensor, fall: Tensor) -> tuple[Tensor, Tensor]:
    """Launch the op of the same name."""
    return _run_gate_adjoint(grad_gate, rise, fall)


def _side(length: int, most: int) -> int:
    return min(most, max(16, power_of_2(length)))


@lru_cache(1024)
def _mask_shape(height: int, width: int, double: bool) -> tuple[int, int, dict[str, int]]:
    """Numbers of blocks along a mask's sides, and the shape of a block."""
    most = _SIDE // 2 if double else _SIDE
    high, wide = _side(height, most), _side(width, most)
    whole = {"WHOLE_H": height <= high, "WHOLE_W": width <= wide, "DOUBLE": double}
    block = {"BLOCK_H": high, "BLOCK_W": wide, "RECTANGLES": _RECTANGLES}
    launch = {"num_warps": min(4, high * wide // 256), "maxnreg": _REGISTERS}
    return blocks_of(height, high), blocks_of(width, wide), whole | block | launch


def band_mask(rise_h: Tensor, fall_h: Tensor, rise_w: Tensor, fall_w: Tensor) -> Tensor:
    """Launch the op of the same name."""
    (masks, rectangles, height), width = rise_h.shape, rise_w.shape[2]
    out = rise_h.new_empty(masks, height, width)
    if masks > 0:
        high, wide, shape = _mask_shape(height, width, rise_h.dtype == torch.float64)
        mask_kernel[(masks * high * wide,)](
            rise_h, fall_h, rise_w, fall_w, out,
            *rise_h.stride(), *fall_h.stride(), *rise_w.stride(), *fall_w.stride(),
            rectangles, height, width, high, wide, **shape,
        )  # fmt: skip
    return out


@lru_cache(1024)
def _mask_adjoint_shape(height: int, width: int, double: bool) -> dict[str, int]:
    high, wide = max(16, power_of_2(height)), max(16, power_of_2(width))
    tile = _TILE // 2 if double else _TILE
    short, narrow = min(high, max(2, tile // wide)), min(wide, max(2, tile // high))
    whole = {"WHOLE_H": height <= short, "WHOLE_W": width <= narrow, "DOUBLE": double}
    block = {"BLOCK_H": high, "BLOCK_W": wide, "CHUNK_H": short, "CHUNK_W": narrow}
    return whole | block | {"num_warps": 4}


def band_mask_backward(
    grad_mask: Tensor, rise_h: Tensor, fall_h: Tensor, rise_w: Tensor, fall_w: Tensor
) -> tuple[Tensor, ...]:
    """Launch the op of the same name."""
    (masks, rectangles, height), width = rise_h.shape, rise_w.shape[2]
    logits = rise_h, fall_h, rise_w, fall_w
    grads = tuple(x.new_empty(x.shape) for x in logits)
    if masks > 0:
        mask_adjoint_kernel[(masks * rectangles,)](
            grad_mask, *logits, *grads, *grad_mask.stride(),
            *rise_h.stride(), *fall_h.stride(), *rise_w.stride(), *fall_w.stride(),
            rectangles, height, width,
            **_mask_adjoint_shape(height, width, rise_h.dtype == torch.float64),
        )  # fmt: skip
    return grads


def _compilations() -> list[tuple[object, dict[str, str], dict[str, int], dict[str, int]]]:
    """List typical configurations of every kernel: float32, bfloat16 and float64."""
    found = []
    integers = "length rectangles height width rows blocks high wide"
    for storage in ("*fp32", "*bf16", "*fp64"):
        double = storage == "*fp64"
        row = {"WHOLE": 1, "DOUBLE": double}
        for kernel, shape in (
            (gate_kernel, {"FALLS": 0, **row, **_rows_of(128, _ROW)}),
            (gate_kernel, {"FALLS": 1, **row, **_rows_of(512, _ROW)}),
            (gate_kernel, {"FALLS": 1, **row, **_rows_of(10000, _ROW), "WHOLE": 0}),
            (gate_adjoint_kernel, {"FALLS": 0, **row, **_rows_of(128)}),
            (gate_adjoint_kernel, {"FALLS": 1, **row, **_rows_of(512)}),
            (mask_kernel, _mask_shape(64, 64, double)[2]),
            (mask_adjoint_kernel, _mask_adjoint_shape(64, 64, double)),
            (mask_adjoint_kernel, _mask_adjoint_shape(512, 512, double)),
        ):
            constants = {name: int(x) for name, x in shape.items() if name in kernel.arg_names}
            types = dict.fromkeys(integers.split(), "i32")
            types |= {n: "i64" for n in kernel.arg_names if n.endswith(("_row", "_place", "_mask"))}
            if kernel is mask_adjoint_kernel:
                types |= {"grad_h": "i64", "grad_w": "i64"}
            types |= dict.fromkeys(constants, "constexpr")
            signature = {name: types.get(name, storage) for name in kernel.arg_names}
            launch = {name: shape[name] for name in ("num_warps", "maxnreg") if name in shape}
            found.append((kernel, signature, constants, launch))
    return found


#: Compiled by the tests for every GPU: kernel, argument types, values of constants.
COMPILE = _compilations()
