"""Tiles of a feature map, contiguous or channels-last, and its statistics."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def place(tiles, blocks):
    """Sample, tile and block of a program, all from axis 0, as the others allow only 65535."""
    index = tl.program_id(0)
    rest = index // blocks
    return (rest // tiles).to(tl.int64), rest % tiles, index % blocks


@triton.jit
def offsets(sample, c, p, channels, pixels, LAST: tl.constexpr):
    """Offsets of a tile of the map, and the mask of those inside."""
    if LAST:
        offset = (sample * pixels + p[None, :]) * channels + c[:, None]
    else:
        offset = (sample * channels + c[:, None]) * pixels + p[None, :]
    return offset, (c < channels)[:, None] & (p < pixels)[None, :]


@triton.jit
def load_map(x, sample, c, p, channels, pixels, LAST: tl.constexpr, T: tl.constexpr):
    offset, inside = offsets(sample, c, p, channels, pixels, LAST)
    return tl.load(x + offset, mask=inside, other=0.0).to(T)


@triton.jit
def load_statistics(statistics, sample, c, channels):
    """Mean, its rounding error, and 1 / std of some channels."""
    at = statistics + sample * 3 * channels + c
    inside = c < channels
    mean = tl.load(at, mask=inside, other=0.0)
    rest = tl.load(at + channels, mask=inside, other=0.0)
    return mean, rest, tl.load(at + 2 * channels, mask=inside, other=0.0)
