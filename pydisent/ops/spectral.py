"""Spectral ops: masked power iteration on Gram matrices, and its adjoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from pydisent import _backends
from pydisent._checks import (
    check_device,
    check_floating,
    check_int64,
    check_number,
    check_tensor,
    shape_error,
)
from pydisent.ops.registry import Family, Implementation
from pydisent.ops.spec import Draw, Grads, Sizes, computed, like
from pydisent.reference.spectral import masked_power_iteration_backward

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
        (m, k), applied by multiplication (zeros and ones in Eq. 11); a constant that gets no
        gradient.
    iterations
        T >= 1.
    eps
        > 0, added to each norm. A column that vanishes stays zero, and its norm contributes nothing
        to its gradient.
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
        If the requested implementation is not available.
    """
    check_int64("iterations", iterations, at_least=1)
    check_number("eps", eps, above=0)
    if is_compiling() or not _backends.fits("bmm bmk mk", gram, probe, mask):
        _check(gram, probe, mask)
        mask = mask if mask.dtype == gram.dtype else mask.to(gram.dtype)
    return _power_iteration(gram, probe, mask, iterations, eps, impl=impl)


def _check(gram: Tensor, probe: Tensor, mask: Tensor) -> None:
    check_floating("gram", gram)
    if gram.dim() != 3 or gram.shape[1] != gram.shape[2]:
        raise shape_error("gram", "(B, m, m)", gram)
    batch, m, _ = gram.shape
    check_tensor("probe", probe)
    check_tensor("mask", mask)
    if probe.dim() != 3 or probe.shape[:2] != (batch, m):
        raise shape_error("probe", f"({batch}, {m}, k) for this gram", probe)
    if mask.shape != probe.shape[1:]:
        raise shape_error("mask", f"{tuple(probe.shape[1:])} for this probe", mask)
    for name, x in (("probe", probe), ("mask", mask)):
        check_device(name, x, "gram", gram)
    if probe.dtype != gram.dtype:
        raise TypeError(f"probe must be {gram.dtype}, the dtype of gram, got {probe.dtype}")


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


def _backward(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    if grads[2] is None and grads[3] is None:
        return _power_iteration.by_adjoint(inputs, outputs, grads, needs)
    # Second derivatives have cotangents of the saved iterates, which the same recursion handles.
    gram, probe, mask, _, eps = inputs
    vectors = torch.zeros_like(probe) if grads[0] is None else grads[0]
    norms = probe.new_zeros(probe[:, 0].shape) if grads[1] is None else grads[1]
    found = masked_power_iteration_backward(
        vectors, norms, gram, mask, outputs[2], outputs[3], eps, grads[2], grads[3]
    )
    return *found, None, None, None


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
    backward=_backward,
    outputs=2,
    is_product=True,
)
