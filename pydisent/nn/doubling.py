"""The transposed convolution that doubles an image's resolution, where torch is slow at it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F


class DoublingConvTranspose2d(nn.ConvTranspose2d):
    """A 4×4 transposed convolution of stride 2, from (B, C, H, W) to (B, D, 2H, 2W).

    In eager training on a CPU it goes other, faster ways than oneDNN's: with D = 1 it is a
    product of all pixels with the kernel's 16 taps, whose overlapping blocks are then added; and
    its derivatives are those of the convolution that it transposes. Elsewhere, and where its
    derivatives are traced or transformed, it is torch's own layer.

    Parameters
    ----------
    in_channels, out_channels : int
        C and D.
    bias : bool
        Whether each output channel has a learned constant.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1, bias=bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the images (B, D, 2H, 2W) of x (B, C, H, W)."""
        if output_size or not x.numel() or not _is_plain(x):
            return super().forward(x, output_size)
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cpu"):
            half = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(half), weight.to(half), None if bias is None else bias.to(half)
        elif x.dtype != weight.dtype:
            return super().forward(x)  # which says so
        return _Double.apply(x, weight, bias)


def _is_plain(x: Tensor) -> bool:
    """Whether x is a batch on the CPU in eager mode, seen by autograd alone."""
    return (
        x.device.type == "cpu"
        and x.dim() == 4
        and type(x) in (Tensor, nn.Parameter)
        and not torch.compiler.is_compiling()
        and forward_ad._current_level < 0
        and not torch._C._len_torch_function_stack()
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._functorch.peek_interpreter_stack() is None
    )


class _Double(torch.autograd.Function):
    """conv_transpose2d(x, weight, bias, stride=2, padding=1); weight (C, D, 4, 4)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        if weight.shape[1] > 1:
            return F.conv_transpose2d(x, weight, bias, 2, 1)
        height, width = x.shape[2:]
        blocks = x.permute(0, 2, 3, 1).flatten(1, 2) @ weight.flatten(1)
        image = F.fold(blocks.mT, (2 * height, 2 * width), 4, padding=1, stride=2)
        return image if bias is None else image.add_(bias)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        # Of plain operations, so that there are second derivatives.
        (cotangent,), (x, weight) = cotangents, ctx.saved_tensors
        wanted = ctx.needs_input_grad
        source = F.conv2d(cotangent, weight, None, 2, 1) if wanted[0] else None
        kernel = torch.ops.aten.convolution_backward(
            x, cotangent, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1,
            [False, True, False],
        )[1] if wanted[1] else None  # fmt: skip
        return source, kernel, cotangent.sum((0, 2, 3)) if wanted[2] else None
