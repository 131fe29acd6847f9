"""Triton kernels of spatial constriction and its adjoint, for contiguous and channels-last maps.

The forward's programs own some channels of a sample: they walk over tiles of the planes twice, for
the statistics and the styles, or read them once where a plane is one tile. The adjoint's
own a tile: sums over pixels and over channels leave it as partials, which other kernels sum in a
fixed order; where a plane is one tile, its gradient is made at once, else in a pass of its own.

Floor, with s bytes a number, P = H W and N codes: the map in and out and the masks,
(2 C + N) B P s bytes beside the styles', and (7 + 5 N) B C P operations; the adjoint
(3 C + 2 N) B P s and (13 + 10 N) B C P. Bytes decide where N is small.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._common import compute_dtype, split_float
from ._constriction_adjoint import masks_kernel, reduce_kernel, slope_kernel, sums_kernel
from ._maps import load_map, offsets

# Elements of a tile, and those that a warp takes.
_TILE, _WARP = 2048, 256
# Channels of a tile at most; of the adjoint many, for each tile leaves a number a pixel and code.
_FORWARD_CHANNELS, _BACKWARD_CHANNELS = 4, 32
# Pixels of a plane that the forward keeps on chip.
_PLANE = 8192
# Vectors of channels and of pixels in kernels that have no tiles.
_CHANNELS = {"CHANNELS": 64, "num_warps": 2}
_PIXELS = {"PIXELS": 256, "num_warps": 4}


@triton.jit
def _tile_moments(value, inside, count):
    """Mean of each row of a tile, what rounding left of it, and the sum of squared distances."""
    mean = tl.sum(value, axis=1) / count
    d = tl.where(inside[None, :], value - mean[:, None], 0.0)
    rest = tl.sum(d, axis=1) / count
    return mean, rest, tl.sum(d * d, axis=1) - count * rest * rest


@triton.jit
def _moments(x, sample, c, channels, pixels, LAST: tl.constexpr, PIXELS: tl.constexpr,
             T: tl.constexpr, CHANNELS: tl.constexpr):  # fmt: skip
    """Read planes once and compute as _tile_moments does, tile after tile (Chan et al. 1979)."""
    pivot = tl.zeros([CHANNELS], T)
    distance = tl.zeros([CHANNELS], T)
    squares = tl.zeros([CHANNELS], T)
    for first in range(0, pixels, PIXELS):
        p = first + tl.arange(0, PIXELS)
        value = load_map(x, sample, c, p, channels, pixels, LAST, T)
        before = tl.full((), 0.0, T) + first
        count = tl.full((), 0.0, T) + tl.minimum(PIXELS, pixels - first)
        mean, rest, own = _tile_moments(value, p < pixels, count)
        pivot = tl.where(first == 0, mean, pivot)  # near the data, for means far from zero
        ahead = (mean - pivot) + rest - distance
        share = count / (before + count)
        squares += own + ahead * ahead * before * share
        distance += ahead * share
    return pivot, distance, squares


@triton.jit
def _styled(value, normalized, masks, scales, shifts, sample, c, p, channels, pixels, codes,
            T: tl.constexpr):  # fmt: skip
    """Let all codes restyle a tile, in turn."""
    for n in range(codes):
        row = sample * codes + n
        m = tl.load(masks + row * pixels + p, mask=p < pixels, other=0.0).to(T)[None, :]
        scale = tl.load(scales + row * channels + c, mask=c < channels, other=0.0).to(T)
        shift = tl.load(shifts + row * channels + c, mask=c < channels, other=0.0).to(T)
        value = value * (1.0 - m) + (scale[:, None] * normalized + shift[:, None]) * m
    return value


@triton.jit(do_not_specialize=["codes"])
def style_kernel(
    x, masks, scales, shifts, out, statistics, channels, pixels, codes, eps_high, eps_low,
    LAST: tl.constexpr, RESIDENT: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Statistics and result of some channels of a sample."""
    T: tl.constexpr = statistics.dtype.element_ty
    sample = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    p = tl.arange(0, PIXELS)
    value = tl.zeros([CHANNELS, PIXELS], T)
    if RESIDENT:
        value = load_map(x, sample, c, p, channels, pixels, LAST, T)
        guess, error, squares = _tile_moments(value, p < pixels, pixels)
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
    for first in range(0, pixels, PIXELS):
        q = first + p
        if not RESIDENT:
            value = load_map(x, sample, c, q, channels, pixels, LAST, T)
        normalized = ((value - mean[:, None]) - rest[:, None]) * rstd[:, None]
        styled = _styled(
            value, normalized, masks, scales, shifts, sample, c, q, channels, pixels, codes, T
        )
        offset, inside = offsets(sample, c, q, channels, pixels, LAST)
        tl.store(out + offset, styled, mask=inside)


