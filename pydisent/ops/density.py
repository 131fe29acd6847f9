"""Density ops: the aggregate posterior on a minibatch, and the total correlation under it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..reference import density as reference
from ..reference._dtypes import compute_dtype
from ..reference.density import ESTIMATORS, Estimator
from ._check import promote, require, require_count, require_floating, require_matching
from ._registry import Grads, Implementation, OpSpec, register


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
    q(z_id | x_j) = N(z_id; mu_jd, exp(logvar_jd)). Time grows with B² d, memory with B d; but with
    B² d where derivatives are those of the reference: gradients with impl="reference", second
    derivatives, forward mode and torch.func transforms.

    Parameters
    ----------
    z
        (B, d), the sample of each posterior.
    mu, logvar
        (B, d), means and log-variances of the posteriors. Floating dtypes that differ are
        promoted to one.
    dataset_size
        N >= 1, the number of training images that the batch was drawn from. N < B, a batch with
        repeated images, is accepted by "mws", to which N is a constant offset; "mss" refuses it,
        for it would give an image a negative weight.
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
        If the implementation asked for is not there.
    """
    _check(z, mu, logvar, dataset_size, estimator)
    z, mu, logvar = promote(z, mu, logvar)
    return _forward(z, mu, logvar, int(dataset_size), estimator, impl=impl)


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

    mean_i [log q(z_i) − Σ_d log q(z_id)], with the densities of :func:`aggregate_posterior`,
    whose parameters, dtypes and exceptions these are.

    Returns
    -------
    Tensor
        A scalar in nats; NaN for an empty batch. It may be negative, as an estimate; and the
        weights of "mws" add (d − 1) log N to what the average over the batch would give.
    """
    log_joint, log_marginals = aggregate_posterior(
        z, mu, logvar, dataset_size, estimator, impl=impl
    )
    return (log_joint - log_marginals.sum(dim=1)).mean()


def _check(z: Tensor, mu: Tensor, logvar: Tensor, dataset_size: int, estimator: str) -> None:
    require_floating("z", z)
    if z.dim() != 2:
        raise ValueError(f"z: got shape {tuple(z.shape)}, accepted is (B, d)")
    for name, x in (("mu", mu), ("logvar", logvar)):
        require_matching(name, x, "z", z)
    require_count("dataset_size", dataset_size)
    require(estimator in ESTIMATORS, "estimator", repr(estimator), ", ".join(map(repr, ESTIMATORS)))
    if estimator == "mss" and dataset_size < z.shape[0]:
        accepted = f'at least the batch size, {z.shape[0]}, for estimator="mss"'
        raise ValueError(f"dataset_size: got {dataset_size}, accepted is {accepted}")


def _fake(
    z: Tensor, mu: Tensor, logvar: Tensor, dataset_size: int, estimator: str
) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(z)
    return z.new_empty(z.shape[0], dtype=dtype), z.new_empty(z.shape, dtype=dtype)


def _fake_backward(
    grad_joint: Tensor, grad_marginals: Tensor, z: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return z.new_empty(z.shape), z.new_empty(z.shape), z.new_empty(z.shape)


def _backward(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    cotangents = (torch.zeros_like(x) if g is None else g for x, g in zip(outputs, grads))
    return *_adjoint(*cotangents, *inputs[:3], *outputs, *inputs[3:]), None, None


def _samples(dtype: torch.dtype, device: torch.device | str) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    for batch, d, estimator in [
        (3, 2, "mws"),
        (4, 3, "mss"),
        (1, 2, "mss"),
        (2, 1, "mss"),
        (1, 1, "mws"),
        (5, 1, "mws"),
        (19, 4, "mss"),
        (0, 3, "mss"),
        (37, 3, "mws"),
    ]:
        # Of moderate size: the adjoint's condition grows with the log-densities it takes exp of.
        mu, logvar = normal(batch, d), 0.5 * normal(batch, d)
        z = mu + torch.exp(logvar / 2) * normal(batch, d)
        yield *(x.to(device, dtype) for x in (z, mu, logvar)), 3000, estimator


def _samples_backward(dtype: torch.dtype, device: torch.device | str) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(1)
    for inputs in _samples(dtype, device):
        outputs = reference.aggregate_posterior(*inputs)
        cotangents = (
            torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) for x in outputs
        )
        yield *cotangents, *inputs[:3], *outputs, *inputs[3:]


def _bytes(z: Tensor, *_: Any) -> int:
    return 3 * z.nbytes + compute_dtype(z).itemsize * (z.shape[0] + z.numel())


def _flops(z: Tensor, *_: Any) -> int:
    return 7 * z.shape[0] * z.numel()


def _bytes_backward(grad_joint: Tensor, grad_marginals: Tensor, z: Tensor, *_: Any) -> int:
    return 6 * z.nbytes + 2 * grad_joint.nbytes + 2 * grad_marginals.nbytes


def _flops_backward(grad_joint: Tensor, grad_marginals: Tensor, z: Tensor, *_: Any) -> int:
    return 15 * z.shape[0] * z.numel()


_forward = register(
    OpSpec(
        name="aggregate_posterior",
        schema="(Tensor z, Tensor mu, Tensor logvar, int dataset_size, str estimator)"
        " -> (Tensor log_joint, Tensor log_marginals)",
        reference=reference.aggregate_posterior,
        fake=_fake,
        backward=_backward,
        saves=(0, 1),
        samples=_samples,
        bytes=_bytes,
        flops=_flops,
        triton="aggregate_posterior",
    )
)
_adjoint = register(
    OpSpec(
        name="aggregate_posterior_backward",
        schema="(Tensor grad_joint, Tensor grad_marginals, Tensor z, Tensor mu, Tensor logvar,"
        " Tensor log_joint, Tensor log_marginals, int dataset_size, str estimator)"
        " -> (Tensor grad_z, Tensor grad_mu, Tensor grad_logvar)",
        reference=reference.aggregate_posterior_backward,
        fake=_fake_backward,
        samples=_samples_backward,
        bytes=_bytes_backward,
        flops=_flops_backward,
        triton="aggregate_posterior_backward",
    )
)
