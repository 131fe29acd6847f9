"""Convolutions at twice and half a resolution, tap by tap, with the filter [1, 3, 3, 1] or not."""

from itertools import product

import torch

TAPS = torch.tensor([1, 3, 3, 1], dtype=torch.double) / 8


def _blurred(x, margin):
    x = torch.nn.functional.pad(x, (margin,) * 4)
    height, width = x.shape[2] - 3, x.shape[3] - 3
    return sum(
        TAPS[s] * TAPS[t] * x[:, :, s : s + height, t : t + width]
        for s, t in product(range(4), repeat=2)
    )


def doubled(x, weight, filtered):
    """x (B, C, H, W) by weights (D, C, 3, 3): moved apart, convolved, blurred; or doubled."""
    (n, _, height, width), maps = x.shape, len(weight)
    if not filtered:
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return torch.nn.functional.conv2d(x, weight, padding=1)
    wide = x.new_zeros(n, maps, 2 * height + 1, 2 * width + 1)
    for i, j, a, b in product(range(height), range(width), range(3), range(3)):
        wide[:, :, 2 * i + a, 2 * j + b] += x[:, :, i, j] @ weight[:, :, 2 - a, 2 - b].T
    return 4 * _blurred(wide, 1)


def halved(x, weight, filtered):
    """x (B, C, H, W) by weights (D, C, k, k): blurred, then each second pixel; or means of 2×2."""
    size, half = weight.shape[-1], x.shape[-1] // 2
    if not filtered:
        x = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
        return torch.nn.functional.conv2d(x, weight, padding=size // 2)
    x = _blurred(x, 2 if size == 3 else 1)
    return sum(
        torch.einsum(
            "bchw,dc->bdhw",
            x[:, :, a : a + 2 * half - 1 : 2, b : b + 2 * half - 1 : 2],
            weight[:, :, a, b],
        )
        for a, b in product(range(size), repeat=2)
    )
