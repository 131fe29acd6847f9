"""The DCGAN networks of Ramesh et al. (App. C, Table 2): weight norm and translated PReLU."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from pydisent._checks import check_batch, check_counts, check_power_of_two
from pydisent.nn.activation import TranslatedPReLU

_START = 4  # px at the narrow end of every network

_Affine = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


def _widths(base: int, image_size: int) -> list[int]:
    """Return the feature maps from 4 px outwards: base 64 at 64 px gives 512, 256, 128, 64."""
    doublings = (image_size // _START).bit_length() - 1
    return [base * 2**i for i in reversed(range(doublings))]


def _normalized(layer: _Affine, *, out_axis: int = 0, gain: float | None = None) -> nn.Module:
    """Return `layer` under weight norm, with scale g initially `gain`, or fixed at one if None."""
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    # The initial norm of the direction sets its effective learning rate; 0.05 is Salimans &
    # Kingma's.
    nn.init.normal_(layer.weight, std=0.05)
    scale = weight_norm(layer, dim=out_axis).parametrizations.weight.original0
    with torch.no_grad():
        scale.fill_(1.0 if gain is None else gain)
    scale.requires_grad_(gain is not None)
    return layer


def _gain(activation: TranslatedPReLU) -> float:
    """Return the scale at which a layer before `activation` keeps a normal input's variance."""
    return float((2.0 / (1.0 + activation.initial_leak**2)) ** 0.5)


class DCGANGenerator(nn.Module):
    """Map latent codes (B, latent_size) to images (B, channels, image_size, image_size) in [0, 1].

    A dense layer to 4×4, then 4×4 transposed convolutions of stride 2; base 64 at 64 px has 512,
    256, 128 and 64 feature maps. The output is (tanh x + 1)/2, in [0, 1]; the paper's App. C prints
    2(tanh x + 1/2), which is not in [0, 1].

    Parameters
    ----------
    latent_size : int
        Size m of the latent code.
    channels : int
        Image channels.
    base : int
        Feature maps at half the image's resolution, doubling at each lower resolution.
    image_size : int
        Height and width in pixels, a power of two >= 16.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, or `image_size` not a power of two >= 16.
    """

    def __init__(
        self, latent_size: int, channels: int = 3, base: int = 64, image_size: int = 64
    ) -> None:
        super().__init__()
        check_power_of_two("image_size", image_size, at_least=16)
        check_counts(latent_size=latent_size, channels=channels, base=base)
        self.latent_size = latent_size
        self.image_shape = (channels, image_size, image_size)
        widths = _widths(base, image_size)
        self.project = nn.Linear(latent_size, widths[0] * _START**2)
        self.first = TranslatedPReLU(widths[0])
        _normalized(self.project, gain=_gain(self.first))
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            activation = TranslatedPReLU(wide)
            # A pixel receives 4 of the kernel's 16 taps, a quarter of the weight's squared norm.
            layers += [_upsample(narrow, wide, 2 * _gain(activation)), activation]
        self.layers = nn.Sequential(*layers, _upsample(widths[-1], channels, 2.0))

    def forward(self, z: Tensor) -> Tensor:
        """Return G(z) in [0, 1] for z (B, latent_size)."""
        return (torch.tanh(self.before_tanh(z)) + 1) / 2

    def before_tanh(self, z: Tensor) -> Tensor:
        """Return the x for which G(z) = (tanh x + 1)/2."""
        check_batch("z", z, self.latent_size)
        h = self.project(z).unflatten(1, (-1, _START, _START))
        return self.layers(self.first(h))


def _upsample(inputs: int, outputs: int, gain: float) -> nn.Module:
    return _normalized(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), out_axis=1, gain=gain)


class _Trunk(nn.Sequential):
    """Halve an image down to 4×4 and flatten it: the discriminator's and the encoder's body."""

    def __init__(
        self, channels: int, base: int, image_size: int, gain: Callable[..., float | None]
    ) -> None:
        widths = [channels, *reversed(_widths(base, image_size))]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            activation = TranslatedPReLU(outputs)
            conv = nn.Conv2d(inputs, outputs, 4, 2, 1)
            layers += [_normalized(conv, gain=gain(activation)), activation]
        super().__init__(*layers, nn.Flatten())
        self.features = widths[-1] * _START**2


class DCGANDiscriminator(nn.Module):
    """Map images (B, channels, image_size, image_size) to logits (B,), high for real ones.

    The generator mirrored, under weight norm with the scale g fixed to one (Table 2, note 1).

    Parameters
    ----------
    channels : int
        Image channels.
    base : int
        Feature maps at half the image's resolution.
    image_size : int
        Height and width in pixels, a power of two >= 16.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, or `image_size` not a power of two >= 16.
    """

    def __init__(self, channels: int = 3, base: int = 64, image_size: int = 64) -> None:
        super().__init__()
        check_power_of_two("image_size", image_size, at_least=16)
        check_counts(channels=channels, base=base)
        self.image_shape = (channels, image_size, image_size)
        self.trunk = _Trunk(channels, base, image_size, gain=lambda activation: None)
        self.logit = _normalized(nn.Linear(self.trunk.features, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B,) for images x."""
        check_batch("x", x, *self.image_shape)
        return self.logit(self.trunk(x)).squeeze(1)


class DCGANEncoder(nn.Module):
    """Map images (B, channels, image_size, image_size) to codes (B, latent_size).

    The discriminator's architecture with learned scales; the paper's encoder has twice the
    generator's base feature maps (App. D).

    Parameters
    ----------
    latent_size : int
        Size m of the code.
    channels : int
        Image channels.
    base : int
        Feature maps at half the image's resolution.
    image_size : int
        Height and width in pixels, a power of two >= 16.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, or `image_size` not a power of two >= 16.
    """

    def __init__(
        self, latent_size: int, channels: int = 3, base: int = 128, image_size: int = 64
    ) -> None:
        super().__init__()
        check_power_of_two("image_size", image_size, at_least=16)
        check_counts(latent_size=latent_size, channels=channels, base=base)
        self.image_shape = (channels, image_size, image_size)
        self.trunk = _Trunk(channels, base, image_size, gain=_gain)
        self.code = _normalized(nn.Linear(self.trunk.features, latent_size), gain=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return the codes (B, latent_size) for images x."""
        check_batch("x", x, *self.image_shape)
        return self.code(self.trunk(x))
