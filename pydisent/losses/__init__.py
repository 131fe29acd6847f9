"""Losses of latent codes: plain functions, a few lines over :mod:`pydisent.ops`."""

from .covariance import cross_covariance_penalty, dip_vae_penalty
from .divergence import gaussian_kl
from .jacobian_supervision import jacobian_supervision
from .mutual_information import information_lower_bound
from .total_correlation import (
    TotalCorrelationDecomposition,
    beta_tc_decomposition,
    total_correlation,
)

__all__ = [
    "TotalCorrelationDecomposition",
    "beta_tc_decomposition",
    "cross_covariance_penalty",
    "dip_vae_penalty",
    "gaussian_kl",
    "information_lower_bound",
    "jacobian_supervision",
    "total_correlation",
]
