"""Triton kernels of spatial constriction and its adjoint, for contiguous and channels-last maps.

A program of the forward owns some channels of a sample, whose planes stay in registers if they fit;
otherwise it loops over tiles twice, for the statistics and the styles. A program of the adjoint
owns some pixels: it writes partial sums over pixels and channels, which a second kernel adds in a
fixed order; grad_x is computed at once if a plane is one tile, else in a separate pass.

Floor, with s bytes per number, P = H W and N codes: the map in and out, and the masks,
(2 C + N) B P s bytes plus the styles', and (7 + 5 N) B C P operations; the adjoint (3 C + 2 N) B P
s and (13 + 10 N) B C P. Memory-bound for small N.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._common import blocks_of, compute_dtype, power_of_2, split_float
from ._constriction_adjoint import reduce_kernel, slope_kernel, sums_kernel
from ._maps import load_map, offsets, place

# Elements of a tile of the forward, its elements per warp, and the maximum number of warps.
_TILE, _WARP, _WARPS = 4096, 512, 8
# Four-byte elements of the planes that stay in registers.
_PLANE = 16384
# Elements per lane of the adjoint, times codes: two numbers for each stay in registers.
_NUMBERS = 40
# Programs of the adjoint that fill a GPU; maximum steps per program.
_PROGRAMS, _STEPS = 1024, 32
# Pixels, channels and tiles that the summing kernel handles at a time.
_SUMS = {"PIXELS": 128, "CHANNELS": 16, "TILES": 64, "num_warps": 4}


@triton.jit
def _tile_moments(value, inside, count):
    """Mean of each row of a tile, its rounding error, and the sum of squared deviations."""
    mean = tl.sum(value, axis=1) / count
    d = tl.where(inside[None, :], value - mean[:, None], 0.0)
    rest = tl.sum(d, axis=1) / count
    return mean, rest, tl.sum(d * d, axis=1) - count * rest * rest


@triton.jit
def _moments(x, sample, c, channels, pixels, LAST: tl.constexpr, PIXELS: tl.constexpr,
             T: tl.constexpr, CHANNELS: tl.constexpr):  # fmt: skip
    """Like _tile_moments for whole planes, read once, tile by tile (Chan et al. 1979)."""
    pivot = tl.zeros([CHANNELS], T)
    distance = tl.zeros([CHANNELS], T)
    squares = tl.zeros([CHANNELS], T)
    for first in range(0, pixels, PIXELS):
        p = first + tl.arange(0, PIXELS)
        value = load_map(x, sample, c, p, channels, pixels, LAST, T)
        before = tl.full((), 0.0, T) + first
        count = tl.full((), 0.0, T) + tl.minimum(PIXELS, pixels - first)
        mean, rest, own = _tile_moments(value, p < pixels, count)
        pivot = tl.where(first == 0, mean, pivot)  # near the data, in case means are far from zero
        ahead = (mean - pivot) + rest - distance
        share = count / (before + count)
        squares += own + ahead * ahead * before * share
        distance += ahead * share
    return pivot, distance, squares


@triton.jit
def _styled(value, normalized, masks, scales, shifts, sample, c, p, channels, pixels, codes,
            T: tl.constexpr):  # fmt: skip
    """Restyle a tile by all codes in turn."""
    for n in range(codes):
        row = sample * codes + n
        m = tl.load(masks + row * pixels + p, mask=p < pixels, other=0.0).to(T)[None, :]
        scale = tl.load(scales + row * channels + c, mask=c < channels, other=0.0).to(T)
        shift = tl.load(shifts + row * channels + c, mask=c < channels, other=0.0).to(T)
        value = value * (1.0 - m) + (scale[:, None] * normalized + shift[:, None]) * m
    return value


@triton.jit
def _plane_moments(planes, pixels, PIXELS: tl.constexpr):
    """Like _tile_moments, for planes in registers."""
    parts: tl.constexpr = len(planes)
    total = planes[0]
    for i in tl.static_range(1, parts):
        total += planes[i]
    mean = tl.sum(total, axis=1) / pixels
    left, squares = tl.zeros_like(total), tl.zeros_like(total)
    for i in tl.static_range(parts):
        inside = i * PIXELS + tl.arange(0, PIXELS) < pixels
        d = tl.where(inside[None, :], planes[i] - mean[:, None], 0.0)
        left, squares = left + d, squares + d * d
    rest = tl.sum(left, axis=1) / pixels
    return mean, rest, tl.sum(squares, axis=1) - pixels * rest * rest


@triton.jit
def _restyle(value, mean, rest, rstd, masks, scales, shifts, out, sample, c, p, channels, pixels,
             codes, LAST: tl.constexpr, T: tl.constexpr):  # fmt: skip
    normalized = ((value - mean[:, None]) - rest[:, None]) * rstd[:, None]
    styled = _styled(
        value, normalized, masks, scales, shifts, sample, c, p, channels, pixels, codes, T
    )
    offset, inside = offsets(sample, c, p, channels, pixels, LAST)
    tl.store(out + offset, styled, mask=inside)


@triton.jit(do_not_specialize=["codes", "blocks"])
def style_kernel(
    x, masks, scales, shifts, out, statistics, channels, pixels, codes, blocks, eps_high, eps_low,
    LAST: tl.constexpr, PARTS: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Statistics and result of some channels of a sample; a plane has PARTS tiles, 0 for any."""
    T: tl.constexpr = statistics.dtype.element_ty
    sample, _, block = place(1, blocks)
    c = block * CHANNELS + tl.arange(0, CHANNELS)
    p = tl.arange(0, PIXELS)
    planes = ()
    if PARTS > 0:
        for i in tl.static_range(PARTS):
            q = i * PIXELS + p
            value = load_map(x, sample, c, q, channels, pixels, LAST, T)
            planes = planes + (value,)  # noqa: RUF005
        guess, error, squares = _plane_moments(planes, pixels, PIXELS)
    else:
        guess, error, squares = _moments(x, sample, c, channels, pixels, LAST, PIXELS, T, CHANNELS)
    variance = squares / pixels
    variance = tl.where(variance < 0.0, 0.0, variance)
    mean = guess + error
    rest = error - (mean - guess)
    rstd = 1.0 / tl.sqrt(variance + (tl.full((), 0.0, T) + eps_high + eps_low))
    at = statistics + sample * 3 * channels + c
    tl.store(at, mean, mask=c < channels)
    tl.store(at + channels, rest, mask=c < channels)
    tl.store(at + 2 * channels, rstd, mask=c < channels)
    if PARTS > 0:
        for i in tl.static_range(PARTS):
            _restyle(planes[i], mean, rest, rstd, masks, scales, shifts, out, sample, c,
                     i * PIXELS + p, channels, pixels, codes, LAST, T)  # fmt: skip
    else:
        for first in range(0, pixels, PIXELS):
            value = load_map(x, sample, c, first + p, channels, pixels, LAST, T)
            _restyle(value, mean, rest, rstd, masks, scales, shifts, out, sample, c,
                     first + p, channels, pixels, codes, LAST, T)  # fmt: skip


