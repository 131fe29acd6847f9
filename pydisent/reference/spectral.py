"""Masked power iteration (Ramesh et al. 2018, Algorithm 2) and its adjoint."""

from __future__ import annotations

import torch
from torch import Tensor

from pydisent.reference.dtypes import compute_dtype, without_autocast


def _product(x: Tensor, y: Tensor) -> Tensor:
    with without_autocast(x):
        return x @ y


def _column_norms(w: Tensor) -> Tensor:
    """Norms (B, k) of the columns of w (B, m, k); their gradient at a zero column is zero."""
    squares = (w * w).sum(dim=-2)
    zero = squares == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squares).sqrt())


def masked_power_iteration(
    gram: Tensor, probe: Tensor, mask: Tensor, iterations: int, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run ``iterations`` masked and normalised products with the Gram matrix.

    V_0 = mask∘probe; W_i = mask∘(gram V_{i-1}); n_i = column norms of W_i; V_i = W_i / (n_i + eps).

    Parameters
    ----------
    gram, probe, mask
        (B, m, m), (B, m, k) and (m, k); the mask is a constant and gets no gradient.

    Returns
    -------
    vectors, norms
        V_T (B, m, k) and n_T (B, k), in the dtype of ``gram``.
    iterates, iterate_norms
        V_0 ... V_T (B, T + 1, k, m) and n_1 ... n_T (B, T, k), in the dtype of the arithmetic
        (float32 for half precision): what the adjoint needs.
    """
    dtype = compute_dtype(gram)
    matrix, pattern = gram.to(dtype), mask.detach().to(dtype)
    v = pattern * probe.to(dtype)
    iterates, norms = [v], []
    for _ in range(iterations):
        w = pattern * _product(matrix, v)
        n = _column_norms(w)
        v = w / (n + eps).unsqueeze(-2)
        iterates.append(v)
        norms.append(n)
    return (
        v.to(gram.dtype),
        norms[-1].to(gram.dtype),
        torch.stack(iterates, dim=1).transpose(-1, -2),
        torch.stack(norms, dim=1),
    )


def masked_power_iteration_backward(
    grad_vectors: Tensor,
    grad_norms: Tensor,
    gram: Tensor,
    mask: Tensor,
    iterates: Tensor,
    iterate_norms: Tensor,
    eps: float,
    grad_iterates: Tensor | None = None,
    grad_iterate_norms: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Adjoint of :func:`masked_power_iteration` for a general (not only symmetric) matrix.

    For i = T ... 1, with V_i the iterates and a cotangent bar on each quantity:
    Y_i = mask∘(V̄_i / (n_i + eps) − V_i (V_i·V̄_i − n̄_i (n_i + eps)) / n_i) and V̄_{i-1} = gram' Y_i.
    The second term is zero where n_i = 0, the norm's subgradient there, and where n_i overflowed:
    the V_i = 0 and n_i = ∞ that the forward then gives are constants.

    Returns
    -------
    grad_gram, grad_probe
        Σ_i Y_i V_{i-1}' (B, m, m) and mask∘V̄_0 (B, m, k), in the dtype of ``gram``.
    """
    dtype, steps = iterates.dtype, iterate_norms.shape[1]
    matrix, pattern = gram.to(dtype), mask.detach().to(dtype)
    v = iterates.transpose(-1, -2)
    v_bar = grad_vectors.to(dtype)
    n_bar = grad_norms.to(dtype)
    grad_gram = torch.zeros_like(matrix)
    for i in range(steps, 0, -1):
        if grad_iterates is not None:
            v_bar = v_bar + grad_iterates[:, i].transpose(-1, -2)
        if grad_iterate_norms is not None:
            n_bar = n_bar + grad_iterate_norms[:, i - 1]
        n = iterate_norms[:, i - 1]
        constant = (n == 0) | n.isinf()
        finite = torch.where(constant, 1.0, n)
        along = (v[:, i] * v_bar).sum(dim=-2) - n_bar * (finite + eps)
        along = torch.where(constant, 0.0, along / finite)
        y = pattern * (v_bar / (n + eps).unsqueeze(-2) - v[:, i] * along.unsqueeze(-2))
        grad_gram = grad_gram + _product(y, v[:, i - 1].transpose(-1, -2))
        v_bar = _product(matrix.transpose(-1, -2), y)
        n_bar = torch.zeros_like(n_bar)
    if grad_iterates is not None:
        v_bar = v_bar + grad_iterates[:, 0].transpose(-1, -2)
    return grad_gram.to(gram.dtype), (pattern * v_bar).to(gram.dtype)
