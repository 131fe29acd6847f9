"""Layers and networks: plain torch modules, usable on their own."""

from pydisent.nn.activation import TranslatedPReLU, clip_leaks_
from pydisent.nn.attribute_autoencoder import (
    AttributeAutoencoder,
    AttributeDecoder,
    AttributeEncoder,
)
from pydisent.nn.average import ExponentialAverage
from pydisent.nn.constricted import ConstrictedGenerator
from pydisent.nn.conv import ConvDecoder, ConvEncoder
from pydisent.nn.dcgan import DCGANDiscriminator, DCGANEncoder, DCGANGenerator
from pydisent.nn.equalized import EqualizedConv2d, EqualizedLinear
from pydisent.nn.latent_discriminator import LatentDiscriminator
from pydisent.nn.residual import ResidualDiscriminator, ResidualRecogniser
from pydisent.nn.spatial_constriction import BandMask, CumaxGate, SpatialConstriction

__all__ = [
    "AttributeAutoencoder",
    "AttributeDecoder",
    "AttributeEncoder",
    "BandMask",
    "ConstrictedGenerator",
    "ConvDecoder",
    "ConvEncoder",
    "CumaxGate",
    "DCGANDiscriminator",
    "DCGANEncoder",
    "DCGANGenerator",
    "EqualizedConv2d",
    "EqualizedLinear",
    "ExponentialAverage",
    "LatentDiscriminator",
    "ResidualDiscriminator",
    "ResidualRecogniser",
    "SpatialConstriction",
    "TranslatedPReLU",
    "clip_leaks_",
]
