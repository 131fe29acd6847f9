"""The autoencoder of Lezama (2019, App. A.2): a code of attributes y and a feature map z."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch._C import _are_functorch_transforms_active as are_transformed
from torch.nn import functional as F

from pydisent._checks import check_batch, check_counts, check_power_of_two, shape_error
from pydisent.nn.growth import with_more_features, with_more_inputs, with_more_outputs

_END = 2  # px at the narrow end of both networks
_SLOPE = 0.2  # of the leaky ReLU
_MAX_WIDTH = 512  # feature maps before the last convolution
_MIN_SIZE, _MAX_SIZE = 16, 256  # px


def _widths(base: int, image_size: int) -> list[int]:
    """Return the feature maps from half resolution to 4 px: 16 at 256 px gives 16, 32, ..., 512."""
    doublings = (image_size // _END).bit_length() - 2
    return [min(base * 2**i, _MAX_WIDTH) for i in range(doublings)]


def _check(attributes: int, z_channels: int, channels: int, base: int, image_size: int) -> None:
    check_counts(attributes=attributes, z_channels=z_channels, channels=channels, base=base)
    check_power_of_two("image_size", image_size, at_least=_MIN_SIZE, at_most=_MAX_SIZE)


class AttributeEncoder(nn.Module):
    """Map images (B, channels, image_size, image_size) to attributes y (B, k) and a feature map z.

    Blocks of a 4×4 convolution of stride 2, batch normalisation and leaky ReLU (0.2), with `base`
    feature maps and twice as many at each block, at most 512; at 256 px 16, 32, 64, 128, 256, 512
    and k + z_channels. The last block's maps have 2×2 px: the spatial means of the first k are y,
    real numbers of either sign; the others are z (B, z_channels, 2, 2).

    Parameters
    ----------
    attributes : int
        k, the number of attributes.
    z_channels : int
        Feature maps of z; d = 4 z_channels.
    channels : int
        Image channels.
    base : int
        Feature maps of the first block.
    image_size : int
        Height and width in pixels, a power of two from 16 to 256.
    last_activation : bool
        Whether the last block also has a leaky ReLU, as published.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, or `image_size` is not accepted.
    """

    def __init__(
        self,
        attributes: int,
        z_channels: int = 512,
        channels: int = 3,
        base: int = 16,
        image_size: int = 256,
        last_activation: bool = True,
    ) -> None:
        super().__init__()
        _check(attributes, z_channels, channels, base, image_size)
        self.attributes, self.z_channels = attributes, z_channels
        self.last_activation = last_activation
        self.image_shape = (channels, image_size, image_size)
        widths = [channels, *_widths(base, image_size)]
        # The following batch normalisation would cancel a bias.
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(inputs, maps, 4, 2, 1, bias=False),
                    nn.BatchNorm2d(maps),
                    nn.LeakyReLU(_SLOPE),
                )
                for inputs, maps in pairwise(widths)
            )
        )
        maps = attributes + z_channels
        self.code = nn.Sequential(
            nn.Conv2d(widths[-1], maps, 4, 2, 1, bias=False), nn.BatchNorm2d(maps)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y (B, k) and z (B, z_channels, 2, 2) for images x."""
        check_batch("x", x, *self.image_shape)
        code = self.code(self.blocks(x))
        if self.last_activation:
            code = F.leaky_relu(code, _SLOPE)
        return code[:, : self.attributes].mean((2, 3)), code[:, self.attributes :]

    def widen(self, extra: int) -> None:
        """Append `extra` maps to z, freshly initialised; other weights and statistics are kept."""
        check_counts(extra=extra)
        conv, norm = self.code
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        self.z_channels += extra
        grown = nn.Sequential(with_more_outputs(conv, extra), with_more_features(norm, extra))
        self.code = grown.train(self.code.training)


