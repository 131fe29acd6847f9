"""Kernels of the adjoint of spatial constriction: see ``constriction.py``.

Programs are single warps that own some pixels and loop over channels, so that no sum needs a
barrier: sums over channels stay in registers, sums over pixels take shuffles once per channel.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._maps import load_map, load_statistics, offsets, place


@triton.jit
def _weights(masks, sample, p, pixels, codes, T: tl.constexpr, CODES: tl.constexpr):
    """The remainder of the map, A = Π (1 − m), and weights m_n Π_{k>n} (1 − m_k), last first."""
    after = tl.where(p < pixels, 1.0, 0.0).to(T)
    weights = ()
    for k in tl.static_range(CODES):
        row = sample * codes + CODES - 1 - k
        m = tl.load(masks + row * pixels + p, mask=p < pixels, other=0.0).to(T)
        weights = weights + (m * after,)  # noqa: RUF005
        after *= 1.0 - m
    return after, weights


@triton.jit
def _style(styles, sample, k: tl.constexpr, c, channels, T: tl.constexpr, CODES: tl.constexpr):
    at = styles + (sample * CODES + CODES - 1 - k) * channels + c
    return tl.load(at, mask=c < channels, other=0.0).to(T)


@triton.jit
def _slopes(along_scale, along_shift, on_statistics, on_row, on_channel, c, channels, rstd, pixels):
    """The constant and the linear part of grad_x, from sums over codes and pixels."""
    at = on_statistics + c * on_channel
    on_mean = tl.load(at, mask=c < channels, other=0.0)
    on_rstd = tl.load(at + 2 * on_row, mask=c < channels, other=0.0)
    constant = (on_mean - rstd * along_shift) / pixels
    return constant, (rstd * along_scale + on_rstd * rstd * rstd) / pixels * rstd


@triton.jit(do_not_specialize=["blocks", "tiles", "steps"])
def reduce_kernel(
    grad_out, grad_statistics, x, masks, scales, shifts, statistics, grad_x,
    grad_scales, grad_shifts, sums, partials, on_sample, on_row, on_channel,
    channels, pixels, blocks, tiles, steps,
    LAST: tl.constexpr, RESIDENT: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
    CODES: tl.constexpr,
):  # fmt: skip
    """A tile's part of the styles' and weights' gradients; if RESIDENT, all but grad_masks."""
    T: tl.constexpr = statistics.dtype.element_ty
    sample, tile, block = place(tiles, blocks)
    p = tile * PIXELS + tl.arange(0, PIXELS)
    left, weights = _weights(masks, sample, p, pixels, CODES, T, CODES)
    # Sums over channels: first over steps, and only at the end over the channels of a step.
    to_left = tl.zeros([CHANNELS, PIXELS], T)
    to_weights = ()
    for _ in tl.static_range(CODES):
        to_weights = to_weights + (tl.zeros([CHANNELS, PIXELS], T),)  # noqa: RUF005
    for step in range(steps):
        c = (block * steps + step) * CHANNELS + tl.arange(0, CHANNELS)
        inside = c < channels
        mean, rest, rstd = load_statistics(statistics, sample, c, channels)
        value = load_map(x, sample, c, p, channels, pixels, LAST, T)
        g = load_map(grad_out, sample, c, p, channels, pixels, LAST, T)
        centred = (value - mean[:, None]) - rest[:, None]
        along = g * (centred * rstd[:, None])
        to_left += g * value
        slope = tl.zeros([CHANNELS, PIXELS], T) + left[None, :]
        along_scale = tl.zeros([CHANNELS], T)
        along_shift = tl.zeros([CHANNELS], T)
        grown = ()
        for k in tl.static_range(CODES):
            scale = _style(scales, sample, k, c, channels, T, CODES)
            shift = _style(shifts, sample, k, c, channels, T, CODES)
            weight = weights[k][None, :]
            to_scale, to_shift = tl.sum(along * weight, axis=1), tl.sum(g * weight, axis=1)
            to_weight = to_weights[k] + along * scale[:, None]
            grown = grown + (to_weight + g * shift[:, None],)  # noqa: RUF005
            if RESIDENT:
                at = (sample * CODES + CODES - 1 - k) * channels + c
                tl.store(grad_scales + at, to_scale, mask=inside)
                tl.store(grad_shifts + at, to_shift, mask=inside)
                along_scale += scale * to_scale
                along_shift += scale * to_shift
                slope += (rstd * scale)[:, None] * weight
            else:
                at = sums + ((sample * tiles + tile) * channels + c) * (2 * CODES) + 2 * k
                tl.store(at, to_scale, mask=inside)
                tl.store(at + 1, to_shift, mask=inside)
        to_weights = grown
        if RESIDENT:
            constant, linear = _slopes(
                along_scale, along_shift, grad_statistics + sample * on_sample, on_row, on_channel,
                c, channels, rstd, pixels,
            )  # fmt: skip
            offset, within = offsets(sample, c, p, channels, pixels, LAST)
            result = g * slope + constant[:, None] - centred * linear[:, None]
            tl.store(grad_x + offset, result, mask=within)
    # Rows of partials: the remainder of the map, then the codes.
    at = partials + (sample * blocks + block) * (CODES + 1) * pixels + p
    tl.store(at, tl.sum(to_left, axis=0), mask=p < pixels)
    for k in tl.static_range(CODES):
        to_weight = tl.sum(to_weights[k], axis=0)
        tl.store(at + (CODES - k) * pixels, to_weight, mask=p < pixels)


