"""Objectives of :func:`pydisent.gram_penalty`: functions of M = J'J, or of V'M V along directions.

Each takes M (B, m, m) and returns (B,), or a scalar if it is defined on the whole batch. Those
ending in ``_estimate`` are the published estimators: they take V'M V (B, K, K) for K random
directions V and read only its diagonal, ‖J v‖².
"""

from __future__ import annotations

import torch
from torch import Tensor

from pydisent._checks import check, check_number

__all__ = [
    "condition_number",
    "isometry",
    "isometry_estimate",
    "jacobian_clamping",
    "jacobian_clamping_estimate",
    "log_determinant",
    "nuclear_norm",
    "orthogonal_jacobian",
    "orthogonal_jacobian_estimate",
    "path_length",
    "scaled_isometry",
    "spectral_norm",
]


def orthogonal_jacobian(gram: Tensor) -> Tensor:
    """Σ_{i≠j} M_ij², zero if the columns of J are orthogonal (Wei et al. 2021, Eq. 4).

    Examples
    --------
    >>> orthogonal_jacobian(torch.tensor([[[1.0, 2.0], [2.0, 5.0]]])).tolist()
    [8.0]
    """
    return gram.square().sum((-2, -1)) - gram.diagonal(dim1=-2, dim2=-1).square().sum(-1)


def orthogonal_jacobian_estimate(gram: Tensor) -> Tensor:
    """Var_v ‖J v‖² over K ≥ 2 Rademacher directions, unbiased (Wei et al. 2021, Eq. 8).

    Its expectation is 2 Σ_{i≠j} M_ij², twice :func:`orthogonal_jacobian`. The authors' code takes
    the maximum over the batch: ``lambda gram: orthogonal_jacobian_estimate(gram).max()``.
    """
    squares = _squared_lengths(gram)
    check(squares.shape[-1] >= 2, "directions", "at least 2", squares.shape[-1])
    return squares.var(-1)


def isometry(gram: Tensor) -> Tensor:
    """‖M − I‖²_F, zero where the function preserves lengths and angles."""
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return (gram - eye).square().sum((-2, -1))


def isometry_estimate(gram: Tensor) -> Tensor:
    """Mean of (‖J u‖ − 1)² over unit directions u (Gropp et al. 2020, Eq. 5)."""
    return (_squared_lengths(gram).sqrt() - 1).square().mean(-1)


def scaled_isometry(gram: Tensor) -> Tensor:
    """E tr M² / (E tr M)² over the batch, a scalar (Lee et al. 2022, Eq. 8).

    Its minimum, 1/m, is attained if all M are the same multiple of I.
    """
    relative = gram / _trace(gram).mean()  # so that squares neither overflow nor underflow
    return relative.square().sum((-2, -1)).mean()


def jacobian_clamping(gram: Tensor, low: float = 1.0, high: float = 20.0) -> Tensor:
    """Mean over singular values of their squared distance to [low, high].

    The exact form of Odena et al. 2018, Algorithm 1, which takes one random direction instead.
    """
    return _outside(singular_values(gram), low, high)


def jacobian_clamping_estimate(gram: Tensor, low: float = 1.0, high: float = 20.0) -> Tensor:
    """The same for ‖J u‖ along unit directions u (Odena et al. 2018, Algorithm 1)."""
    return _outside(_squared_lengths(gram).sqrt(), low, high)


def log_determinant(gram: Tensor) -> Tensor:
    """½ log det M, the log of the volume that a unit volume of latent space is mapped to.

    It is the change in log density of an injective flow. NaN where M is not positive definite.
    """
    factor, info = torch.linalg.cholesky_ex(gram)
    logs = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return torch.where(info == 0, logs, torch.nan)


def path_length(gram: Tensor, target: float = 0.0) -> Tensor:
    """(√tr M − a)²: StyleGAN2's path length (Karras et al. 2020, Eq. 4) without sampling.

    tr M = E ‖J'y‖² over y ~ N(0, I); :func:`pydisent.path_length_penalty` samples y.
    """
    check_number("target", target, at_least=0)
    trace = _trace(gram)
    # At a = 0 the square root, which has no derivative where J is zero, cancels.
    return trace if target == 0 else (trace.sqrt() - target).square()


def spectral_norm(gram: Tensor) -> Tensor:
    """The largest singular value of J."""
    # Only the root of the largest is taken, as the root of zero has no derivative.
    return torch.linalg.eigvalsh(gram)[..., -1].clamp_min(0).sqrt()


def nuclear_norm(gram: Tensor) -> Tensor:
    """The sum of the singular values of J; it has no derivative where one is zero."""
    return singular_values(gram).sum(-1)


def condition_number(gram: Tensor) -> Tensor:
    """The largest singular value of J over the smallest."""
    values = singular_values(gram)
    return values[..., -1] / values[..., 0]


def singular_values(gram: Tensor) -> Tensor:
    """Singular values of J (B, m), ascending."""
    return torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()


def _squared_lengths(gram: Tensor) -> Tensor:
    return gram.diagonal(dim1=-2, dim2=-1)


def _trace(gram: Tensor) -> Tensor:
    return _squared_lengths(gram).sum(-1)


def _outside(lengths: Tensor, low: float, high: float) -> Tensor:
    check_number("low", low, at_least=0)
    check_number("high", high, at_least=low)
    return (lengths - lengths.clamp(low, high)).square().mean(-1)
