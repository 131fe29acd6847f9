"""Convolutions that halve and double an image's resolution, where PyTorch is slow on CPUs."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from pydisent.ops import doubling_convolution
from pydisent.reference.doubling import doubling_gradients, kernel_gradient

# Maximum channels for which `doubling_convolution` is faster than oneDNN.
_FEW = 4


class DoublingConvTranspose2d(nn.ConvTranspose2d):
    """A 4×4 transposed convolution of stride 2, from (B, C, H, W) to (B, D, 2H, 2W).

    In eager training on a CPU it avoids oneDNN's slow paths: few output channels are computed by
    `doubling_convolution`, and derivatives by the convolution that it transposes. Elsewhere, and
    when traced or transformed, it behaves as `nn.ConvTranspose2d`.

    Parameters
    ----------
    in_channels, out_channels : int
        C and D.
    bias : bool
        Whether to add a learned bias per output channel.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1, bias=bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the images (B, D, 2H, 2W) for x (B, C, H, W)."""
        if output_size or not _is_plain(x):
            return super().forward(x, output_size)
        x, weight, bias = _autocast(x, self.weight, self.bias)
        if x.dtype != weight.dtype or x.shape[1] != weight.shape[0]:
            return super().forward(x)  # raises the usual error
        if weight.shape[1] > _FEW:
            return _Double.apply(x, weight, bias)
        images = doubling_convolution(x, weight)
        return images if bias is None else images + bias[:, None, None]


class HalvingConv2d(nn.Conv2d):
    """A 4×4 convolution of stride 2, from (B, C, 2H, 2W) to (B, D, H, W).

    In eager training on a CPU the gradient of an image with few channels avoids oneDNN's slow path.
    Elsewhere, and when traced or transformed, it behaves as `nn.Conv2d`.

    Parameters
    ----------
    in_channels, out_channels : int
        C and D.
    bias : bool
        Whether to add a learned bias per output channel.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (B, D, H, W) for x (B, C, 2H, 2W)."""
        if self.in_channels > _FEW or not x.requires_grad or not _is_plain(x):
            return super().forward(x)
        x, weight, bias = _autocast(x, self.weight, self.bias)
        odd = x.shape[2] % 2 or x.shape[3] % 2
        if odd or x.dtype != weight.dtype or x.shape[1] != weight.shape[1]:
            return super().forward(x)
        return _Halve.apply(x, weight, bias)


def _autocast(
    x: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the operands as autocast would cast them: all but those in double precision."""
    if not torch.is_autocast_enabled("cpu"):
        return x, weight, bias
    half = torch.get_autocast_dtype("cpu")

    def cast(operand: Tensor) -> Tensor:
        return operand if operand.dtype == torch.float64 else operand.to(half)

    return cast(x), cast(weight), None if bias is None else cast(bias)


def _is_plain(x: Tensor) -> bool:
    """Whether x is a batch of images on the CPU, in eager mode, with no transform but autograd."""
    return (
        x.device.type == "cpu"
        and x.dim() == 4
        and x.numel() > 0
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
        return F.conv_transpose2d(x, weight, bias, 2, 1)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        (cotangent,), (x, weight) = cotangents, ctx.saved_tensors
        wanted = ctx.needs_input_grad
        source, kernel = doubling_gradients(x, weight, cotangent, wanted)
        return source, kernel, cotangent.sum((0, 2, 3)) if wanted[2] else None


class _Halve(torch.autograd.Function):
    """conv2d(x, weight, bias, stride=2, padding=1); weight (D, C, 4, 4)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, 2, 1)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        (cotangent,), (x, weight) = cotangents, ctx.saved_tensors
        wanted = ctx.needs_input_grad
        source = doubling_convolution(cotangent, weight) if wanted[0] else None
        kernel = kernel_gradient(cotangent, x, weight) if wanted[1] else None
        return source, kernel, cotangent.sum((0, 2, 3)) if wanted[2] else None
