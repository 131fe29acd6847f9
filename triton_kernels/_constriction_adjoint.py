"""Kernels of the adjoint of spatial constriction: see ``constriction.py``."""

from __future__ import annotations

import triton
import triton.language as tl

from ._maps import load_map, load_statistics, offsets, sample_and_tile


@triton.jit
def _slope(masks, scales, rstd, sample, c, p, channels, pixels, codes, T: tl.constexpr,
           CHANNELS: tl.constexpr, PIXELS: tl.constexpr):  # fmt: skip
    """Compute A + Σ_n scale_n w_n / std of a tile."""
    after = tl.full([PIXELS], 1.0, T)
    slope = tl.zeros([CHANNELS, PIXELS], T)
    for k in range(codes):
        row = sample * codes + codes - 1 - k
        m = tl.load(masks + row * pixels + p, mask=p < pixels, other=0.0).to(T)
        scale = tl.load(scales + row * channels + c, mask=c < channels, other=0.0).to(T)
        slope += (rstd * scale)[:, None] * (m * after)[None, :]
        after *= 1.0 - m
    return slope + after[None, :]


@triton.jit(do_not_specialize=["codes", "blocks", "tiles"])
def reduce_kernel(
    grad_out, grad_statistics, x, masks, scales, shifts, statistics, grad_x, sums, partials,
    channels, pixels, codes, blocks, tiles,
    LAST: tl.constexpr, RESIDENT: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Compute a tile's part of the gradients of styles and weights; if RESIDENT, also grad_x."""
    T: tl.constexpr = statistics.dtype.element_ty
    sample, tile = sample_and_tile(tiles)
    block = tl.program_id(1)
    c = block * CHANNELS + tl.arange(0, CHANNELS)
    p = tile * PIXELS + tl.arange(0, PIXELS)
    mean, rest, rstd = load_statistics(statistics, sample, c, channels)
    value = load_map(x, sample, c, p, channels, pixels, LAST, T)
    g = load_map(grad_out, sample, c, p, channels, pixels, LAST, T)
    centred = tl.where((p < pixels)[None, :], (value - mean[:, None]) - rest[:, None], 0.0)
    along = g * (centred * rstd[:, None])
    # Rows of partials: A, then the codes.
    partial = partials + (sample * blocks + block) * (codes + 1) * pixels + p
    tl.store(partial, tl.sum(g * value, axis=0), mask=p < pixels)
    after = tl.full([PIXELS], 1.0, T)
    along_scale = tl.zeros([CHANNELS], T)
    along_shift = tl.zeros([CHANNELS], T)
    for k in range(codes):
        n = codes - 1 - k
        row = sample * codes + n
        m = tl.load(masks + row * pixels + p, mask=p < pixels, other=0.0).to(T)
        scale = tl.load(scales + row * channels + c, mask=c < channels, other=0.0).to(T)
        shift = tl.load(shifts + row * channels + c, mask=c < channels, other=0.0).to(T)
        weight = (m * after)[None, :]
        after *= 1.0 - m
        to_scale, to_shift = tl.sum(along * weight, axis=1), tl.sum(g * weight, axis=1)
        at = sums + ((sample * tiles + tile) * codes + n) * 2 * channels + c
        tl.store(at, to_scale, mask=c < channels)
        tl.store(at + channels, to_shift, mask=c < channels)
        to_weight = tl.sum(along * scale[:, None] + g * shift[:, None], axis=0)
        tl.store(partial + (n + 1) * pixels, to_weight, mask=p < pixels)
        along_scale += rstd * scale * to_scale
        along_shift += rstd * scale * to_shift
    if RESIDENT:
        on_mean, _, on_rstd = load_statistics(grad_statistics, sample, c, channels)
        constant = (on_mean - along_shift) / pixels
        linear = (along_scale + on_rstd * rstd * rstd) / pixels * rstd
        slope = _slope(
            masks, scales, rstd, sample, c, p, channels, pixels, codes, T, CHANNELS, PIXELS
        )
        result = g * slope + constant[:, None] - centred * linear[:, None]
        offset, inside = offsets(sample, c, p, channels, pixels, LAST)
        tl.store(grad_x + offset, result, mask=inside)


@triton.jit(do_not_specialize=["codes", "tiles"])
def sums_kernel(
    grad_statistics, scales, statistics, sums, grad_scales, grad_shifts, slopes,
    channels, pixels, codes, tiles, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Sum the tiles' parts of the styles' gradients; and what grad_x needs of them."""
    T: tl.constexpr = statistics.dtype.element_ty
    sample = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = c < channels
    _, _, rstd = load_statistics(statistics, sample, c, channels)
    on_mean, _, on_rstd = load_statistics(grad_statistics, sample, c, channels)
    along_scale = tl.zeros([CHANNELS], T)
    along_shift = tl.zeros([CHANNELS], T)
    for n in range(codes):
        to_scale = tl.zeros([CHANNELS], T)
        to_shift = tl.zeros([CHANNELS], T)
        for tile in range(tiles):
            at = sums + ((sample * tiles + tile) * codes + n) * 2 * channels + c
            to_scale += tl.load(at, mask=inside, other=0.0)
            to_shift += tl.load(at + channels, mask=inside, other=0.0)
        row = (sample * codes + n) * channels + c
        tl.store(grad_scales + row, to_scale, mask=inside)
        tl.store(grad_shifts + row, to_shift, mask=inside)
        scale = tl.load(scales + row, mask=inside, other=0.0).to(T)
        along_scale += rstd * scale * to_scale
        along_shift += rstd * scale * to_shift
    at = slopes + sample * 2 * channels + c
    tl.store(at, (on_mean - along_shift) / pixels, mask=inside)
    linear = (along_scale + on_rstd * rstd * rstd) / pixels * rstd
    tl.store(at + channels, linear, mask=inside)


@triton.jit(do_not_specialize=["codes"])
def slope_kernel(
    grad_out, x, masks, scales, statistics, slopes, grad_x, channels, pixels, codes,
    LAST: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Compute a tile of grad_x."""
    T: tl.constexpr = statistics.dtype.element_ty
    sample, tile = sample_and_tile(tl.cdiv(pixels, PIXELS))
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    p = tile * PIXELS + tl.arange(0, PIXELS)
    mean, rest, rstd = load_statistics(statistics, sample, c, channels)
    constant = tl.load(slopes + sample * 2 * channels + c, mask=c < channels, other=0.0)
    linear = tl.load(slopes + (sample * 2 + 1) * channels + c, mask=c < channels, other=0.0)
    slope = _slope(masks, scales, rstd, sample, c, p, channels, pixels, codes, T, CHANNELS, PIXELS)
    value = load_map(x, sample, c, p, channels, pixels, LAST, T)
    g = load_map(grad_out, sample, c, p, channels, pixels, LAST, T)
    centred = (value - mean[:, None]) - rest[:, None]
    offset, inside = offsets(sample, c, p, channels, pixels, LAST)
    result = g * slope + constant[:, None] - centred * linear[:, None]
    tl.store(grad_x + offset, result, mask=inside)


@triton.jit
def _total(partials, sample, row, p, pixels, rows, blocks, T: tl.constexpr, PIXELS: tl.constexpr):
    total = tl.zeros([PIXELS], T)
    for block in range(blocks):
        at = partials + ((sample * blocks + block) * rows + row) * pixels + p
        total += tl.load(at, mask=p < pixels, other=0.0)
    return total


@triton.jit(do_not_specialize=["codes", "blocks"])
def masks_kernel(masks, partials, grad_masks, pixels, codes, blocks, PIXELS: tl.constexpr):
    """Compute gradients P_n (d_n − z_{n−1}) of all masks in some pixels."""
    T: tl.constexpr = partials.dtype.element_ty
    sample, tile = sample_and_tile(tl.cdiv(pixels, PIXELS))
    p = tile * PIXELS + tl.arange(0, PIXELS)
    rows = codes + 1
    state = _total(partials, sample, 0, p, pixels, rows, blocks, T, PIXELS)
    for n in range(codes):
        after = tl.full([PIXELS], 1.0, T)
        for k in range(n + 1, codes):
            at = masks + (sample * codes + k) * pixels + p
            after *= 1.0 - tl.load(at, mask=p < pixels, other=0.0).to(T)
        at = (sample * codes + n) * pixels + p
        m = tl.load(masks + at, mask=p < pixels, other=0.0).to(T)
        target = _total(partials, sample, n + 1, p, pixels, rows, blocks, T, PIXELS)
        tl.store(grad_masks + at, after * (target - state), mask=p < pixels)
        state = state * (1.0 - m) + target * m