class AttributeDecoder(nn.Module):
    """Map y (B, k) and z (B, z_channels, 2, 2) to images in [-1, 1].

    `AttributeEncoder` mirrored: blocks of a 4×4 transposed convolution of stride 2, batch
    normalisation and ReLU; the last has only tanh after the convolution. Each block also takes y,
    as constant maps before its input; there are no biases, as y's weights and the norms supply
    them.

    Parameters
    ----------
    attributes, z_channels, channels, base, image_size
        As for `AttributeEncoder`.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, or `image_size` is not accepted.
    """

    def __init__(
        self,
        attributes: int,
        z_channels: int = 512,
        channels: int = 3,
        base: int = 16,
        image_size: int = 256,
    ) -> None:
        super().__init__()
        _check(attributes, z_channels, channels, base, image_size)
        self.attributes, self.z_channels = attributes, z_channels
        widths = [*reversed(_widths(base, image_size)), channels]
        self.first = _Upsample(attributes, z_channels, widths[0])
        self.others = nn.ModuleList(_Upsample(attributes, a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(maps) for maps in widths[:-1])

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """Return images (B, channels, image_size, image_size) for codes y and z."""
        check_batch("y", y, self.attributes)
        check_batch("z", z, self.z_channels, _END, _END)
        if len(z) != len(y):
            raise shape_error("z", (len(y), *z.shape[1:]), z)
        h = self.first(y, z)
        for norm, upsample in zip(self.norms, self.others, strict=True):
            h = upsample(y, torch.relu(norm(h)))
        return torch.tanh(h)

    def widen(self, extra: int) -> None:
        """Take `extra` more maps of z, freshly initialised; other weights and statistics are kept.

        With the new weights at zero the decoder ignores the new maps.
        """
        check_counts(extra=extra)
        self.z_channels += extra
        self.first = with_more_inputs(self.first, extra)


class _Upsample(nn.ConvTranspose2d):
    """Double the size by a 4×4 transposed convolution of [y as constant maps, h], stride 2."""

    def __init__(self, attributes: int, inputs: int, maps: int) -> None:
        super().__init__(attributes + inputs, maps, 4, 2, 1, bias=False)
        self.attributes = attributes

    def forward(self, y: Tensor, h: Tensor) -> Tensor:  # type: ignore[override]
        """Return (B, maps, 2H, 2W) for y (B, k) and h (B, inputs, H, W)."""
        of_y, of_h = self.weight.split([self.attributes, self.in_channels - self.attributes])
        # Constant maps give periodic outputs: that of 2×2 maps has every distinct pixel.
        corner = y[:, :, None, None].expand(-1, -1, 2, 2)
        own = F.conv_transpose2d(corner, of_y, stride=2, padding=1)
        out = F.conv_transpose2d(h, of_h, stride=2, padding=1)
        return out + _repeat(own, out.shape[-1])


def _repeat(pixels: Tensor, size: int) -> Tensor:
    """Extend pixels (B, C, 4, 4) to (B, C, size, size): edges stay, the middle repeats."""
    if size == 4:
        return pixels
    source = torch.arange(size, device=pixels.device)
    source[1:-1], source[-1] = 2 - source[1:-1] % 2, 3
    rows = F.one_hot(source, 4).to(pixels.dtype)
    repeated = rows @ pixels @ rows.T
    # Inside of vmap tensors do not tell their layout.
    layout = torch.channels_last
    last = not are_transformed() and pixels.is_contiguous(memory_format=layout)
    return repeated.contiguous(memory_format=layout) if last else repeated


class AttributeAutoencoder(nn.Module):
    """An `AttributeEncoder` with its `AttributeDecoder`.

    Parameters
    ----------
    attributes, z_channels, channels, base, image_size, last_activation
        As for `AttributeEncoder`.
    """

    def __init__(
        self,
        attributes: int,
        z_channels: int = 512,
        channels: int = 3,
        base: int = 16,
        image_size: int = 256,
        last_activation: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = AttributeEncoder(
            attributes, z_channels, channels, base, image_size, last_activation
        )
        self.decoder = AttributeDecoder(attributes, z_channels, channels, base, image_size)

    @property
    def z_channels(self) -> int:
        """Return the number of feature maps of z."""
        return self.encoder.z_channels

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstructions of images x, both in [-1, 1]."""
        return self.decoder(*self.encoder(x))

    def widen(self, extra: int) -> None:
        """Append `extra` feature maps to z; existing weights and statistics are kept.

        Parameters that grow are replaced by new ones: create optimisers afterwards.
        """
        self.encoder.widen(extra)
        self.decoder.widen(extra)
