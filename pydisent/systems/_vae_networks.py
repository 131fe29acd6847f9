"""Encoders and decoders of published VAEs, by name."""

from torch import Tensor, nn

from pydisent.nn import (
    ConvDecoder,
    ConvEncoder,
    DCGANEncoder,
    DCGANGenerator,
    IBGANFront,
    IBGANGenerator,
    IBGANHead,
    normalize_spectrally,
)
from pydisent.nn.initialization import glorot_

NETWORKS = ("higgins", "locatello", "dcgan", "ib-gan")


class _Logits(nn.Module):
    """Logits of a generator's images, which are (tanh x + 1)/2 = sigmoid(2x)."""

    def __init__(self, generator: DCGANGenerator | IBGANGenerator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor) -> Tensor:
        return 2 * self.generator.before_tanh(z)


def networks(
    name: str, latent_size: int, base: int, hidden: int, image_shape: tuple[int, int, int]
) -> tuple[nn.Module, nn.Module]:
    """Return an encoder to mean and log-variance (B, 2d), and a decoder from (B, d) to logits.

    Parameters
    ----------
    name : str
        "higgins", "locatello", "dcgan" or "ib-gan"; see `VAEConfig`.
    latent_size, base, hidden : int
        As for `VAEConfig`.
    image_shape : tuple of int
        (C, H, H).
    """
    channels, size, _ = image_shape
    outputs = 2 * latent_size
    if name == "dcgan":
        trunk = DCGANEncoder(outputs, channels, base, size)
        decoder = _Logits(DCGANGenerator(latent_size, channels, base, size))
        normalize_spectrally(trunk)
        normalize_spectrally(decoder)
        return trunk, decoder
    if name == "ib-gan":
        reverse = nn.Sequential(IBGANFront(channels, base), IBGANHead(outputs, base, size))
        for layer in reverse.modules():
            if isinstance(layer, nn.LeakyReLU):
                layer.negative_slope = 0.0  # ReLU, as in the decoder
        decoder = _Logits(IBGANGenerator(latent_size, channels, base, size))
        glorot_(reverse)
        glorot_(decoder)
        return reverse, decoder
    late_kernel = 4 if name == "higgins" else 2
    encoder = ConvEncoder(outputs, channels, base, hidden, size, late_kernel)
    return encoder, ConvDecoder(latent_size, channels, base, hidden, size)