@triton.jit
def _sum_styles(
    on_statistics, scales, statistics, sums, grad_scales, grad_shifts, slopes,
    on_row, on_channel, sample, block, channels, pixels, codes, tiles,
    CHANNELS: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Sum the tiles' parts of the styles' gradients, and derive the terms that grad_x needs."""
    T: tl.constexpr = statistics.dtype.element_ty
    c = block * CHANNELS + tl.arange(0, CHANNELS)
    inside = c < channels
    _, _, rstd = load_statistics(statistics, sample, c, channels)
    along_scale = tl.zeros([CHANNELS], T)
    along_shift = tl.zeros([CHANNELS], T)
    for n in range(codes):
        to_scale = tl.zeros([TILES, CHANNELS], T)
        to_shift = tl.zeros([TILES, CHANNELS], T)
        for first in range(0, tiles, TILES):
            tile = first + tl.arange(0, TILES)[:, None]
            at = (sample * tiles + tile) * channels + c[None, :]
            at = sums + 2 * (at * codes + codes - 1 - n)
            mask = (tile < tiles) & inside[None, :]
            to_scale += tl.load(at, mask=mask, other=0.0)
            to_shift += tl.load(at + 1, mask=mask, other=0.0)
        on_scale, on_shift = tl.sum(to_scale, axis=0), tl.sum(to_shift, axis=0)
        row = (sample * codes + n) * channels + c
        tl.store(grad_scales + row, on_scale, mask=inside)
        tl.store(grad_shifts + row, on_shift, mask=inside)
        scale = tl.load(scales + row, mask=inside, other=0.0).to(T)
        along_scale += scale * on_scale
        along_shift += scale * on_shift
    constant, linear = _slopes(
        along_scale, along_shift, on_statistics, on_row, on_channel, c, channels, rstd, pixels
    )
    at = slopes + sample * 2 * channels + c
    tl.store(at, constant, mask=inside)
    tl.store(at + channels, linear, mask=inside)


@triton.jit
def _total(partials, sample, row, p, pixels, rows, blocks, T: tl.constexpr, PIXELS: tl.constexpr):
    total = tl.zeros([PIXELS], T)
    for block in range(blocks):
        at = partials + ((sample * blocks + block) * rows + row) * pixels + p
        total += tl.load(at, mask=p < pixels, other=0.0)
    return total


@triton.jit
def _grad_masks(
    masks, partials, grad_masks, sample, tile, pixels, codes, blocks,
    T: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Gradients P_n (d_n − z_{n−1}) of all masks in some pixels."""
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


@triton.jit(do_not_specialize=["codes", "blocks", "tiles", "mask_blocks", "style_blocks"])
def sums_kernel(
    grad_statistics, masks, scales, statistics, sums, partials,
    grad_masks, grad_scales, grad_shifts, slopes, on_sample, on_row, on_channel,
    channels, pixels, codes, blocks, tiles, mask_blocks, style_blocks,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Sum the tiles' partials: some pixels of a sample's grad_masks, or some channels' styles."""
    each = mask_blocks + style_blocks
    sample, block = (tl.program_id(0) // each).to(tl.int64), tl.program_id(0) % each
    if block < mask_blocks:
        _grad_masks(
            masks, partials, grad_masks, sample, block, pixels, codes, blocks,
            statistics.dtype.element_ty, PIXELS,
        )  # fmt: skip
    else:
        _sum_styles(
            grad_statistics + sample * on_sample, scales, statistics, sums, grad_scales,
            grad_shifts, slopes, on_row, on_channel, sample, block - mask_blocks,
            channels, pixels, codes, tiles, CHANNELS, TILES,
        )  # fmt: skip


@triton.jit(do_not_specialize=["blocks", "tiles", "steps"])
def slope_kernel(
    grad_out, x, masks, scales, statistics, slopes, grad_x,
    channels, pixels, blocks, tiles, steps,
    LAST: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr, CODES: tl.constexpr,
):  # fmt: skip
    """Compute grad_x for some pixels and channels."""
    T: tl.constexpr = statistics.dtype.element_ty
    sample, tile, block = place(tiles, blocks)
    p = tile * PIXELS + tl.arange(0, PIXELS)
    left, weights = _weights(masks, sample, p, pixels, CODES, T, CODES)
    for step in range(steps):
        c = (block * steps + step) * CHANNELS + tl.arange(0, CHANNELS)
        mean, rest, rstd = load_statistics(statistics, sample, c, channels)
        constant = tl.load(slopes + sample * 2 * channels + c, mask=c < channels, other=0.0)
        linear = tl.load(slopes + (sample * 2 + 1) * channels + c, mask=c < channels, other=0.0)
        slope = tl.zeros([CHANNELS, PIXELS], T) + left[None, :]
        for k in tl.static_range(CODES):
            scale = _style(scales, sample, k, c, channels, T, CODES)
            slope += (rstd * scale)[:, None] * weights[k][None, :]
        value = load_map(x, sample, c, p, channels, pixels, LAST, T)
        g = load_map(grad_out, sample, c, p, channels, pixels, LAST, T)
        centred = (value - mean[:, None]) - rest[:, None]
        offset, inside = offsets(sample, c, p, channels, pixels, LAST)
        result = g * slope + constant[:, None] - centred * linear[:, None]
        tl.store(grad_x + offset, result, mask=inside)