def _arranged(x: Tensor, last: bool) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _is_last(x: Tensor) -> bool:
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _shape(channels: int, pixels: int, last: bool, most: int) -> dict[str, int]:
    """Shape a tile; of a channels-last map it has at least a sector of each pixel."""
    most = max(most, 16) if last else most
    plane = triton.next_power_of_2(pixels)
    width = max(16, min(_TILE // most, plane))
    if most == _FORWARD_CHANNELS and width < plane <= _PLANE:  # one plane fits, if not so many
        width, most = plane, max(1, _TILE // plane)
    block = min(most, triton.next_power_of_2(channels))
    constants = {"LAST": last, "RESIDENT": pixels <= width, "CHANNELS": block, "PIXELS": width}
    return {**constants, "num_warps": max(1, block * width // _WARP)}


def spatial_constriction(
    x: Tensor, masks: Tensor, scales: Tensor, shifts: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Launch the forward kernel; arguments and results are those of the op."""
    (batch, channels, height, width), codes = x.shape, masks.shape[1]
    last, pixels = _is_last(x), height * width
    x = _arranged(x, last)
    out = torch.empty_like(x)
    statistics = x.new_empty(batch, 3, channels, dtype=compute_dtype(x))
    if statistics.numel() > 0:
        shape = _shape(channels, pixels, last, _FORWARD_CHANNELS)
        style_kernel[batch, triton.cdiv(channels, shape["CHANNELS"])](
            x, masks.contiguous(), scales.contiguous(), shifts.contiguous(), out, statistics,
            channels, pixels, codes, *split_float(eps), **shape,
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
    masks, scales, shifts, statistics, grad_statistics = (
        t.contiguous() for t in (masks, scales, shifts, statistics, grad_statistics)
    )
    grad_x, grad_masks = torch.empty_like(x), torch.zeros_like(masks)
    grad_scales, grad_shifts = (torch.zeros_like(scales, dtype=statistics.dtype) for _ in "ab")
    blocks, partials = 0, statistics
    if x.numel() > 0:
        shape = _shape(channels, pixels, last, _BACKWARD_CHANNELS)
        blocks = triton.cdiv(channels, shape["CHANNELS"])
        tiles = triton.cdiv(pixels, shape["PIXELS"])
        grid = batch * tiles, blocks
        sums = statistics.new_empty(batch, tiles, codes, 2, channels)
        partials = statistics.new_empty(batch, blocks, codes + 1, pixels)
        slopes = statistics.new_empty(batch, 2, channels)
        reduce_kernel[grid](
            grad_out, grad_statistics, x, masks, scales, shifts, statistics, grad_x, sums, partials,
            channels, pixels, codes, blocks, tiles, **shape,
        )  # fmt: skip
        sums_kernel[batch, triton.cdiv(channels, _CHANNELS["CHANNELS"])](
            grad_statistics, scales, statistics, sums, grad_scales, grad_shifts, slopes,
            channels, pixels, codes, tiles, **_CHANNELS,
        )  # fmt: skip
        if not shape.pop("RESIDENT"):
            slope_kernel[grid](
                grad_out, x, masks, scales, statistics, slopes, grad_x,
                channels, pixels, codes, **shape,
            )  # fmt: skip
    if masks.numel() > 0:  # also without channels, for NaN in masks to stay
        masks_kernel[batch * triton.cdiv(pixels, _PIXELS["PIXELS"]),](
            masks, partials, grad_masks, pixels, codes, blocks, **_PIXELS
        )
    return grad_x, grad_masks, grad_scales.to(scales.dtype), grad_shifts.to(shifts.dtype)


def _configurations() -> list[tuple]:
    """List every kernel as it is launched on 64 channels of planes large and small."""
    found: list[tuple] = []
    types = dict.fromkeys(("eps_high", "eps_low"), "fp32")
    types |= dict.fromkeys(("channels", "pixels", "codes", "blocks", "tiles"), "i32")

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
        for pixels in (65536, 8192, 4096, 64):  # planes of several tiles, and of one
            add(style_kernel, storage, _shape(64, pixels, last, _FORWARD_CHANNELS))
        for pixels in (4096, 64):
            add(reduce_kernel, storage, _shape(64, pixels, last, _BACKWARD_CHANNELS))
        add(slope_kernel, storage, _shape(64, 4096, last, _BACKWARD_CHANNELS))
        add(sums_kernel, storage, _CHANNELS)
        add(masks_kernel, storage, _PIXELS)
    return found


#: What tests compile for every GPU: kernel, types of its arguments, values of its constants.
COMPILE = _configurations()
