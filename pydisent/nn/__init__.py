"""Layers and networks: plain torch modules, usable on their own."""

from pydisent.nn.activation import TranslatedPReLU, clip_leaks_
from pydisent.nn.attribute_autoencoder import (
    AttributeAutoencoder,
    AttributeDecoder,
    AttributeEncoder,
)
from pydisent.nn.average import ExponentialAverage
from pydisent.nn.code_autoencoder import (
    CodeDecoder,
    CodeEncoder,
    conv_decoder,
    conv_encoder,
    mlp_decoder,
    mlp_encoder,
)
from pydisent.nn.constricted import ConstrictedGenerator
from pydisent.nn.conv import ConvDecoder, ConvEncoder
from pydisent.nn.dcgan import DCGANDiscriminator, DCGANEncoder, DCGANGenerator
from pydisent.nn.equalized import EqualizedConv2d, EqualizedLinear
from pydisent.nn.growth import (
    fold_batch_norm,
    with_more_features,
    with_more_inputs,
    with_more_outputs,
)
from pydisent.nn.ib_gan import IBGANFront, IBGANGenerator, IBGANHead, RepresentationEncoder
from pydisent.nn.latent_discriminator import LatentDiscriminator
from pydisent.nn.residual import ResidualDiscriminator, ResidualRecogniser
from pydisent.nn.spatial_constriction import BandMask, CumaxGate, SpatialConstriction
from pydisent.nn.spectral_norm import normalize_spectrally
from pydisent.nn.strided import DoublingConvTranspose2d, HalvingConv2d
from pydisent.nn.whole_batch_norm import normalize_whole_batches

__all__ = [
    "AttributeAutoencoder",
    "AttributeDecoder",
    "AttributeEncoder",
    "BandMask",
    "CodeDecoder",
    "CodeEncoder",
    "ConstrictedGenerator",
    "ConvDecoder",
    "ConvEncoder",
    "CumaxGate",
    "DCGANDiscriminator",
    "DCGANEncoder",
    "DCGANGenerator",
    "DoublingConvTranspose2d",
    "EqualizedConv2d",
    "EqualizedLinear",
    "ExponentialAverage",
    "HalvingConv2d",
    "IBGANFront",
    "IBGANGenerator",
    "IBGANHead",
    "LatentDiscriminator",
    "RepresentationEncoder",
    "ResidualDiscriminator",
    "ResidualRecogniser",
    "SpatialConstriction",
    "TranslatedPReLU",
    "clip_leaks_",
    "conv_decoder",
    "conv_encoder",
    "fold_batch_norm",
    "mlp_decoder",
    "mlp_encoder",
    "normalize_spectrally",
    "normalize_whole_batches",
    "with_more_features",
    "with_more_inputs",
    "with_more_outputs",
]
