"""The generator of Zhu et al. (2021): each latent code restyles one region at one resolution."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pydisent import parallel
from pydisent._checks import check, check_batch, check_counts, check_one_of, check_power_of_two
from pydisent.nn.equalized import EqualizedConv2d, EqualizedLinear
from pydisent.nn.resampling import RESAMPLINGS, UpConv
from pydisent.nn.spatial_constriction import MASKS, SpatialConstriction

WIDTH_SCHEDULES = ("layers", "blocks")
_START = 4  # px of the constant that the generator starts from
# The activation √2 lrelu(x) equals lrelu(√2 x): the preceding weights absorb the factor.
GAIN = math.sqrt(2)


def check_widths(max_width: int, min_width: int) -> None:
    """Raise unless both are integers >= 1 and `min_width` is at most `max_width`."""
    check_counts(max_width=max_width, min_width=min_width)
    check(min_width <= max_width, "min_width", f"at most max_width = {max_width}", min_width)


def layer_widths(blocks: int, max_width: int, min_width: int) -> list[int]:
    """Return the feature maps of the author's layers: the constant's, four per block, the last's.

    Layers are numbered in the author's order: the constant is 0, and a block's layers are
    ResConv-up, SC, ResConv-id and Noise. Layer i has 2 max_width / 2^⌊i/6⌋ maps, clamped to the
    limits.
    """
    numbers = range(4 * blocks + 2)
    return [min(max(2 * max_width >> i // 6, min_width), max_width) for i in numbers]


def block_widths(blocks: int, max_width: int, min_width: int) -> list[int]:
    """Return the feature maps of the same layers, halved in each block from the third on.

    The first two blocks have `max_width`; all layers of a block have equally many, at least
    `min_width`.
    """
    widths = [max(2 * max_width >> max(i, 1), min_width) for i in range(blocks)]
    return [max_width, *(w for width in widths for w in [width] * 4), widths[-1]]


def leaky_relu(x: Tensor) -> Tensor:
    """Return the leaky ReLU of x, with slope 0.2 below zero."""
    return F.leaky_relu(x, 0.2)


class ConstrictedGenerator(nn.Module):
    """Map codes (B, latent_size) to images (B, channels, image_size, image_size) around [-1, 1].

    There is no mapping network: a learned 4×4 constant passes through one block per resolution,
    each taking the next `codes` entries of the code (the paper's Fig. 1 and Appendix):

        Const 4×4 → [ResConv-up, SC, ResConv-id, Noise × 2] × blocks → ResConv-id × 2 → 1×1 to RGB

    At 128 px and 512 to 64 maps the blocks end with 512, 512, 256, 256 and 128 feature maps, and
    five codes per block make 25. Without constriction, a block's codes act everywhere, through one
    modulated convolution: the InfoGAN baseline of the paper.

    Parameters
    ----------
    codes : int
        Latent codes per block.
    channels : int
        Image channels.
    image_size : int
        Height and width in pixels, a power of two >= 8.
    max_width, min_width : int
        Maximum and minimum number of feature maps.
    constricted : bool
        Whether codes act inside masks (SC).
    mask : str
        "band", or "softmax" for the paper's ablation.
    rectangles : int
        Number J of rectangles per mask.
    width_schedule : str
        Where the number of feature maps decreases, on which the paper is silent. "layers", as in
        the author's code: it halves after every sixth of the layers above, starting from twice
        `max_width` and clamped to it; the last ResConv is one block of two 3×3 convolutions.
        "blocks": it halves in each block after the second, and there are two last ResConv. Both
        stop at `min_width`.
    resampling : str
        "filtered": ResConv-up interpolates by [1, 3, 3, 1], but its 1×1 branch repeats pixels, as
        in the author's code. "unfiltered": both branches repeat pixels.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, `image_size` is not a power of two >= 8, `min_width` is
        above `max_width`, or `mask`, `width_schedule` or `resampling` is another name.
    """

    def __init__(
        self,
        codes: int = 5,
        channels: int = 3,
        image_size: int = 128,
        *,
        max_width: int = 512,
        min_width: int = 64,
        constricted: bool = True,
        mask: str = "band",
        rectangles: int = 4,
        width_schedule: str = "layers",
        resampling: str = "filtered",
    ) -> None:
        super().__init__()
        check_power_of_two("image_size", image_size, at_least=2 * _START)
        check_counts(codes=codes, channels=channels, rectangles=rectangles)
        check_widths(max_width, min_width)
        check_one_of("mask", mask, MASKS)
        check_one_of("width_schedule", width_schedule, WIDTH_SCHEDULES)
        check_one_of("resampling", resampling, RESAMPLINGS)
        self.image_shape = (channels, image_size, image_size)
        self.codes, self.constricted = codes, constricted
        blocks, by_layers = (image_size // _START).bit_length() - 1, width_schedule == "layers"
        widths = (layer_widths if by_layers else block_widths)(blocks, max_width, min_width)
        self.constant = nn.Parameter(torch.randn(1, widths[0], _START, _START))
        self.blocks = nn.ModuleList()
        for i in range(blocks):
            own, size = widths[4 * i : 4 * i + 5], 2 * _START << i
            style: nn.Module
            if constricted:
                own[2] = own[1]  # masks keep the number of maps
                options: dict[str, Any] = {"codes": codes, "rectangles": rectangles, "mask": mask}
                style = SpatialConstriction(own[1], size, **options)
            else:
                style = ModulatedConv(own[1], codes, own[2])
            self.blocks.append(Block(own, size, style, resampling == "filtered"))
        last = [ResConv(widths[-2], widths[-1], depth=2 if by_layers else 1)]
        if not by_layers:
            last.append(ResConv(widths[-1], widths[-1]))
        self.last = nn.Sequential(*last)
        self.to_rgb = EqualizedConv2d(widths[-1], channels, 1)

    @property
    def latent_size(self) -> int:
        """Return the size of the code, over all blocks."""
        return self.codes * len(self.blocks)

    def forward(self, code: Tensor, fresh_noise: bool = False, batches: int = 1) -> Tensor:
        """Return the images for codes (B, latent_size), with fixed or freshly drawn noise inputs.

        The codes may be several concatenated `batches`: if processes share a batch, each takes its
        shard of every batch's noise.

        Raises
        ------
        ValueError
            If the code has another shape, as for :meth:`masks`.
        """
        check_batch("code", code, self.latent_size)
        x = self.constant.expand(code.shape[0], -1, -1, -1)
        for i, block in enumerate(self.blocks):
            own = code[:, i * self.codes : (i + 1) * self.codes]
            x = block(x, own, batches if fresh_noise else 0)
        return self.to_rgb(self.last(x))

    @torch.no_grad()
    def masks(self, code: Tensor) -> Tensor | None:
        """Return each code's mask (B, latent_size, image_size, image_size) in [0, 1].

        Masks are upsampled bilinearly from their block's resolution; None without constriction.
        """
        check_batch("code", code, self.latent_size)
        if not self.constricted:
            return None
        x = self.constant.expand(len(code), -1, -1, -1)
        masks = []
        for block, own in zip(self.blocks, code.split(self.codes, dim=1)):
            assert isinstance(block, Block)
            assert isinstance(block.style, SpatialConstriction)
            styled, mask = block.style.with_masks(block.up(x), own)
            masks.append(F.interpolate(mask, self.image_shape[1:], mode="bilinear"))
            x = block.finish(styled)
        return torch.cat(masks, dim=1)


class Block(nn.Module):
    """ResConv-up, the codes' styles, ResConv-id, Noise × 2: (B, C, size/2, size/2) doubled.

    `widths` are the feature maps of the input and after each of the four layers.
    """

    def __init__(self, widths: Sequence[int], size: int, style: nn.Module, filtered: bool) -> None:
        super().__init__()
        inputs, up, styled, wide, noisy = widths
        self.up = ResConv(inputs, up, up=True, filtered=filtered)
        self.style = style
        self.conv = ResConv(styled, wide)
        self.noise = nn.ModuleList([Noise(wide, noisy, size), Noise(noisy, noisy, size)])

    def forward(self, x: Tensor, code: Tensor, fresh: int = 0) -> Tensor:
        """Return (B, D, size, size) for x and the block's codes (B, codes)."""
        return self.finish(self.style(self.up(x), code), fresh)

    def finish(self, styled: Tensor, fresh: int = 0) -> Tensor:
        """Apply the layers after SC to a styled map, returning (B, D, size, size)."""
        x = self.conv(styled)
        for noise in self.noise:
            x = noise(x, fresh)
        return x


class ResConv(nn.Module):
    """lrelu(conv3×3(x)) + lrelu(conv1×1(x)), both at twice the resolution of x if `up`.

    With `depth` 2 the first term is two such convolutions in sequence.
    """

    def __init__(
        self, inputs: int, outputs: int, up: bool = False, depth: int = 1, filtered: bool = False
    ) -> None:
        super().__init__()
        self.conv = (
            UpConv(inputs, outputs, GAIN, filtered)
            if up
            else EqualizedConv2d(inputs, outputs, 3, gain=GAIN)
        )
        self.further = nn.ModuleList(
            EqualizedConv2d(outputs, outputs, 3, gain=GAIN) for _ in range(1, depth)
        )
        self.skip = EqualizedConv2d(inputs, outputs, 1, gain=GAIN)
        self.up = up

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H, W), or twice as high and wide, for x (B, inputs, H, W)."""
        skip = leaky_relu(self.skip(x))
        if self.up:
            # A 1×1 convolution before upsampling is equivalent at a quarter of the cost.
            skip = F.interpolate(skip, scale_factor=2.0, mode="nearest")
        x = leaky_relu(self.conv(x))
        for conv in self.further:
            x = leaky_relu(conv(x))
        return x + skip


class Noise(nn.Module):
    """lrelu(conv3×3(x) + strength · noise), one noise for all maps, with initial strength 0."""

    noise: Tensor

    def __init__(self, inputs: int, width: int, size: int) -> None:
        super().__init__()
        self.conv = EqualizedConv2d(inputs, width, 3, gain=GAIN)
        self.strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(1, 1, size, size))

    def forward(self, x: Tensor, fresh: int = 0) -> Tensor:
        """Return (B, width, size, size), with the fixed noise or one drawn for `fresh` batches."""
        x = self.conv(x)
        noise = parallel.randn_like(x[:, :1], fresh) if fresh else self.noise
        return leaky_relu(x + (self.strength * noise).to(x.dtype))


class ModulatedConv(nn.Module):
    """lrelu of a 3×3 convolution whose weights the codes (B, codes) scale (Karras et al. 2020).

    A dense layer of all codes together scales the input maps; each output map is then divided by
    the norm of its scaled weights.
    """

    def __init__(self, inputs: int, codes: int, outputs: int) -> None:
        super().__init__()
        self.scales = EqualizedLinear(codes, inputs, bias_init=1.0)
        self.conv = EqualizedConv2d(inputs, outputs, 3, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Return (B, outputs, H, W) for x (B, inputs, H, W) and codes (B, codes)."""
        scales = self.scales(code)
        weight = self.conv.weight * self.conv.scale
        norms = GAIN * (scales.square() @ weight.square().sum((2, 3)).T + 1e-8).rsqrt()
        x = self.conv(x * scales[:, :, None, None].to(x.dtype))
        return leaky_relu(x * norms[:, :, None, None].to(x.dtype) + self.bias.to(x.dtype))
