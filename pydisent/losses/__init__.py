"""Losses on latent codes: short functions built on :mod:`pydisent.ops`."""

from pydisent.losses.covariance import cross_covariance_penalty, dip_vae_penalty
from pydisent.losses.divergence import gaussian_kl
from pydisent.losses.jacobian_supervision import jacobian_supervision
from pydisent.losses.mutual_information import information_lower_bound
from pydisent.losses.total_correlation import (
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
