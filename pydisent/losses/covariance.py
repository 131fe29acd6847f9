"""Decorrelation losses: the penalties of DIP-VAE, and the cross-covariance of two codes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pydisent._checks import (
    check_floating,
    check_matching,
    check_number,
    check_one_of,
    shape_error,
)
from pydisent.ops import covariance as ops
from pydisent.reference.dtypes import compute_dtype


def dip_vae_penalty(
    mu: Tensor,
    logvar: Tensor | None = None,
    *,
    variant: Literal["i", "ii"] = "ii",
    lambda_od: float,
    lambda_d: float,
    lambda_3: float = 0.0,
    covariance: Tensor | None = None,
) -> Tensor:
    """Match the covariance of the codes to the identity: DIP-VAE-I and II (Kumar et al. 2018).

    lambda_od Σ_{i≠j} C_ij² + lambda_d Σ_i (C_ii − 1)² + lambda_3 Σ_i M_i². In variant I (Eq. 6) C
    is the biased batch covariance of the posterior means. In variant II (Eq. 7) it is that of the
    aggregate posterior: by Eq. 5 the batch mean of the variances is added to the diagonal only.
    M_i are the third central moments (sec. 2.2) of the same distribution, one per dimension, in
    closed form.

    Parameters
    ----------
    mu, logvar
        (B, d), means and log-variances of the posteriors; variant I ignores ``logvar``.
        Mixed floating dtypes are promoted.
    variant
        "i" or "ii".
    lambda_od, lambda_d, lambda_3
        Weights, numbers >= 0; a tensor is refused, as it would get no gradient. For dSprites the
        paper has lambda_d = 10 lambda_od for I; lambda_d = lambda_od and lambda_3 = 200 for II.
    covariance
        (d, d), a covariance of the posterior means to use in place of the batch's, such as a
        running estimate (footnote 4); gradients flow through it and through the rest of the
        penalty.

    Returns
    -------
    Tensor
        A scalar to add to the negative ELBO of one sample, in float32 for inputs in half precision.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, names or ranges are not as above, or variant II has no ``logvar``.

    Examples
    --------
    >>> mu = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])  # variances of 1, covariances of 1
    >>> dip_vae_penalty(mu, variant="i", lambda_od=0.5, lambda_d=5.0).item()
    1.0
    """
    check_one_of("variant", variant, ("i", "ii"))
    check_number("lambda_3", lambda_3, at_least=0)
    if variant == "i":
        logvar = None
    elif logvar is None:
        raise ValueError("logvar must be a tensor (B, d) for variant='ii', got None")
    if covariance is None:
        penalty = ops.covariance_penalty(mu, logvar, lambda_od=lambda_od, lambda_d=lambda_d)
    else:
        check_number("lambda_od", lambda_od, at_least=0)
        check_number("lambda_d", lambda_d, at_least=0)
        _check_given(mu, logvar, covariance)
        dtype = compute_dtype(covariance, mu, logvar)
        given, spread = covariance.to(dtype), None if logvar is None else logvar.to(dtype)
        penalty = _distance_to_identity(given, spread, lambda_od, lambda_d)
    if lambda_3 > 0:
        penalty = penalty + lambda_3 * ops.third_central_moment_penalty(mu, logvar)
    return penalty


def _check_given(mu: Tensor, logvar: Tensor | None, covariance: Tensor) -> None:
    check_floating("mu", mu)
    if mu.dim() != 2 or mu.shape[1] == 0:
        raise shape_error("mu", "(B, d), d >= 1", mu)
    if logvar is not None:
        check_matching("logvar", logvar, "mu", mu)
    check_matching("covariance", covariance, "mu", mu, shape=False)
    if covariance.shape != (mu.shape[1], mu.shape[1]):
        raise shape_error("covariance", (mu.shape[1], mu.shape[1]), covariance)


def _distance_to_identity(
    covariance: Tensor, logvar: Tensor | None, lambda_od: float, lambda_d: float
) -> Tensor:
    """Return Eq. 6, or Eq. 7 with log-variances, for a covariance (d, d) of the means."""
    variances = covariance.diagonal()
    diagonal = torch.eye(len(variances), dtype=torch.bool, device=variances.device)
    off_diagonal = covariance.masked_fill(diagonal, 0.0)
    if logvar is not None:
        variances = variances + logvar.exp().sum(0) / max(len(logvar), 1)
    return lambda_od * off_diagonal.square().sum() + lambda_d * (variances - 1).square().sum()


def cross_covariance_penalty(
    y: Tensor, z: Tensor, *, variant: Literal["paper", "author_code"] = "paper"
) -> Tensor:
    """Decorrelate two parts of a code (Lezama et al. 2019, Eq. 10).

    Σ_ij (1/B Σ_b (y_bi − ȳ_i)(z_bj − z̄_j))².

    Parameters
    ----------
    y, z
        (B, k) and (B, d); mixed floating dtypes are promoted.
    variant
        "paper", or "author_code": the Frobenius norm, the square root of the paper's penalty; its
        gradient at 0 is 0.

    Returns
    -------
    Tensor
        A scalar, in float32 for inputs in half precision.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes or names are not as above.
    """
    check_one_of("variant", variant, ("paper", "author_code"))
    penalty = ops.cross_covariance_penalty(y, z)
    if variant == "paper":
        return penalty
    # The root has infinite slope at 0: both the root and its argument are masked there.
    zero = penalty == 0
    return penalty.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)
