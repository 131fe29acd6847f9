"""Layers with equalised learning rate (Karras et al. 2018): N(0, 1) weights, scaled at run time."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pydisent._checks import check_counts, check_integer


class EqualizedLinear(nn.Module):
    """Map (..., in_features) to (..., out_features): x W' gain / √in_features + b.

    Weights are initialised from N(0, 1), and the variance-preserving scale is applied at run time,
    so that an adaptive optimiser trains all layers at the same speed.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the last axis.
    bias : bool
        Whether to add b.
    bias_init : float
        Initial b.
    gain : float
        √2 preserves the variance through a following leaky ReLU.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        bias_init: float = 0.0,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        check_counts(in_features=in_features, out_features=out_features)
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.full((out_features,), float(bias_init))) if bias else None
        self.scale = gain / math.sqrt(in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        return F.linear(x, self.weight * self.scale, self.bias)

    def extra_repr(self) -> str:
        """Return the sizes."""
        outputs, inputs = self.weight.shape
        return f"{inputs}, {outputs}, bias={self.bias is not None}"


class EqualizedConv2d(nn.Module):
    """Convolve (B, in_channels, H, W) with weights N(0, gain² / fan-in), scaled at run time.

    Parameters
    ----------
    in_channels, out_channels : int
        Feature maps.
    kernel_size : int
        Height and width of the kernel in pixels.
    bias : bool
        Whether to add a bias per map, initially 0.
    stride : int
        Stride in pixels.
    padding : int, optional
        Zero padding in pixels; by default half the kernel size, so that an odd kernel of stride 1
        keeps the size.
    gain : float
        √2 preserves the variance through a following leaky ReLU.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, or `padding` not one >= 0.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        stride: int = 1,
        padding: int | None = None,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels)
        check_counts(kernel_size=kernel_size, stride=stride)
        padding = kernel_size // 2 if padding is None else padding
        check_integer("padding", padding, at_least=0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.scale = gain / (math.sqrt(in_channels) * kernel_size)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H', W')."""
        weight = self.weight * self.scale
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)

    def extra_repr(self) -> str:
        """Return the sizes."""
        outputs, inputs, size, _ = self.weight.shape
        return (
            f"{inputs}, {outputs}, kernel_size={size}, stride={self.stride},"
            f" padding={self.padding}, bias={self.bias is not None}"
        )
