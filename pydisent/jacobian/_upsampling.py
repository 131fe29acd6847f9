"""Transposed convolution of tiny images by one matrix product, for bf16 tangents on the CPU.

oneDNN's bf16 transposed convolution of 4×4 images takes twice the time of this (measured on a Xeon
with AMX), and a DCGAN spends a third of its tangents' time there.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_LARGEST = 16  # pixels of an input image; at 8×8 oneDNN is as fast


def is_doubling(
    source: Tensor,
    weight: Tensor,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> bool:
    """Whether these are the arguments of DCGAN's layer (kernel 4, stride 2, padding 1), tiny."""
    expected = ((stride, 2), (padding, 1), (output_padding, 0), (dilation, 1))
    return (
        source.device.type == "cpu"
        and source.dim() == 4
        and source.shape[2] * source.shape[3] <= _LARGEST
        and tuple(weight.shape[2:]) == (4, 4)
        and groups == 1
        and all(value in (wanted, (wanted, wanted), [wanted, wanted]) for value, wanted in expected)
    )


def double(rows: Tensor, weight: Tensor) -> Tensor:
    """``conv_transpose2d(rows, weight, stride=2, padding=1)`` for weight (C, D, 4, 4)."""
    return _Double.apply(rows, weight)


class _Double(torch.autograd.Function):
    """One product: all 2×2 windows of the input times all taps of the four phases of the output.

    An output pixel sees a 2×2 window of the input. The four pixels of a 2×2 block of the output
    (its phases) see windows that overlap, so the product of (N (H + 1) (W + 1), 4C) and (4C, 4D)
    holds the output.
    """

    @staticmethod
    def forward(ctx, rows, weight):
        ctx.save_for_backward(rows, weight)
        count, _, height, width = rows.shape
        blocks = (count, height + 1, width + 1, 2, 2, weight.shape[1])
        product = (_windows(rows) @ _taps(weight)).view(blocks)
        image = rows.new_empty(count, 2 * height, 2 * width, weight.shape[1])
        for a, b in _PHASES:
            image[:, a::2, b::2] = product[:, a : a + height, b : b + width, a, b]
        return image.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        rows, weight = ctx.saved_tensors
        count, channels, height, width = rows.shape
        image = cotangent.permute(0, 2, 3, 1)
        product = image.new_zeros(count, height + 1, width + 1, 2, 2, weight.shape[1])
        for a, b in _PHASES:
            product[:, a : a + height, b : b + width, a, b] = image[:, a::2, b::2]
        product = product.flatten(0, 2).flatten(1)
        grad_rows = grad_weight = None
        if ctx.needs_input_grad[0]:
            windows = (product @ _taps(weight).mT).view(count, height + 1, width + 1, 4, channels)
            parts = [
                windows[:, 1 - p : height + 1 - p, 1 - q : width + 1 - q, 2 * p + q]
                for p, q in _PHASES
            ]
            grad_rows = (parts[0] + parts[1] + (parts[2] + parts[3])).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            taps = (_windows(rows).mT @ product).view(2, 2, channels, 2, 2, -1)  # p q C a b D
            grad_weight = taps.permute(2, 5, 0, 3, 1, 4).flatten(4).flatten(2, 3).flip(2, 3)
        return grad_rows, grad_weight


_PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))


def _windows(rows: Tensor) -> Tensor:
    """The 2×2 windows of the padded images: (N (H + 1) (W + 1), 4C), rows and columns before C."""
    x = F.pad(rows.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    windows = torch.cat([x[:, :-1, :-1], x[:, :-1, 1:], x[:, 1:, :-1], x[:, 1:, 1:]], -1)
    return windows.flatten(0, 2)


def _taps(weight: Tensor) -> Tensor:
    """(4C, 4D): row p of a window (0 above) reaches phase a through kernel row 3 − a − 2p."""
    kernel = weight.flip(2, 3).unflatten(3, (2, 2)).unflatten(2, (2, 2))  # C D p a q b
    return kernel.permute(2, 4, 0, 3, 5, 1).flatten(0, 2).flatten(1)
