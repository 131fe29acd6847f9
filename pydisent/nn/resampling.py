"""Convolutions that double or halve a resolution, optionally filtered as in StyleGAN2."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pydisent.nn.equalized import EqualizedConv2d

RESAMPLINGS = ("filtered", "unfiltered")
_TAPS = (1.0, 3.0, 3.0, 1.0)


class _Blur(nn.Module):
    """Filter maps (B, C, H, W) by [1, 3, 3, 1] along both axes (Karras et al. 2020)."""

    kernel: Tensor

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.register_buffer("kernel", torch.empty(1, 1, len(_TAPS), len(_TAPS)), persistent=False)
        self._apply(lambda x: x)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "_Blur":
        """Move as all modules do, and restore the taps, which no state dict has: see `to_empty`."""
        super()._apply(fn, recurse)
        if not self.kernel.is_meta:
            taps = torch.tensor(_TAPS, dtype=torch.float32, device="cpu") / sum(_TAPS)
            self.kernel = (self.gain * torch.outer(taps, taps)[None, None]).to(self.kernel)
        return self

    def forward(self, x: Tensor, padding: int, stride: int = 1) -> Tensor:
        """Return every `stride`-th pixel of the filtered, zero-padded maps."""
        maps = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(maps, 1, -1, -1)
        return F.conv2d(x, kernel, None, stride, padding, groups=maps)


class UpConv(EqualizedConv2d):
    """A 3×3 convolution of x (B, C, H, W) at twice its height and width.

    If filtered, pixels are interleaved with zeros, convolved and blurred, which interpolates
    linearly; otherwise pixels are repeated. In the interior the former equals the convolution of
    the interpolated map.
    """

    def __init__(self, inputs: int, outputs: int, gain: float, filtered: bool) -> None:
        super().__init__(inputs, outputs, 3, gain=gain)
        # Pixels are a fourth as dense.
        self.blur = _Blur(gain=4.0) if filtered else None

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, D, 2H, 2W)."""
        if self.blur is None:
            return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        weight = (self.weight * self.scale).transpose(0, 1).flip(2, 3)
        x = self.blur(F.conv_transpose2d(x, weight, stride=2), padding=1)
        return x if self.bias is None else x + self.bias[:, None, None].to(x.dtype)


class DownConv(EqualizedConv2d):
    """A 3×3 or 1×1 convolution of x (B, C, 2H, 2W) at half its height and width.

    If filtered, the map is blurred and every second pixel convolved; otherwise 2×2 means are
    convolved.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int, gain: float, filtered: bool, bias: bool = True
    ) -> None:
        super().__init__(inputs, outputs, size, bias, gain=gain)
        self.blur = _Blur() if filtered else None

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, D, H, W)."""
        if self.blur is None:
            return super().forward(F.avg_pool2d(x, 2))
        weight = self.weight * self.scale
        if weight.shape[-1] == 1:  # only the pixels that it reads need blurring
            return F.conv2d(self.blur(x, padding=1, stride=2), weight, self.bias)
        return F.conv2d(self.blur(x, padding=2), weight, self.bias, stride=2)
