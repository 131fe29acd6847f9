"""Layers and networks: plain torch modules, usable on their own."""

from pydisent.nn.activation import TranslatedPReLU, clip_leaks_
from pydisent.nn.dcgan import DCGANDiscriminator, DCGANEncoder, DCGANGenerator

__all__ = [
    "DCGANDiscriminator",
    "DCGANEncoder",
    "DCGANGenerator",
    "TranslatedPReLU",
    "clip_leaks_",
]
