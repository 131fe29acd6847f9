"""DCGAN's transposed convolution (kernel 4, stride 2, padding 1) where oneDNN is slow at it.

An output pixel sees a 2×2 window of the input. The four pixels of a 2×2 block of the output (its
phases) see windows that overlap, so an ordinary product of all windows with the taps of all four
phases holds the output, which is then interleaved. On a Xeon with AMX the product takes a third of
oneDNN's time where there are few output channels, and half of it for tiny images in bf16.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_TINY = 16  # pixels of an input image; at 8×8 oneDNN is as fast
_FEW = 4  # output channels; their four phases fill one vector register


def is_doubling(
    source: Tensor,
    weight: Tensor,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> bool:
    """Whether these arguments of ``conv_transpose2d`` (but its bias) are DCGAN's, on the CPU."""
    expected = ((stride, 2), (padding, 1), (output_padding, 0), (dilation, 1))
    return (
        source.device.type == "cpu"
        and source.dim() == 4
        and tuple(weight.shape[2:]) == (4, 4)
        and groups == 1
        and all(value in (wanted, (wanted, wanted), [wanted, wanted]) for value, wanted in expected)
    )


def is_projection(
    source: Tensor,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> bool:
    """Whether ``conv_transpose2d`` is a linear layer: from one pixel to the kernel's size."""
    expected = ((padding, 0), (output_padding, 0), (dilation, 1))
    return (
        source.dim() == 4
        and tuple(source.shape[2:]) == (1, 1)
        and groups == 1
        and all(value in (wanted, (wanted, wanted), [wanted, wanted]) for value, wanted in expected)
    )


def double(rows: Tensor, weight: Tensor) -> Tensor:
    """``conv_transpose2d(rows, weight, stride=2, padding=1)``, the fastest way; (C, D, 4, 4)."""
    height, width = rows.shape[2:]
    if weight.shape[1] <= _FEW:
        product = F.conv2d(rows, _taps(weight).permute(3, 4, 5, 2, 0, 1).flatten(0, 2), padding=1)
        product = product.permute(0, 2, 3, 1)
    elif height * width <= _TINY and rows.dtype == torch.bfloat16:
        x = F.pad(rows.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        windows = torch.cat([x[:, :-1, :-1], x[:, :-1, 1:], x[:, 1:, :-1], x[:, 1:, 1:]], -1)
        product = windows @ _taps(weight).flatten(3).flatten(0, 2)
    else:
        return F.conv_transpose2d(rows, weight, stride=2, padding=1)
    return _Interleave.apply(product.unflatten(3, (2, 2, weight.shape[1])))


def _taps(weight: Tensor) -> Tensor:
    """(p, q, C, a, b, D): row p of a window (0 above) reaches phase a by kernel row 3 − a − 2p."""
    kernel = weight.flip(2, 3).unflatten(3, (2, 2)).unflatten(2, (2, 2))  # C D p a q b
    return kernel.permute(2, 4, 0, 3, 5, 1)


class _Interleave(torch.autograd.Function):
    """Windows' four phases, (N, H + 1, W + 1, 2, 2, D), to images (N, D, 2H, 2W), channels last."""

    @staticmethod
    def forward(ctx, product):
        count, height, width, _, _, channels = product.shape
        height, width = height - 1, width - 1
        image = product.new_empty(count, 2 * height, 2 * width, channels)
        for a, b in _PHASES:
            image[:, a::2, b::2] = product[:, a : a + height, b : b + width, a, b]
        return image.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        image = cotangent.permute(0, 2, 3, 1)
        count, height, width, channels = image.shape
        height, width = height // 2, width // 2
        product = image.new_zeros(count, height + 1, width + 1, 2, 2, channels)
        for a, b in _PHASES:
            product[:, a : a + height, b : b + width, a, b] = image[:, a::2, b::2]
        return product


_PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))
