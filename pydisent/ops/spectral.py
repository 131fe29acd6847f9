"""Spectral ops: masked power iteration on Gram matrices, and its adjoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pydisent.ops._check import (
    require,
    require_count,
    require_floating,
    require_positive,
    require_tensor,
)
from pydisent.ops.registry import Family, Implementation
from pydisent.ops.spec import Draw, Sizes, computed, like

__all__ = ["masked_power_iteration"]


def masked_power_iteration(
    gram: Tensor,
    probe: Tensor,
    mask: Tensor,
    iterations: int,
    eps: float = 1e-8,
    *,
    impl: Implementation | None = None,
) -> tuple[Tensor, Tensor]:
    """Estimate the leading eigenvectors of Gram matrices (Ramesh et al. 2018, Algorithm 2).

    V_0 = mask∘probe; W_i = mask∘(gram V_{i-1}); n_i = column norms of W_i;
    V_i = W_i / (n_i + eps), for i = 1 ... ``iterations``.

    Parameters
    ----------
    gram
        (B, m, m), any strides; it need not be symmetric.
    probe
        (B, m, k), the initial estimates, in the dtype of ``gram``.
    mask
        (m, k), multiplied in (Eq. 11 has zeros and ones); a constant, which gets no gradient.
    iterations
        T >= 1.
    eps
        Added to each norm, > 0. A column that vanishes stays zero, and the norm contributes
        nothing to its gradient.
    impl
        "auto", "reference" or "native"; by default ``PYDISENT_IMPL``, else "auto".

    Returns
    -------
    vectors : Tensor
        V_T (B, m, k).
    norms : Tensor
        n_T (B, k), the estimates of the eigenvalues.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes or ranges are not as above.
    RuntimeError
        If the implementation asked for is not there.
    """
    _check(gram, probe, mask, iterations, eps)
    if mask.dtype != gram.dtype:
        mask = mask.to(gram.dtype)
    vectors, norms, _, _ = _power_iteration(gram, probe, mask, iterations, eps, impl=impl)
    return vectors, norms


def _check(gram: Tensor, probe: Tensor, mask: Tensor, iterations: int, eps: float) -> None:
    require_floating("gram", gram)
    if gram.dim() != 3 or gram.shape[1] != gram.shape[2]:
        raise ValueError(f"gram: got shape {tuple(gram.shape)}, accepted is (B, m, m)")
    batch, m, _ = gram.shape
    require_tensor("probe", probe)
    require_tensor("mask", mask)
    if probe.dim() != 3 or probe.shape[:2] != (batch, m):
        raise ValueError(
            f"probe: got shape {tuple(probe.shape)}, accepted is ({batch}, {m}, k) for this gram"
        )
    if mask.shape != probe.shape[1:]:
        accepted = tuple(probe.shape[1:])
        raise ValueError(f"mask: got shape {tuple(mask.shape)}, accepted is {accepted}")
    for name, x in (("probe", probe), ("mask", mask)):
        require(
            x.device == gram.device, name, f"on {x.device}", f"the device of gram, {gram.device}"
        )
    if probe.dtype != gram.dtype:
        raise TypeError(f"probe: got {probe.dtype}, accepted is the dtype of gram, {gram.dtype}")
    require_count("iterations", iterations)
    require_positive("eps", eps)


def _arguments(draw: Draw, batch: int, m: int, k: int, iterations: int) -> tuple[Any, ...]:
    one = torch.eye(m, dtype=torch.float64, device=draw.device)
    gram = (draw(batch, m, m, dtype=torch.float64) / m + one).to(draw.dtype)
    mask = torch.ones(m, k, dtype=draw.dtype, device=draw.device).tril()
    return gram, draw(batch, m, k), mask, iterations, 1e-8


def _fake(
    gram: Tensor, probe: Tensor, mask: Tensor, iterations: int, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, m, k = probe.shape
    return (
        like(gram, batch, m, k),
        like(gram, batch, k),
        computed(gram, batch, iterations + 1, k, m),
        computed(gram, batch, iterations, k),
    )


_power_iteration = Family("spectral").op(
    "masked_power_iteration",
    "(Tensor gram, Tensor probe, Tensor mask, int iterations, float eps)"
    " -> (Tensor vectors, Tensor norms, Tensor iterates, Tensor iterate_norms)",
    arguments=_arguments,
    sizes=Sizes(
        "B m k T",
        samples=((2, 3, 2, 2), (1, 1, 1, 1), (3, 5, 5, 3), (2, 17, 9, 2), (0, 4, 2, 2)),
        tiny=(1, 4, 2, 2),
        small=(32, 128, 8, 8),
        medium=(32, 128, 32, 8),
        large=(512, 128, 32, 8),
    ),
    fake=_fake,
    flops=lambda gram, probe, mask, iterations, eps: 2 * gram.numel() * probe.shape[2] * iterations,
    adjoint="(Tensor grad_vectors, Tensor grad_norms, Tensor gram, Tensor mask, Tensor iterates,"
    " Tensor iterate_norms, float eps) -> (Tensor grad_gram, Tensor grad_probe)",
    adjoint_flops=lambda grad_vectors, grad_norms, gram, mask, iterates, norms, eps: (
        4 * gram.numel() * grad_vectors.shape[2] * norms.shape[1]
    ),
    adjoint_fake=lambda grad_vectors, grad_norms, gram, *_: (like(gram), like(grad_vectors)),
    outputs=2,
    is_product=True,
)
