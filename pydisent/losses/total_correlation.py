"""The terms of beta-TCVAE, estimated from a minibatch (Chen et al. 2018)."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from pydisent.ops import aggregate_posterior, total_correlation
from pydisent.reference.density import Estimator, standardize
from pydisent.reference.dtypes import compute_dtype

__all__ = ["TotalCorrelationDecomposition", "beta_tc_decomposition", "total_correlation"]


class TotalCorrelationDecomposition(NamedTuple):
    """The three terms of the posteriors' KL divergence from the prior, scalars in nats."""

    index_code_mi: Tensor
    total_correlation: Tensor
    dimension_wise_kl: Tensor


def beta_tc_decomposition(
    z: Tensor, mu: Tensor, logvar: Tensor, dataset_size: int, estimator: Estimator = "mws"
) -> TotalCorrelationDecomposition:
    """Split the posteriors' KL divergence from N(0, I) into three (Chen et al. 2018, Eq. 2).

    Means over the batch of log q(z|x) − log q(z), of log q(z) − Σ_d log q(z_d), and of
    Σ_d log q(z_d) − log p(z): the index-code mutual information, the total correlation and the
    dimension-wise KL divergence. For any estimator of q(z) they sum to the Monte Carlo estimate of
    the KL divergence, the mean of log q(z|x) − log p(z).

    Parameters
    ----------
    z, mu, logvar, dataset_size, estimator
        As for :func:`pydisent.ops.aggregate_posterior`, which estimates log q(z) and log q(z_d).

    Returns
    -------
    TotalCorrelationDecomposition
        Scalars in nats, in float32 for inputs in half precision; NaN for an empty batch. As
        estimates they may be negative.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, ranges or names are not accepted by that op.
    """
    log_joint, log_marginals = aggregate_posterior(z, mu, logvar, dataset_size, estimator)
    dtype = compute_dtype(z, mu, logvar)
    x, spread = z.to(dtype), logvar.to(dtype)
    deviation = standardize(x - mu.to(dtype), spread)
    constant = 0.5 * math.log(2 * math.pi)
    log_posterior = (-0.5 * (deviation * deviation + spread) - constant).sum(dim=1)
    log_prior = (-0.5 * x * x - constant).sum(dim=1)
    log_product = log_marginals.sum(dim=1)
    return TotalCorrelationDecomposition(
        (log_posterior - log_joint).mean(),
        (log_joint - log_product).mean(),
        (log_product - log_prior).mean(),
    )
