"""Spectral ops: masked power iteration on Gram matrices, and its adjoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..reference import spectral as reference
from ..reference._dtypes import compute_dtype
from ._check import require, require_count, require_floating, require_positive, require_tensor
from ._registry import Grads, Implementation, OpSpec, register


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
    vectors, norms, _, _ = _forward(gram, probe, mask, iterations, eps, impl=impl)
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


def _fake(
    gram: Tensor, probe: Tensor, mask: Tensor, iterations: int, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (batch, m, k), dtype = probe.shape, compute_dtype(gram)
    return (
        gram.new_empty(batch, m, k),
        gram.new_empty(batch, k),
        gram.new_empty((batch, iterations + 1, k, m), dtype=dtype),
        gram.new_empty((batch, iterations, k), dtype=dtype),
    )


def _fake_backward(
    grad_vectors: Tensor, grad_norms: Tensor, gram: Tensor, *_: Any
) -> tuple[Tensor, Tensor]:
    return gram.new_empty(gram.shape), gram.new_empty(grad_vectors.shape)


def _backward(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    gram, probe, mask, _, eps = inputs
    _, _, iterates, iterate_norms = outputs
    grad_vectors = torch.zeros_like(probe) if grads[0] is None else grads[0]
    grad_norms = probe.new_zeros(probe.shape[0], probe.shape[2]) if grads[1] is None else grads[1]
    args = grad_vectors, grad_norms, gram, mask, iterates, iterate_norms, eps
    if grads[2] is None and grads[3] is None:
        grad_gram, grad_probe = _adjoint(*args)
    else:
        # Only a second derivative has cotangents of the saved iterates.
        grad_gram, grad_probe = reference.masked_power_iteration_backward(*args, *grads[2:])
    return grad_gram, grad_probe, None, None, None


def _samples(dtype: torch.dtype, device: torch.device | str) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    for batch, m, k, steps in [
        (2, 3, 2, 2),
        (1, 1, 1, 1),
        (3, 5, 5, 3),
        (2, 17, 9, 2),
        (0, 4, 2, 2),
    ]:
        gram = normal(batch, m, m) / m + torch.eye(m, dtype=torch.float64)
        mask = torch.ones(m, k, dtype=torch.float64).tril()
        tensors = [x.to(device, dtype) for x in (gram, normal(batch, m, k), mask)]
        yield *tensors, steps, 1e-8


def _samples_backward(dtype: torch.dtype, device: torch.device | str) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(1)
    for gram, probe, mask, steps, eps in _samples(dtype, device):
        vectors, norms, iterates, iterate_norms = reference.masked_power_iteration(
            gram, probe, mask, steps, eps
        )
        cotangents = (
            torch.randn(x.shape, generator=generator, dtype=torch.float64).to(device, dtype)
            for x in (vectors, norms)
        )
        yield *cotangents, gram, mask, iterates.contiguous(), iterate_norms, eps


def _bytes(gram: Tensor, probe: Tensor, mask: Tensor, iterations: int, eps: float) -> int:
    state = compute_dtype(gram).itemsize * probe.numel() * (iterations + 1)
    return gram.nbytes + 2 * probe.nbytes + mask.nbytes + state


def _flops(gram: Tensor, probe: Tensor, mask: Tensor, iterations: int, eps: float) -> int:
    return 2 * gram.numel() * probe.shape[2] * iterations


def _bytes_backward(grad_vectors: Tensor, grad_norms: Tensor, gram: Tensor, *rest: Any) -> int:
    return 2 * gram.nbytes + 2 * grad_vectors.nbytes + rest[1].nbytes


def _flops_backward(grad_vectors: Tensor, grad_norms: Tensor, gram: Tensor, *rest: Any) -> int:
    return 4 * gram.numel() * grad_vectors.shape[2] * rest[2].shape[1]


_forward = register(
    OpSpec(
        name="masked_power_iteration",
        schema="(Tensor gram, Tensor probe, Tensor mask, int iterations, float eps)"
        " -> (Tensor vectors, Tensor norms, Tensor iterates, Tensor iterate_norms)",
        reference=reference.masked_power_iteration,
        fake=_fake,
        backward=_backward,
        saves=(2, 3),
        samples=_samples,
        bytes=_bytes,
        flops=_flops,
    )
)
_adjoint = register(
    OpSpec(
        name="masked_power_iteration_backward",
        schema="(Tensor grad_vectors, Tensor grad_norms, Tensor gram, Tensor mask,"
        " Tensor iterates, Tensor iterate_norms, float eps)"
        " -> (Tensor grad_gram, Tensor grad_probe)",
        reference=reference.masked_power_iteration_backward,
        fake=_fake_backward,
        samples=_samples_backward,
        bytes=_bytes_backward,
        flops=_flops_backward,
    )
)
