"""The residual discriminator and recogniser of Zhu et al. (2021), adapted from StyleGAN2."""

import math

import torch
from torch import Tensor, nn

from pydisent import parallel
from pydisent._checks import check_batch, check_counts, check_one_of, check_power_of_two
from pydisent.nn.constricted import GAIN, check_widths, leaky_relu
from pydisent.nn.equalized import EqualizedConv2d, EqualizedLinear
from pydisent.nn.resampling import RESAMPLINGS, DownConv
from pydisent.reference.dtypes import compute_dtype

_END = 4  # px at the narrow end
_GROUP = 4  # images per group of the discriminator's minibatch deviation


class _Residual(nn.Module):
    """Map images (B, channels, image_size, image_size) to (B, outputs)."""

    statistics = 0  # maps that `_append` adds

    def __init__(
        self,
        outputs: int,
        channels: int,
        image_size: int,
        max_width: int,
        min_width: int,
        resampling: str,
    ) -> None:
        super().__init__()
        check_one_of("resampling", resampling, RESAMPLINGS)
        check_power_of_two("image_size", image_size, at_least=2 * _END)
        check_counts(outputs=outputs, channels=channels)
        check_widths(max_width, min_width)
        self.image_shape = (channels, image_size, image_size)

        def width(size: int) -> int:
            return min(max(8 * max_width // size, min_width), max_width)

        self.from_rgb = EqualizedConv2d(channels, width(image_size), 1, gain=GAIN)
        self.blocks = nn.Sequential()
        size = image_size
        while size > _END:
            self.blocks.append(ResDown(width(size), width(size // 2), resampling == "filtered"))
            size //= 2
        last = width(_END)
        self.conv = EqualizedConv2d(last + self.statistics, last, 3, gain=GAIN)
        self.dense = EqualizedLinear(last * _END**2, last, gain=GAIN)
        self.output = EqualizedLinear(last, outputs)

    def _append(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs) for images x."""
        check_batch("x", x, *self.image_shape)
        x = self.blocks(leaky_relu(self.from_rgb(x)))
        x = leaky_relu(self.conv(self._append(x)))
        return self.output(leaky_relu(self.dense(x.flatten(1))))


class ResDown(nn.Module):
    """Halve the size: (two 3×3 convolutions, the second halving, + a halving 1×1 skip) / √2."""

    def __init__(self, inputs: int, outputs: int, filtered: bool) -> None:
        super().__init__()
        self.conv = EqualizedConv2d(inputs, inputs, 3, gain=GAIN)
        # Both branches' weights absorb the 1/√2 of their sum.
        self.down = DownConv(inputs, outputs, 3, GAIN / math.sqrt(2), filtered)
        self.skip = DownConv(inputs, outputs, 1, 1 / math.sqrt(2), filtered, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H/2, W/2) for x (B, inputs, H, W)."""
        return leaky_relu(self.down(leaky_relu(self.conv(x)))) + self.skip(x)


class ResidualDiscriminator(_Residual):
    """Map images (B, channels, image_size, image_size) to logits (B,), high for real ones.

    Residual blocks halve the image down to 4×4, where a map of the standard deviation within
    groups of up to four images (Karras et al. 2018) is appended; one convolution and two dense
    layers follow. At 128 px and 512 to 64 maps: 64, 64, 128, 256, 512 and 512 feature maps.

    Parameters
    ----------
    channels : int
        Image channels.
    image_size : int
        Height and width in pixels, a power of two >= 8.
    max_width, min_width : int
        Maximum and minimum number of feature maps.
    resampling : str
        "filtered": maps are blurred by [1, 3, 3, 1] before subsampling, as in the authors' code.
        "unfiltered": 2×2 pixels are averaged.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, `image_size` is not a power of two >= 8, `min_width` is
        above `max_width`, or `resampling` is another name.
    """

    statistics = 1

    def __init__(
        self,
        channels: int = 3,
        image_size: int = 128,
        *,
        max_width: int = 512,
        min_width: int = 64,
        resampling: str = "filtered",
    ) -> None:
        super().__init__(1, channels, image_size, max_width, min_width, resampling)

    def _append(self, x: Tensor) -> Tensor:
        return torch.cat([x, minibatch_deviation(x).to(x.dtype)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B,) for images x."""
        return super().forward(x).squeeze(1)


class ResidualRecogniser(_Residual):
    """Map images (B, channels, image_size, image_size) to codes (B, latent_size).

    The discriminator's architecture with its own weights. Unlike the authors' recogniser it has no
    minibatch deviation: an image's code must not depend on the rest of the batch.

    Parameters
    ----------
    latent_size : int
        Size of the code.
    channels : int
        Image channels.
    image_size : int
        Height and width in pixels, a power of two >= 8.
    max_width, min_width : int
        Maximum and minimum number of feature maps.
    resampling : str
        "filtered": maps are blurred by [1, 3, 3, 1] before subsampling, as in the authors' code.
        "unfiltered": 2×2 pixels are averaged.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, `image_size` is not a power of two >= 8, `min_width` is
        above `max_width`, or `resampling` is another name.
    """

    def __init__(
        self,
        latent_size: int,
        channels: int = 3,
        image_size: int = 128,
        *,
        max_width: int = 512,
        min_width: int = 64,
        resampling: str = "filtered",
    ) -> None:
        check_counts(latent_size=latent_size)
        super().__init__(latent_size, channels, image_size, max_width, min_width, resampling)


def minibatch_deviation(x: Tensor) -> Tensor:
    """Return the mean standard deviation within groups of images, as one map (B, 1, H, W).

    The group size is the largest one up to four that divides the batch; a group's deviations are
    averaged over all maps and pixels of x (B, C, H, W).
    """
    _, _, height, width = x.shape
    whole = parallel.gather(x.to(compute_dtype(x)))
    batch = len(whole)
    group = next((g for g in range(_GROUP, 1, -1) if batch % g == 0), 1)
    groups = whole.unflatten(0, (group, batch // group))
    deviation = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
    own = parallel.own_rows(deviation.repeat(group))
    return own.view(-1, 1, 1, 1).expand(-1, -1, height, width)
