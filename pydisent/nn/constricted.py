"""The generator of Zhu et al. (2021): each latent code restyles one region at one resolution."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pydisent import parallel
from pydisent._checks import check, check_batch, check_counts, check_one_of, check_power_of_two
from pydisent.nn.equalized import EqualizedConv2d, EqualizedLinear
from pydisent.nn.spatial_constriction import MASKS, SpatialConstriction

_START = 4  # px of the constant that the generator starts from
# The activation √2 lrelu(x) equals lrelu(√2 x): the weights before it take the factor.
GAIN = math.sqrt(2)


def check_widths(max_width: int, min_width: int) -> None:
    """Raise unless both are integers >= 1, `min_width` being at most `max_width`."""
    check_counts(max_width=max_width, min_width=min_width)
    check(min_width <= max_width, "min_width", f"at most max_width = {max_width}", min_width)


def leaky_relu(x: Tensor) -> Tensor:
    """Return the leaky ReLU of x, with slope 0.2 below zero."""
    return F.leaky_relu(x, 0.2)


class ConstrictedGenerator(nn.Module):
    """Map codes (B, latent_size) to images (B, channels, image_size, image_size) around [-1, 1].

    There is no mapping network: a learned 4×4 constant passes through one block per resolution,
    each of which takes the next `codes` numbers of the code (the paper's Fig. 1 and Appendix):

        Const 4×4 → [ResConv-up, SC, ResConv-id, Noise × 2] × blocks → ResConv-id × 2 → 1×1 to RGB

    At 128 px and 512 to 64 maps the blocks have 512, 512, 256, 128 and 64 feature maps, and five
    codes each make 25. Without constriction, a block's codes act everywhere, through one modulated
    convolution: the InfoGAN that the paper compares with.

    Parameters
    ----------
    codes : int
        Latent codes per block.
    channels : int
        Image channels.
    image_size : int
        Height and width in pixels, a power of two >= 8.
    max_width, min_width : int
        Most and fewest feature maps: the first two blocks have the most; each further one has half
        as many, down to the fewest.
    constricted : bool
        Whether codes act inside masks (SC).
    mask : str
        "band", or "softmax" for the paper's ablation.
    rectangles : int
        Number J of rectangles per mask.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, `image_size` is not a power of two >= 8, `min_width` is
        above `max_width`, or `mask` is another name.
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
    ) -> None:
        super().__init__()
        check_power_of_two("image_size", image_size, at_least=2 * _START)
        check_counts(codes=codes, channels=channels, rectangles=rectangles)
        check_widths(max_width, min_width)
        check_one_of("mask", mask, MASKS)
        self.image_shape = (channels, image_size, image_size)
        self.codes, self.constricted = codes, constricted
        self.constant = nn.Parameter(torch.randn(1, max_width, _START, _START))
        self.blocks = nn.ModuleList()
        width, size = max_width, _START
        while size < image_size:
            size, inputs = 2 * size, width
            width = min(max(16 * max_width // size, min_width), max_width)
            style: nn.Module = (
                SpatialConstriction(width, size, codes=codes, rectangles=rectangles, mask=mask)
                if constricted
                else ModulatedConv(width, codes)
            )
            self.blocks.append(Block(inputs, width, size, style))
        self.last = nn.Sequential(ResConv(width, width), ResConv(width, width))
        self.to_rgb = EqualizedConv2d(width, channels, 1)

    @property
    def latent_size(self) -> int:
        """Return the size of the code, over all blocks."""
        return self.codes * len(self.blocks)

    def forward(self, code: Tensor, fresh_noise: bool = False, batches: int = 1) -> Tensor:
        """Return the images of codes (B, latent_size), with fixed or freshly drawn noise inputs.

        The codes may be several `batches`, one after the other: where processes share a batch,
        each takes its shard of each batch's noise.

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

        It is scaled up bilinearly from its block's resolution; None without constriction.
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
    """ResConv-up, the codes' styles, ResConv-id, Noise × 2: (B, inputs, size/2, size/2) doubled."""

    def __init__(self, inputs: int, width: int, size: int, style: nn.Module) -> None:
        super().__init__()
        self.up = ResConv(inputs, width, up=True)
        self.style = style
        self.conv = ResConv(width, width)
        self.noise = nn.ModuleList([Noise(width, size), Noise(width, size)])

    def forward(self, x: Tensor, code: Tensor, fresh: int = 0) -> Tensor:
        """Return (B, width, size, size) for x and the block's codes (B, codes)."""
        return self.finish(self.style(self.up(x), code), fresh)

    def finish(self, styled: Tensor, fresh: int = 0) -> Tensor:
        """Return (B, width, size, size) for the styled map of that shape: what follows SC."""
        x = self.conv(styled)
        for noise in self.noise:
            x = noise(x, fresh)
        return x


class ResConv(nn.Module):
    """lrelu(conv3×3(x)) + lrelu(conv1×1(x)), of x scaled up twofold to its nearest pixels first."""

    def __init__(self, inputs: int, outputs: int, up: bool = False) -> None:
        super().__init__()
        self.conv = EqualizedConv2d(inputs, outputs, 3, gain=GAIN)
        self.skip = EqualizedConv2d(inputs, outputs, 1, gain=GAIN)
        self.up = up

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H, W), or twice as high and wide, for x (B, inputs, H, W)."""
        skip = leaky_relu(self.skip(x))
        if self.up:
            # A 1×1 convolution before the nearest pixels are repeated is the same at a quarter.
            x, skip = (F.interpolate(t, scale_factor=2.0, mode="nearest") for t in (x, skip))
        return leaky_relu(self.conv(x)) + skip


class Noise(nn.Module):
    """lrelu(conv3×3(x) + strength · noise), one noise for all maps, the strength starting at 0."""

    noise: Tensor

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.conv = EqualizedConv2d(width, width, 3, gain=GAIN)
        self.strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(1, 1, size, size))

    def forward(self, x: Tensor, fresh: int = 0) -> Tensor:
        """Return (B, width, size, size), with the fixed noise or one drawn for so many batches."""
        x = self.conv(x)
        noise = parallel.randn_like(x[:, :1], fresh) if fresh else self.noise
        return leaky_relu(x + (self.strength * noise).to(x.dtype))


class ModulatedConv(nn.Module):
    """lrelu of a 3×3 convolution whose weights the codes (B, codes) scale (Karras et al. 2020).

    A dense layer of all codes together scales the input maps; each output map is then divided by
    the norm of its scaled weights.
    """

    def __init__(self, width: int, codes: int) -> None:
        super().__init__()
        self.scales = EqualizedLinear(codes, width, bias_init=1.0)
        self.conv = EqualizedConv2d(width, width, 3, bias=False)
        self.bias = nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Return (B, width, H, W) for x of that shape and codes (B, codes)."""
        scales = self.scales(code)
        weight = self.conv.weight * self.conv.scale
        norms = GAIN * (scales.square() @ weight.square().sum((2, 3)).T + 1e-8).rsqrt()
        x = self.conv(x * scales[:, :, None, None].to(x.dtype))
        return leaky_relu(x * norms[:, :, None, None].to(x.dtype) + self.bias.to(x.dtype))
