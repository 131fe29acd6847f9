"""DCGAN's transposed convolution (kernel 4, stride 2, padding 1) for shapes where oneDNN is slow.

Each input pixel adds a 4×4 block to the output: one matrix product computes the blocks of all
pixels, and the blocks of neighbours overlap by half. This is faster in a decoder's first layer,
with tiny images, where gradients are such products as well, and in its last, with few channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pydisent.ops import doubling_convolution
from pydisent.reference.doubling import doubling_gradients

_TINY = 16  # pixels of an input image; at 8×8 oneDNN is as fast
_FEW = 4  # most output channels for which there is a kernel
_BLOCKS = 1 << 19  # elements of blocks at once, so that they stay in the cache


def is_doubling(
    source: Tensor,
    weight: Tensor,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> bool:
    """Whether these arguments of ``conv_transpose2d``, bias aside, are DCGAN's, on the CPU."""
    expected = ((stride, 2), (padding, 1), (output_padding, 0), (dilation, 1))
    return (
        source.device.type == "cpu"
        and source.dim() == 4
        and not source.is_complex()
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
    """``conv_transpose2d(rows, weight, stride=2, padding=1)``, fastest; ``weight`` (C, D, 4, 4)."""
    if weight.shape[1] <= _FEW or _is_tiny(rows):
        return _Double.apply(rows, weight)
    return F.conv_transpose2d(rows, weight, stride=2, padding=1)


def gradients(
    rows: Tensor, weight: Tensor, cotangent: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of ``double`` by each needed argument; differentiable in grad mode."""
    if not _is_tiny(rows) or torch.is_grad_enabled():
        cotangent = cotangent.contiguous(memory_format=torch.channels_last)  # so are the gradients
        return doubling_gradients(rows, weight, cotangent, needed)
    taps, lasts = _taps(weight), rows.permute(0, 2, 3, 1)
    source = rows.new_empty(lasts.shape)
    kernel = taps.new_zeros(taps.shape, dtype=torch.promote_types(taps.dtype, torch.float32))
    size = _images_at_once(rows, weight)
    parts = (lasts.split(size), source.split(size), cotangent.permute(0, 2, 3, 1).split(size))
    for x, gradient, images in zip(*parts):
        blocks = F.pad(images, (0, 0, 1, 1, 1, 1)).unfold(1, 4, 2).unfold(2, 4, 2)
        blocks = blocks.permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(0, 2)
        pixels = x.flatten(0, 2)
        if needed[0]:
            torch.mm(blocks, taps.mT, out=gradient.flatten(0, 2))
        if needed[1] and kernel.dtype == taps.dtype:
            kernel.addmm_(pixels.mT, blocks)
        elif needed[1]:
            kernel += pixels.mT @ blocks
    by_weight = kernel.unflatten(1, (4, 4, weight.shape[1])).permute(0, 3, 1, 2).to(weight.dtype)
    return source.permute(0, 3, 1, 2) if needed[0] else None, by_weight if needed[1] else None


class _Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, weight):
        ctx.save_for_backward(rows, weight)
        if weight.shape[1] <= _FEW:
            return doubling_convolution(rows, weight)
        return _by_blocks(rows, weight)

    @staticmethod
    def backward(ctx, cotangent):
        rows, weight = ctx.saved_tensors
        return gradients(rows, weight, cotangent, ctx.needs_input_grad)


def _by_blocks(rows: Tensor, weight: Tensor) -> Tensor:
    count, _, height, width = rows.shape
    taps, out = _taps(weight), rows.new_empty(count, height, 2, width, 2, weight.shape[1])
    size = _images_at_once(rows, weight)
    for x, images in zip(rows.permute(0, 2, 3, 1).split(size), out.split(size)):
        blocks = (x.flatten(0, 2) @ taps).view(len(x), height, width, 4, 4, weight.shape[1])
        # The outer half of a block overlaps the inner halves of its neighbours.
        blocks[:, :, 1:, :, 1] += blocks[:, :, :-1, :, 3]
        blocks[:, :, :-1, :, 2] += blocks[:, :, 1:, :, 0]
        inner = blocks[:, :, :, :, 1:3]
        inner[:, 1:, :, 1] += inner[:, :-1, :, 3]
        inner[:, :-1, :, 2] += inner[:, 1:, :, 0]
        images.copy_(inner[:, :, :, 1:3].transpose(2, 3))
    return out.view(count, 2 * height, 2 * width, weight.shape[1]).permute(0, 3, 1, 2)


def _is_tiny(rows: Tensor) -> bool:
    return rows.shape[2:].numel() <= _TINY


def _taps(weight: Tensor) -> Tensor:
    """(C, D, 4, 4) as (C, 16 D), channels last."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _images_at_once(rows: Tensor, weight: Tensor) -> int:
    return max(1, _BLOCKS // max(1, 16 * weight.shape[1] * rows.shape[2:].numel()))
