"""Penalties on batch covariances and third moments (Kumar et al. 2018; Lezama et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from pydisent.reference.dtypes import compute_dtype, times_exp, without_autocast


def _centre(x: Tensor, means: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return x (B, n) minus its mean, and means (2, n): the mean and its rounding error.

    Without the second step a mean of 1e4 would leave an error of 5e-4 in the centred values.
    """
    count = max(x.shape[0], 1)
    if means is not None:
        return x - means[0] - means[1], means
    mean = x.sum(dim=0) / count
    near = x - mean
    rest = near.sum(dim=0) / count
    return near - rest, torch.stack([mean, rest])


def _is_diagonal(x: Tensor) -> Tensor:
    return torch.eye(x.shape[0], dtype=torch.bool, device=x.device)


def covariance_penalty(
    mu: Tensor, logvar: Tensor | None, lambda_od: float, lambda_d: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted sum of the squared entries of a covariance minus the identity.

    Returns
    -------
    penalty
        lambda_od Σ_{i≠j} C_ij² + lambda_d Σ_i (C_ii − 1)², a scalar.
    means, covariance
        (2, d), see ``_centre``, and C (d, d): the biased covariance of ``mu`` (B, d), with the
        mean of exp(logvar) added to its diagonal. All are in the dtype of the arithmetic.
    """
    count = max(mu.shape[0], 1)
    centred, means = _centre(mu.to(compute_dtype(mu)))
    with without_autocast(mu):
        covariance = centred.T @ centred / count
    diagonal = _is_diagonal(covariance)
    if logvar is not None:
        variances = logvar.to(centred.dtype).exp().sum(dim=0) / count
        covariance = torch.where(diagonal, covariance + variances, covariance)
    off = torch.where(diagonal, 0.0, covariance)
    penalty = lambda_od * (off * off).sum()
    penalty = penalty + lambda_d * ((covariance.diagonal() - 1) ** 2).sum()
    return penalty, means, covariance


def covariance_penalty_backward(
    grad: Tensor,
    mu: Tensor,
    logvar: Tensor | None,
    means: Tensor,
    covariance: Tensor,
    lambda_od: float,
    lambda_d: float,
) -> tuple[Tensor, Tensor]:
    """Adjoint of :func:`covariance_penalty` with respect to the penalty alone.

    With W = (C − I) weighted entrywise: grad_mu = 4 grad / B (mu − mean) W and grad_logvar =
    2 grad / B W_ii exp(logvar), which is (0,) if there is no logvar.
    """
    count = max(mu.shape[0], 1)
    distance = torch.where(
        _is_diagonal(covariance), lambda_d * (covariance - 1), lambda_od * covariance
    )
    centred, _ = _centre(mu.to(covariance.dtype), means)
    with without_autocast(mu):
        grad_mu = centred @ (distance * (4 * grad / count))
    if logvar is None:
        return grad_mu.to(mu.dtype), mu.new_empty(0)
    weights = distance.diagonal() * (2 * grad / count)
    grad_logvar = times_exp(weights, logvar.to(covariance.dtype))
    return grad_mu.to(mu.dtype), grad_logvar.to(logvar.dtype)


def cross_covariance_penalty(y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sum of squares of a cross-covariance (Lezama et al. 2019, Eq. 10).

    Returns
    -------
    penalty
        Σ_ij C_ij², a scalar.
    y_means, z_means, covariance
        (2, k) and (2, d), see ``_centre``, and C (k, d) = 1/B Σ_b (y − ȳ)(z − z̄)'.
    """
    dtype, count = compute_dtype(y, z), max(y.shape[0], 1)
    left, y_means = _centre(y.to(dtype))
    right, z_means = _centre(z.to(dtype))
    with without_autocast(y):
        covariance = left.T @ right / count
    return (covariance * covariance).sum(), y_means, z_means, covariance


def cross_covariance_penalty_backward(
    grad: Tensor, y: Tensor, z: Tensor, y_means: Tensor, z_means: Tensor, covariance: Tensor
) -> tuple[Tensor, Tensor]:
    """Adjoint of :func:`cross_covariance_penalty` with respect to the penalty alone.

    grad_y = 2 grad / B (z − z̄) C' and grad_z = 2 grad / B (y − ȳ) C.
    """
    left, _ = _centre(y.to(covariance.dtype), y_means)
    right, _ = _centre(z.to(covariance.dtype), z_means)
    weights = covariance * (2 * grad / max(y.shape[0], 1))
    with without_autocast(y):
        return (right @ weights.T).to(y.dtype), (left @ weights).to(z.dtype)


def third_central_moment_penalty(z: Tensor, logvar: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sum over dimensions of the squared third central moment.

    Returns
    -------
    penalty
        Σ_i M_i², a scalar, with M_i = 1/B Σ_b (c³ + 3 c v), c = z − mean and v = exp(logvar) (0
        without): the third central moment of the mixture of the B Gaussians N(z_b, v_b).
    moments
        (4, d): the two rows of ``_centre``, the variance 1/B Σ_b (c² + v), and M.
    """
    count = max(z.shape[0], 1)
    c, means = _centre(z.to(compute_dtype(z)))
    squares, cubes = c * c, c * c * c
    if logvar is not None:
        v = logvar.to(c.dtype)
        squares, cubes = squares + v.exp(), cubes + times_exp(3 * c, v)
    variance, third = squares.sum(dim=0) / count, cubes.sum(dim=0) / count
    return (third * third).sum(), torch.cat([means, torch.stack([variance, third])])


def third_central_moment_penalty_backward(
    grad: Tensor, z: Tensor, logvar: Tensor | None, moments: Tensor
) -> tuple[Tensor, Tensor]:
    """Adjoint of :func:`third_central_moment_penalty` with respect to the penalty alone.

    grad_z = 6 grad / B M_i (c² + v − variance_i) and grad_logvar = 6 grad / B M_i c v, which is
    (0,) if there is no logvar.
    """
    c, _ = _centre(z.to(moments.dtype), moments[:2])
    weights = moments[3] * (6 * grad / max(z.shape[0], 1))
    squares = c * c if logvar is None else c * c + logvar.to(c.dtype).exp()
    # Where all samples equal the mean, variances may be infinite and their difference NaN.
    spread = squares - moments[2]
    spread = torch.where((weights == 0) & ~spread.isfinite(), c, spread)
    grad_z = (weights * spread).to(z.dtype)
    if logvar is None:
        return grad_z, z.new_empty(0)
    return grad_z, times_exp(weights * c, logvar.to(c.dtype)).to(logvar.dtype)
