"""Elementwise statistics of Gaussian codes, and the perceptual simplicity loss (Zhu et al.)."""

from __future__ import annotations

import torch
from torch import Tensor

from pydisent.reference.dtypes import (
    compute_dtype,
    half_expm1,
    times_exp,
    times_exp_and_square,
    times_expm1,
)


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, e^logvar) || N(0, 1)) elementwise: (mu² + e^logvar − 1 − logvar) / 2.

    Returned in the dtype of the arithmetic: e^logvar overflows float16 from logvar = 12 on.
    """
    dtype = compute_dtype(mu)
    m, s = mu.to(dtype), logvar.to(dtype)
    return (0.5 * m) * m + (half_expm1(s) - 0.5 * s)


def gaussian_kl_backward(grad: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """Adjoint of :func:`gaussian_kl`: grad mu, and grad (e^logvar − 1) / 2."""
    m, s = mu.to(grad.dtype), logvar.to(grad.dtype)
    return (grad * m).to(mu.dtype), times_expm1(0.5 * grad, s).to(logvar.dtype)


def reparameterized_sample(mu: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return mu + e^(logvar/2) noise, in the dtype of ``mu``, and :func:`gaussian_kl`."""
    dtype = compute_dtype(mu)
    z = mu.to(dtype) + times_exp(noise.to(dtype), 0.5 * logvar.to(dtype))
    return z.to(mu.dtype), gaussian_kl(mu, logvar)


def reparameterized_sample_backward(
    grad_z: Tensor, grad_kl: Tensor, mu: Tensor, logvar: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Adjoint of :func:`reparameterized_sample`: the gradients of its three arguments."""
    dtype = compute_dtype(mu)
    m, s, g = mu.to(dtype), logvar.to(dtype), grad_z.to(dtype)
    grad_noise = times_exp(g, 0.5 * s)
    on_std = (0.5 * g) * noise.to(dtype)
    grad_logvar = times_exp_and_square(on_std, 0.5 * grad_kl, 0.5 * s)
    return (g + grad_kl * m).to(mu.dtype), grad_logvar.to(mu.dtype), grad_noise.to(mu.dtype)


def _residuals(
    codes_a: Tensor, codes_b: Tensor, target_a: Tensor, target_b: Tensor, dimension: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two errors (B, d), and a mask of the dimensions that the two images share."""
    dtype = compute_dtype(codes_a)
    a, b = codes_a.to(dtype), codes_b.to(dtype)
    shared = torch.arange(a.shape[1], device=a.device) != dimension.unsqueeze(1)
    mean = 0.5 * (a + b)
    return (
        torch.where(shared, mean, a) - target_a.to(dtype),
        torch.where(shared, mean, b) - target_b.to(dtype),
        shared,
    )


def perceptual_simplicity_loss(
    codes_a: Tensor,
    codes_b: Tensor,
    target_a: Tensor,
    target_b: Tensor,
    dimension: Tensor,
    weight: float,
) -> Tensor:
    """Mean over the batch of weight Σ_i (e_i² + e'_i²), a scalar in the dtype of the arithmetic.

    The errors e and e' are those of the two predictions (B, d), which are replaced by their mean on
    all dimensions but the one in ``dimension`` (B,).
    """
    e, f, _ = _residuals(codes_a, codes_b, target_a, target_b, dimension)
    return (e * e + f * f).sum() * (weight / max(e.shape[0], 1))


def perceptual_simplicity_loss_backward(
    grad: Tensor,
    codes_a: Tensor,
    codes_b: Tensor,
    target_a: Tensor,
    target_b: Tensor,
    dimension: Tensor,
    weight: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Adjoint of :func:`perceptual_simplicity_loss`: gradients of the codes and the targets."""
    e, f, shared = _residuals(codes_a, codes_b, target_a, target_b, dimension)
    scale = grad * (2 * weight / max(e.shape[0], 1))
    both = 0.5 * (e + f)
    return (
        (scale * torch.where(shared, both, e)).to(codes_a.dtype),
        (scale * torch.where(shared, both, f)).to(codes_b.dtype),
        (-scale * e).to(target_a.dtype),
        (-scale * f).to(target_b.dtype),
    )
