"""The networks of Jeon et al. (App. D, Tables 4-6): a DCGAN with batch norm, preceded by an MLP.

The tables list the activation before the batch norm; in the authors' code, as here, it follows.
"""

from collections.abc import Sequence
from itertools import chain, pairwise

from torch import Tensor, nn

from pydisent._checks import check_counts, check_power_of_two
from pydisent.nn.strided import DoublingConvTranspose2d, HalvingConv2d

_HALVINGS = 3  # in each network: at 64 px the narrow end has 8×8 pixels
_MIN_SIZE = 16  # px: below this the narrow end would be a single pixel
_SLOPE = 0.2


class RepresentationEncoder(nn.Module):
    """Map noise z (B, noise_size) to mean and log-variance of e(r|z), (B, latent_size) each.

    An MLP with batch norm and ReLU: "FC 64, 64, 32" in Table 4, "FC 32, 32" in Table 5. The
    authors' code for dSprites and Color-dSprites has the latter without batch norm.

    Parameters
    ----------
    noise_size, latent_size : int
        Sizes D_z of the noise and D_r of the representation.
    units : sequence of int
        Units of the hidden layers.
    batch_norm : bool
        Whether the hidden layers have batch norm.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1.
    """

    def __init__(
        self,
        noise_size: int = 16,
        latent_size: int = 10,
        units: Sequence[int] = (64, 64, 32),
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        check_counts(noise_size=noise_size, latent_size=latent_size)
        for width in units:
            check_counts(units=width)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([noise_size, *units]):
            layers += (
                _dense(inputs, outputs) if batch_norm else [nn.Linear(inputs, outputs), nn.ReLU()]
            )
        last = units[-1] if units else noise_size
        self.layers = nn.Sequential(*layers, nn.Linear(last, 2 * latent_size))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, (B, latent_size) each, for z (B, noise_size)."""
        mu, logvar = self.layers(z).chunk(2, dim=1)
        return mu, logvar


class IBGANGenerator(nn.Module):
    """Map codes (B, latent_size) to images (B, channels, image_size, image_size) in [-1, 1].

    Two dense layers, two 3×3 transposed convolutions at an eighth of the resolution, and three
    4×4 transposed convolutions of stride 2.

    Parameters
    ----------
    latent_size : int
        Size of the code.
    channels : int
        Image channels.
    base : int
        Feature maps at half the image's resolution, "ngf".
    image_size : int
        Height and width in pixels, a power of two >= 16.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, or `image_size` not a power of two >= 16.
    """

    def __init__(
        self, latent_size: int = 10, channels: int = 1, base: int = 16, image_size: int = 64
    ) -> None:
        super().__init__()
        check_power_of_two("image_size", image_size, at_least=_MIN_SIZE)
        check_counts(latent_size=latent_size, channels=channels, base=base)
        self.latent_size = latent_size
        self.image_shape = (channels, image_size, image_size)
        self.start = image_size >> _HALVINGS
        self.dense = nn.Sequential(
            *_dense(latent_size, 16 * base), *_dense(16 * base, self.start**2 * 4 * base)
        )
        self.layers = nn.Sequential(
            *_normalized(nn.ConvTranspose2d(4 * base, 4 * base, 3, 1, 1, bias=False)),
            *_normalized(nn.ConvTranspose2d(4 * base, 4 * base, 3, 1, 1, bias=False)),
            *_normalized(DoublingConvTranspose2d(4 * base, 2 * base, bias=False)),
            *_normalized(DoublingConvTranspose2d(2 * base, base, bias=False)),
            DoublingConvTranspose2d(base, channels),
            nn.Tanh(),
        )

    def forward(self, code: Tensor) -> Tensor:
        """Return images in [-1, 1] for codes (B, latent_size)."""
        return self.layers(self._narrow(code))

    def before_tanh(self, code: Tensor) -> Tensor:
        """Return the x for which the images are tanh x."""
        return self.layers[:-1](self._narrow(code))

    def _narrow(self, code: Tensor) -> Tensor:
        # Channels last, the fastest layout for convolutions.
        narrow = self.dense(code).unflatten(1, (self.start, self.start, -1))
        return narrow.permute(0, 3, 1, 2)


class IBGANFront(nn.Sequential):
    """Map images (B, channels, H, W) to features (B, 4 base, H/8, W/8): D's and Q's first layers.

    Parameters
    ----------
    channels : int
        Image channels.
    base : int
        Feature maps of the first convolution, "ndf".

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1.
    """

    def __init__(self, channels: int = 1, base: int = 16) -> None:
        check_counts(channels=channels, base=base)
        super().__init__(
            HalvingConv2d(channels, base),
            nn.LeakyReLU(_SLOPE),
            *_convolution(base, 2 * base, 4, 2),
            *_convolution(2 * base, 4 * base, 4, 2),
        )


class IBGANHead(nn.Module):
    """Map the features of `IBGANFront` to (B, outputs): D's or Q's last layers.

    Parameters
    ----------
    outputs : int
        1 for a discriminator's logit, D_z for a reconstructor.
    base : int
        As for the features' `IBGANFront`.
    image_size : int
        Height and width of the images, a power of two >= 16.
    convolutions, units : sequence of int
        Feature maps of the 3×3 convolutions, and units of the dense hidden layers, in multiples of
        `base`. By default those of Tables 4-6; the authors' code for dSprites and Color-dSprites
        has convolutions (8,), and units (16,) in D and (16, 16) in Q.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, or `image_size` not a power of two >= 16.
    """

    def __init__(
        self,
        outputs: int = 1,
        base: int = 16,
        image_size: int = 64,
        convolutions: Sequence[int] = (4, 4),
        units: Sequence[int] = (16,),
    ) -> None:
        super().__init__()
        check_power_of_two("image_size", image_size, at_least=_MIN_SIZE)
        check_counts(outputs=outputs, base=base)
        for name, multiples in (("convolutions", convolutions), ("units", units)):
            for multiple in multiples:
                check_counts(**{name: multiple})
        maps = [base * multiple for multiple in (4, *convolutions)]
        convolved = [_convolution(*widths, 3, 1) for widths in pairwise(maps)]
        self.layers = nn.Sequential(*chain.from_iterable(convolved))
        # The first is the tables' convolution, whose kernel covers the whole map, as a matrix
        # product: several times faster.
        widths = [maps[-1] * (image_size >> _HALVINGS) ** 2, *(base * n for n in units)]
        dense = [_dense(*pair, nn.LeakyReLU(_SLOPE)) for pair in pairwise(widths)]
        self.dense = nn.Sequential(*chain.from_iterable(dense), nn.Linear(widths[-1], outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs (B, outputs) for features (B, 4 base, H/8, W/8)."""
        # Channels last: a view, so that the gradient keeps the convolutions' layout.
        return self.dense(self.layers(features).permute(0, 2, 3, 1).flatten(1))


def _dense(inputs: int, outputs: int, activation: nn.Module | None = None) -> list[nn.Module]:
    linear = nn.Linear(inputs, outputs, bias=False)
    return [linear, nn.BatchNorm1d(outputs), activation or nn.ReLU()]


def _normalized(layer: nn.ConvTranspose2d) -> list[nn.Module]:
    return [layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU()]


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, 1, bias=False)
    return [layer, nn.BatchNorm2d(outputs), nn.LeakyReLU(_SLOPE)]
