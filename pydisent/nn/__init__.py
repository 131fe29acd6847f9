"""Layers and networks: plain torch modules, usable on their own."""

from pydisent.nn.activation import TranslatedPReLU, clip_leaks_
from pydisent.nn.average import ExponentialAverage
from pydisent.nn.dcgan import DCGANDiscriminator, DCGANEncoder, DCGANGenerator

__all__ = [
    "DCGANDiscriminator",
    "DCGANEncoder",
    "DCGANGenerator",
    "ExponentialAverage",
    "TranslatedPReLU",
    "clip_leaks_",
]
