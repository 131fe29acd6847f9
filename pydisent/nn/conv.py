"""The convolutional encoder and decoder of published VAE comparisons."""

from itertools import pairwise

from torch import Tensor, nn

from pydisent._checks import check, check_batch, check_counts, check_power_of_two
from pydisent.nn.initialization import glorot_
from pydisent.nn.strided import DoublingConvTranspose2d

_START = 4  # px at the narrow end of both networks


def _widths(base: int, image_size: int) -> list[int]:
    """Return the feature maps from half resolution to 4 px: base 32 at 64 px gives 32, 32, 64, 64.

    The widths double halfway, as in the published four layers, at every depth.
    """
    halvings = (image_size // _START).bit_length() - 1
    return [base if i < halvings // 2 else 2 * base for i in range(halvings)]


class ConvEncoder(nn.Sequential):
    """Map images (B, channels, image_size, image_size) to (B, outputs).

    Convolutions of stride 2 down to 4×4 pixels, a dense layer and a linear one, with ReLU between
    them: at 64 px 32, 32, 64 and 64 feature maps and 256 units. Kernels are 4×4, as in Higgins et
    al. (2017); with `late_kernel` 2 those of the second half are 2×2, as in the comparison by
    Locatello et al. (2019), disentanglement_lib. Weights are initialised by Glorot's uniform rule,
    biases to zero.

    Parameters
    ----------
    outputs : int
        Size of the output; twice the latent size for a mean and a log-variance.
    channels : int
        Image channels.
    base : int
        Feature maps of the first half of the convolutions; the second half has twice as many.
    hidden : int
        Units of the dense layer.
    image_size : int
        Height and width in pixels, a power of two >= 8.
    late_kernel : int
        Side of the kernels in the second half of the convolutions, 4 or 2.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, `image_size` not a power of two >= 8, or `late_kernel`
        not 4 or 2.
    """

    def __init__(
        self,
        outputs: int,
        channels: int = 1,
        base: int = 32,
        hidden: int = 256,
        image_size: int = 64,
        late_kernel: int = 4,
    ) -> None:
        check_power_of_two("image_size", image_size, at_least=8)
        check(late_kernel in (2, 4), "late_kernel", "4 or 2", late_kernel)
        check_counts(outputs=outputs, channels=channels, base=base, hidden=hidden)
        widths = [channels, *_widths(base, image_size)]
        layers: list[nn.Module] = []
        for inputs, maps in pairwise(widths):
            kernel = 4 if maps == base else late_kernel
            # Halves the image, like TensorFlow's padding "same".
            layers += [nn.Conv2d(inputs, maps, kernel, 2, kernel // 2 - 1), nn.ReLU(inplace=True)]
        dense = nn.Linear(widths[-1] * _START**2, hidden)
        last = nn.Linear(hidden, outputs)
        super().__init__(*layers, nn.Flatten(), dense, nn.ReLU(inplace=True), last)
        self.image_shape = (channels, image_size, image_size)
        glorot_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs) for images x."""
        check_batch("x", x, *self.image_shape)
        return super().forward(x)


class ConvDecoder(nn.Module):
    """Map latent codes (B, latent_size) to image logits (B, channels, image_size, image_size).

    `ConvEncoder` mirrored: two dense layers, then 4×4 transposed convolutions of stride 2.

    Parameters
    ----------
    latent_size : int
        Size of the latent code.
    channels, base, hidden, image_size
        As for `ConvEncoder`.

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer >= 1, or `image_size` not a power of two >= 8.
    """

    def __init__(
        self,
        latent_size: int,
        channels: int = 1,
        base: int = 32,
        hidden: int = 256,
        image_size: int = 64,
    ) -> None:
        super().__init__()
        check_power_of_two("image_size", image_size, at_least=8)
        check_counts(latent_size=latent_size, channels=channels, base=base, hidden=hidden)
        widths = [*reversed(_widths(base, image_size)), channels]
        layers: list[nn.Module] = [nn.Linear(latent_size, hidden), nn.ReLU(inplace=True)]
        layers += [nn.Linear(hidden, widths[0] * _START**2), nn.ReLU(inplace=True)]
        layers.append(nn.Unflatten(1, (widths[0], _START, _START)))
        for inputs, maps in pairwise(widths):
            layers += [DoublingConvTranspose2d(inputs, maps), nn.ReLU(inplace=True)]
        self.latent_size = latent_size
        self.layers = nn.Sequential(*layers[:-1])
        glorot_(self)

    def forward(self, z: Tensor) -> Tensor:
        """Return the pixel logits for codes z (B, latent_size)."""
        check_batch("z", z, self.latent_size)
        return self.layers(z)