def _arranged(x: Tensor, last: bool) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _is_last(x: Tensor) -> bool:
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


@lru_cache(1024)
def _forward_shape(channels: int, pixels: int, last: bool, size: int) -> dict[str, int]:
    """Choose the tile shape for numbers of ``size`` bytes: a whole sector of channels-last pixels.

    Four planes stay in registers, or none: rereading the masks for each channel would cost more
    than reading the map twice.
    """
    plane, least = max(16, power_of_2(pixels)), max(4, 32 // size) if last else 4
    resident = least * plane * max(size, 4) <= 4 * _PLANE
    wanted = max(least, _TILE // plane if resident else 8)
    block = min(wanted, power_of_2(channels))
    width = min(plane, _TILE // block)
    warps = max(1, min(_WARPS, block * width // _WARP))
    parts = plane // width if resident else 0
    return {"LAST": last, "PARTS": parts, "CHANNELS": block, "PIXELS": width, "num_warps": warps}


@lru_cache(1024)
def _adjoint_shape(
    batch: int, channels: int, pixels: int, codes: int, last: bool, double: bool
) -> tuple[dict[str, Any], tuple[int, int, int]]:
    """Constants of a warp's tile, which keeps each code's numbers in registers; and the grid."""
    most = max(1, (_NUMBERS // 2 if double else _NUMBERS) // max(codes, 5))
    lane = 1 << (most.bit_length() - 1)
    block, width = (lane, 32) if last else (1, 32 * lane)
    constants = {"LAST": last, "CHANNELS": block, "PIXELS": width, "CODES": codes, "num_warps": 1}
    tiles, units = blocks_of(pixels, width), blocks_of(channels, block)
    steps = max(1, min(_STEPS, units, batch * tiles * units // _PROGRAMS))
    return constants, (blocks_of(units, steps), tiles, steps)


def spatial_constriction(
    x: Tensor, masks: Tensor, scales: Tensor, shifts: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Launch the forward kernel; arguments and results are those of the op."""
    (batch, channels, height, width), codes = x.shape, masks.shape[1]
    last, pixels = _is_last(x), height * width
    x = _arranged(x, last)
    out = torch.empty_like(x)
    statistics = x.new_empty(batch, 3, channels, dtype=compute_dtype(x))
    if batch * channels > 0:
        shape = _forward_shape(channels, pixels, last, x.element_size())
        blocks = blocks_of(channels, shape["CHANNELS"])
        style_kernel[(batch * blocks,)](
            x, masks.contiguous(), scales.contiguous(), shifts.contiguous(), out, statistics,
            channels, pixels, codes, blocks, *split_float(eps), **shape,
        )  # fmt: skip
    return out, statistics


def spatial_constriction_backward(
    grad_out: Tensor,
    grad_statistics: Tensor,
    x: Tensor,
    masks: Tensor,
    scales: Tensor,
    shifts: Tensor,
    statistics: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Launch the adjoint's kernels; arguments and results are those of the op."""
    (batch, channels, height, width), codes = x.shape, masks.shape[1]
    last, pixels = _is_last(x), height * width
    x, grad_out = _arranged(x, last), _arranged(grad_out, last)
    masks, scales, shifts = masks.contiguous(), scales.contiguous(), shifts.contiguous()
    statistics, strides = statistics.contiguous(), grad_statistics.stride()
    grads = grad_x, grad_masks, grad_scales, grad_shifts = tuple(
        map(torch.empty_like, (x, masks, scales, shifts))
    )
    if batch == 0:
        return grads
    shape, (blocks, tiles, steps) = _adjoint_shape(
        batch, channels, pixels, codes, last, statistics.dtype == torch.float64
    )
    resident = tiles == 1 and not last
    sums = statistics.new_empty(0 if resident else batch * tiles * channels * codes * 2)
    partials = statistics.new_empty(batch, blocks, codes + 1, pixels)
    if x.numel() > 0:
        reduce_kernel[(batch * tiles * blocks,)](
            grad_out, grad_statistics, x, masks, scales, shifts, statistics, grad_x,
            grad_scales, grad_shifts, sums, partials, *strides,
            channels, pixels, blocks, tiles, steps, RESIDENT=resident, **shape,
        )  # fmt: skip
    # Launched even without channels, to keep NaN in masks, and without pixels, to write zeros.
    mask_blocks = blocks_of(pixels, _SUMS["PIXELS"]) if codes else 0
    style_blocks = 0 if resident else blocks_of(channels, _SUMS["CHANNELS"])
    slopes = statistics.new_empty(0 if resident else batch * 2 * channels)
    if mask_blocks + style_blocks > 0:
        sums_kernel[(batch * (mask_blocks + style_blocks),)](
            grad_statistics, masks, scales, statistics, sums, partials,
            grad_masks, grad_scales, grad_shifts, slopes, *strides,
            channels, pixels, codes, blocks, tiles, mask_blocks, style_blocks, **_SUMS,
        )  # fmt: skip
    if x.numel() > 0 and not resident:
        slope_kernel[(batch * tiles * blocks,)](
            grad_out, x, masks, scales, statistics, slopes, grad_x,
            channels, pixels, blocks, tiles, steps, **shape,
        )  # fmt: skip
    return grads


def _configurations() -> list[tuple]:
    """List every kernel as launched on 64 channels, 5 codes, and large and small planes."""
    found: list[tuple] = []
    types: dict[str, Any] = dict.fromkeys(("eps_high", "eps_low"), "fp32")
    types |= dict.fromkeys(("channels", "pixels", "codes", "blocks", "tiles", "steps"), "i32")
    types |= dict.fromkeys(("mask_blocks", "style_blocks"), "i32")
    types |= dict.fromkeys(("on_sample", "on_row", "on_channel"), "i32")

    def add(kernel, storage: str, shape: dict[str, int]) -> None:
        constants = {name: x for name, x in shape.items() if name in kernel.arg_names}
        wide = dict.fromkeys(
            ("statistics", "grad_statistics", "sums", "partials", "slopes"), "*fp32"
        )
        if storage == "*fp64":
            wide = dict.fromkeys(wide, storage)
        known = {**types, **wide, **dict.fromkeys(constants, "constexpr")}
        signature = {name: known.get(name, storage) for name in kernel.arg_names}
        found.append((kernel, signature, constants, {"num_warps": shape["num_warps"]}))

    for storage, last in (("*fp32", False), ("*fp32", True), ("*bf16", False), ("*fp64", True)):
        size = int(storage[-2:]) // 8
        for pixels in (65536, 4096, 256):  # planes of several tiles and of one
            add(style_kernel, storage, _forward_shape(64, pixels, last, size))
        for pixels in (4096, 32):
            shape, (_, tiles, _) = _adjoint_shape(16, 64, pixels, 5, last, size == 8)
            add(reduce_kernel, storage, {**shape, "RESIDENT": tiles == 1 and not last})
        add(slope_kernel, storage, shape)
        add(sums_kernel, storage, _SUMS)
    return found


#: Compiled by the tests for every GPU: kernel, argument types, values of constants.
COMPILE = _configurations()
