"""Fast ops, each with a pure-PyTorch reference, autograd, and compiled kernels if built."""

from .. import _backends
from .constriction import spatial_constriction
from .covariance import (
    covariance_penalty,
    cross_covariance_penalty,
    third_central_moment_penalty,
)
from .density import aggregate_posterior, total_correlation
from .doubling import doubling_convolution
from .gates import band_gate, band_mask, cumax
from .latent import gaussian_kl, perceptual_simplicity_loss, reparameterized_sample
from .spectral import masked_power_iteration
from .tangent import activation_tangent, activation_tangent_

_backends.load_native()

__all__ = [
    "activation_tangent",
    "activation_tangent_",
    "aggregate_posterior",
    "band_gate",
    "band_mask",
    "covariance_penalty",
    "cross_covariance_penalty",
    "cumax",
    "doubling_convolution",
    "gaussian_kl",
    "masked_power_iteration",
    "perceptual_simplicity_loss",
    "reparameterized_sample",
    "spatial_constriction",
    "third_central_moment_penalty",
    "total_correlation",
]
