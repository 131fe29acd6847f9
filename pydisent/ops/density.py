"""Density ops: the aggregate posterior on a minibatch, and the total correlation under it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from pydisent import _backends
from pydisent._checks import (
    check_floating,
    check_int64,
    check_matching,
    check_one_of,
    shape_error,
)
from pydisent.ops.registry import Family, Implementation
from pydisent.ops.spec import Draw, Sizes, computed
from pydisent.reference.density import ESTIMATORS, Estimator
from pydisent.reference.dtypes import promote

__all__ = ["aggregate_posterior", "total_correlation"]


def aggregate_posterior(
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    dataset_size: int,
    estimator: Estimator = "mws",
    *,
    impl: Implementation | None = None,
) -> tuple[Tensor, Tensor]:
    """Estimate the aggregate posterior's log-densities at its samples (Chen et al. 2018).

    q(z_i) ≈ Σ_j w_ij Π_d q(z_id | x_j) and q(z_id) ≈ Σ_j w_ij q(z_id | x_j), where
    q(z_id | x_j) = N(z_id; mu_jd, exp(logvar_jd)). Time grows with B² d, memory with B d; memory
    grows with B² d where the reference is differentiated: gradients with impl="reference", second
    derivatives, forward mode and torch.func transforms.

    Parameters
    ----------
    z
        (B, d), one sample from each posterior.
    mu, logvar
        (B, d), means and log-variances of the posteriors. Mixed floating dtypes are promoted.
    dataset_size
        N >= 1, the number of training images that the batch was drawn from. N < B, a batch with
        repeated images, is accepted by "mws", where N is a constant offset, but not by "mss", where
        it would give an image a negative weight.
    estimator
        "mws", minibatch-weighted (sec. 3.1): w = 1 / (B N). "mss", minibatch-stratified
        (appendix C): with M = B − 1, w_ii = 1 / N, w_ij = (N − M) / (N M) for j = i + 1 (mod B),
        else 1 / M; the weights of a row sum to 1, and at B = 1 the one weight is 1. (The
        authors' code has these weights in the first two columns, not along the diagonal.)
    impl
        "auto", "reference", "native" or "triton"; by default ``PYDISENT_IMPL``, else "auto".

    Returns
    -------
    log_joint : Tensor
        log q(z_i) (B,) in nats; float64 if an input is, else float32.
    log_marginals : Tensor
        log q(z_id) (B, d), likewise.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, ranges or names are not as above.
    RuntimeError
        If the requested implementation is not available.
    """
    z, mu, logvar = _checked(z, mu, logvar, dataset_size, estimator)
    return _posterior(z, mu, logvar, int(dataset_size), estimator, impl=impl)


def total_correlation(
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    dataset_size: int,
    estimator: Estimator = "mws",
    *,
    impl: Implementation | None = None,
) -> Tensor:
    """Estimate the total correlation of the aggregate posterior (Chen et al. 2018, Eq. 2).

    mean_i [log q(z_i) − Σ_d log q(z_id)], with the densities, parameters, dtypes and exceptions of
    :func:`aggregate_posterior`.

    Returns
    -------
    Tensor
        A scalar in nats; NaN for an empty batch. The estimate may be negative; the weights of "mws"
        add (d − 1) log N to the value that averaging over the batch would give.
    """
    log_joint, log_marginals = aggregate_posterior(
        z, mu, logvar, dataset_size, estimator, impl=impl
    )
    return (log_joint - log_marginals.sum(dim=1)).mean()


def _checked(
    z: Tensor, mu: Tensor, logvar: Tensor, dataset_size: int, estimator: str
) -> tuple[Tensor, ...]:
    """Return the tensors in one dtype."""
    if is_compiling() or not _backends.fits("bd bd bd", z, mu, logvar):
        check_floating("z", z)
        if z.dim() != 2:
            raise shape_error("z", "(B, d)", z)
        for name, x in (("mu", mu), ("logvar", logvar)):
            check_matching(name, x, "z", z)
        z, mu, logvar = promote(z, mu, logvar)
    check_int64("dataset_size", dataset_size, at_least=1)
    check_one_of("estimator", estimator, ESTIMATORS)
    if estimator == "mss" and dataset_size < z.shape[0]:
        raise ValueError(
            f'dataset_size must be at least the batch size {z.shape[0]} for estimator="mss", '
            f"got {dataset_size}"
        )
    return z, mu, logvar


def _arguments(draw: Draw, batch: int, d: int, estimator: str = "mws") -> tuple[Any, ...]:
    # Of moderate size: the adjoint is ill-conditioned where log-densities, its exponents, are
    # large.
    mu, logvar, noise = (draw(batch, d, std=std, dtype=torch.float64) for std in (1.0, 0.5, 1.0))
    z = mu + torch.exp(logvar / 2) * noise
    return *(x.to(draw.dtype) for x in (z, mu, logvar)), 737280, estimator


_SAMPLES = (
    (3, 2), (4, 3, "mss"), (1, 2, "mss"), (2, 1, "mss"), (1, 1), (5, 1), (19, 4, "mss"),
    (0, 3, "mss"), (37, 3),
)  # fmt: skip
_posterior = Family("density", triton=True).op(
    "aggregate_posterior",
    "(Tensor z, Tensor mu, Tensor logvar, int dataset_size, str estimator)"
    " -> (Tensor log_joint, Tensor log_marginals)",
    arguments=_arguments,
    sizes=Sizes(
        "B d",
        samples=_SAMPLES,
        tiny=(4, 2),
        small=(64, 10),
        medium=(512, 10),
        large=(2048, 10),
    ),
    fake=lambda z, *_: (computed(z, z.shape[0]), computed(z, *z.shape)),
    flops=lambda z, *_: 7 * z.shape[0] * z.numel(),
    adjoint="(Tensor grad_joint, Tensor grad_marginals, Tensor z, Tensor mu, Tensor logvar,"
    " Tensor log_joint, Tensor log_marginals, int dataset_size, str estimator)"
    " -> (Tensor grad_z, Tensor grad_mu, Tensor grad_logvar)",
    adjoint_flops=lambda grad_joint, grad_marginals, z, *_: 15 * z.shape[0] * z.numel(),
    outputs=2,
)
