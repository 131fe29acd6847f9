"""Densities of the aggregate posterior on a minibatch (Chen et al. 2018), and their adjoint."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor

from pydisent.reference.dtypes import compute_dtype, times_exp

#: Accepted values of ``estimator``: minibatch-weighted and minibatch-stratified sampling.
Estimator = Literal["mws", "mss"]
ESTIMATORS = get_args(Estimator)

_LOG_2PI = math.log(2 * math.pi)
# Maximum elements of a (rows, B, d) tensor, which sets the number of rows per chunk.
_CHUNK = 1 << 21


def log_weights(batch: int, dataset_size: int, estimator: str) -> tuple[float, float, float]:
    """Logarithms of the weight of q(z_i | x_j) for j = i, j = i + 1 (mod B), and any other j."""
    if estimator == "mws":
        return (-math.log(max(batch, 1) * dataset_size),) * 3
    others = batch - 1
    if others < 1:
        return 0.0, 0.0, 0.0
    last = (dataset_size - others) / (dataset_size * others)
    return -math.log(dataset_size), math.log(last), -math.log(others)


def _chunks(
    z: Tensor, dataset_size: int, estimator: str, dtype: torch.dtype
) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of the rows i, each with its log-weights (rows, B)."""
    batch, d = z.shape
    own, following, other = log_weights(batch, dataset_size, estimator)
    rows = max(1, _CHUNK // max(1, batch * d))
    j = torch.arange(batch, device=z.device)
    for first in range(0, max(batch, 1), rows):
        i = j[first : first + rows, None]
        weights = torch.full((i.shape[0], batch), other, dtype=dtype, device=z.device)
        weights = weights.masked_fill(j == (i + 1) % max(batch, 1), following)
        yield slice(first, first + rows), weights.masked_fill(j == i, own)


def _log_densities(z: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """Return u = (z_id − mu_jd) / std_jd and log N(z_id; mu_jd, var_jd), both (rows, B, d)."""
    u = standardize(z[:, None] - mu, logvar)
    return u, -0.5 * (u * u + (logvar + _LOG_2PI))


def standardize(difference: Tensor, logvar: Tensor) -> Tensor:
    """Return (z − mu) / std, bounded: where its square overflows, the density is 0 in any case.

    An infinite u would be NaN in products with that 0, as 1 / std = ∞ would at z = mu.
    """
    most = torch.finfo(difference.dtype).max
    return times_exp(difference, -0.5 * logvar).clamp(-most, most)


def aggregate_posterior(
    z: Tensor, mu: Tensor, logvar: Tensor, dataset_size: int, estimator: str
) -> tuple[Tensor, Tensor]:
    """Estimate log q(z_i) and log q(z_id) from the posteriors of a minibatch.

    With l_ijd = log N(z_id; mu_jd, exp(logvar_jd)) and weights w_ij from :func:`log_weights`:
    log_joint_i = logsumexp_j(Σ_d l_ijd + log w_ij) and log_marginals_id = logsumexp_j(l_ijd + log
    w_ij). Without gradients the memory is linear in B.

    Returns
    -------
    log_joint, log_marginals
        (B,) and (B, d), in the dtype of the arithmetic (float32 for half precision).
    """
    dtype = compute_dtype(z)
    z, mu, logvar = z.to(dtype), mu.to(dtype), logvar.to(dtype)
    joint, marginals = [], []
    for rows, weights in _chunks(z, dataset_size, estimator, dtype):
        _, log_density = _log_densities(z[rows], mu, logvar)
        joint.append(torch.logsumexp(log_density.sum(-1) + weights, dim=1))
        marginals.append(torch.logsumexp(log_density + weights[..., None], dim=1))
    return torch.cat(joint), torch.cat(marginals)


def _responsibilities(log_density: Tensor, log_total: Tensor) -> Tensor:
    # The exponent is <= 0 up to rounding, which must not overflow where densities are 1e13.
    return torch.exp((log_density - log_total).clamp(max=1))


def aggregate_posterior_backward(
    grad_joint: Tensor,
    grad_marginals: Tensor,
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    log_joint: Tensor,
    log_marginals: Tensor,
    dataset_size: int,
    estimator: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Adjoint of :func:`aggregate_posterior`, from its outputs.

    With u = (z_id − mu_jd) / std_jd and the cotangent of l_ijd,
    c_ijd = ḡ_i w_ij q(z_i | x_j) / q(z_i) + ḡ_id w_ij q(z_id | x_j) / q(z_id):
    grad_z_id = −Σ_j c u / std_jd, grad_mu_jd = Σ_i c u / std_jd,
    grad_logvar_jd = Σ_i c (u² − 1) / 2.

    Returns
    -------
    grad_z, grad_mu, grad_logvar
        (B, d) each, in the dtype of ``z``.
    """
    dtype, out = compute_dtype(z), z.dtype
    z, mu, logvar = z.to(dtype), mu.to(dtype), logvar.to(dtype)
    grad_z, grad_mu, grad_logvar = [], torch.zeros_like(mu), torch.zeros_like(mu)
    for rows, weights in _chunks(z, dataset_size, estimator, dtype):
        u, log_density = _log_densities(z[rows], mu, logvar)
        joint = _responsibilities(log_density.sum(-1) + weights, log_joint[rows, None])
        marginal = _responsibilities(log_density + weights[..., None], log_marginals[rows, None])
        c = (grad_joint[rows, None] * joint)[..., None] + grad_marginals[rows, None] * marginal
        on_u = c * u
        along = times_exp(on_u, -0.5 * logvar)
        grad_z.append(-along.sum(1))
        grad_mu = grad_mu + along.sum(0)
        # Not c (u² − 1): where u² overflows, c is 0, and 0 times infinity is NaN.
        grad_logvar = grad_logvar + 0.5 * (on_u * u - c).sum(0)
    return torch.cat(grad_z).to(out), grad_mu.to(out), grad_logvar.to(out)
