"""Spatial constriction (Zhu et al. 2021): adaptive instance norm inside masks, and its adjoint."""

from __future__ import annotations

import torch
from torch import Tensor

from pydisent.reference.dtypes import compute_dtype, without_autocast


def _statistics(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return x (B, C, H, W) instance-normalised, and its statistics (B, 3, C).

    These are the mean, its rounding error, and 1 / sqrt(variance + eps): without the second a mean
    of 1e4 would leave an error of 5e-4 in the centred values.
    """
    guess = x.mean(dim=(2, 3))
    error = (x - guess[..., None, None]).mean(dim=(2, 3))
    mean = guess + error
    rest = error - (mean - guess)
    centred = x - mean[..., None, None] - rest[..., None, None]
    rstd = torch.rsqrt((centred * centred).mean(dim=(2, 3)) + eps)
    return centred * rstd[..., None, None], torch.stack([mean, rest, rstd], dim=1)


def spatial_constriction(
    x: Tensor, masks: Tensor, scales: Tensor, shifts: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Restyle a feature map by N codes in turn, each inside its mask (Eqs. 6-7).

    For n = 1..N: x ← x (1 − m_n) + (scale_n x̂ + shift_n) m_n, with x̂ the given x,
    instance-normalised with its biased variance.

    Returns
    -------
    out, statistics
        (B, C, H, W) in the dtype of ``x``; and (B, 3, C) in the dtype of the arithmetic: the mean,
        its rounding error, and 1 / sqrt(variance + eps).
    """
    dtype = compute_dtype(x)
    out = x.to(dtype)
    normalized, statistics = _statistics(out, eps)
    codes = (parameter.to(dtype).unbind(1) for parameter in (masks, scales, shifts))
    for mask, scale, shift in zip(*codes):
        inside = mask[:, None]
        styled = scale[..., None, None] * normalized + shift[..., None, None]
        out = out * (1 - inside) + styled * inside
    # With no codes out is x itself, and an op must not return an alias of its argument.
    return (out.to(x.dtype) if masks.shape[1] else x.clone()), statistics


def _weights(masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the factors that remain of x (B, P) and of each step's result, and the step weights.

    The last two are (B, N, P): Π_{k>n} (1 − m_k), and m_n times that. All are computed as products,
    as dividing by 1 − m_n would fail where a mask is one.
    """
    kept = torch.ones_like(masks[:, :0].sum(1))
    after = []
    for mask in reversed(masks.unbind(1)):
        after.append(kept)
        kept = kept * (1 - mask)
    later = torch.stack(after[::-1], dim=1) if after else masks
    return kept, later, masks * later


def spatial_constriction_backward(
    grad_out: Tensor,
    grad_statistics: Tensor,
    x: Tensor,
    masks: Tensor,
    scales: Tensor,
    shifts: Tensor,
    statistics: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Adjoint of :func:`spatial_constriction`, from its second output.

    With P_n = Π_{k>n} (1 − m_k), w_n = m_n P_n and A = P_0 the op is linear,
    out = A x + Σ_n w_n (scale_n x̂ + shift_n). So with g = grad_out, sums over pixels p or
    channels c, and the mean over pixels ⟨·⟩:
    grad_scales = Σ_p g x̂ w_n, grad_shifts = Σ_p g w_n,
    grad_x = g A + (u − ⟨u⟩ − x̂ ⟨u x̂⟩) / std for u = g Σ_n scale_n w_n, and
    grad_masks_n = P_n (d_n − z_{n−1}) with d_n = Σ_c g (scale_n x̂ + shift_n), z_0 = Σ_c g x and
    z_n = z_{n−1} (1 − m_n) + d_n m_n.

    Returns
    -------
    grad_x, grad_masks, grad_scales, grad_shifts
        In the shapes and dtypes of ``x``, ``masks``, ``scales`` and ``shifts``.
    """
    dtype, count = compute_dtype(x), x.shape[2] * x.shape[3]
    g, wide, mask = (t.to(dtype).flatten(2) for t in (grad_out, x, masks))
    scale, shift = scales.to(dtype), shifts.to(dtype)
    mean, rest, rstd = statistics.unbind(1)
    on_mean, _, on_rstd = grad_statistics.unbind(1)
    normalized = (wide - mean[..., None] - rest[..., None]) * rstd[..., None]
    along = g * normalized
    kept, later, weights = _weights(mask)
    scaled = rstd[:, None] * scale
    with without_autocast(x):
        grad_scales = torch.einsum("bcp,bnp->bnc", along, weights)
        grad_shifts = torch.einsum("bcp,bnp->bnc", g, weights)
        slope = kept[:, None] + torch.einsum("bnc,bnp->bcp", scaled, weights)
        towards = torch.einsum("bcp,bnc->bnp", along, scale)
        towards = towards + torch.einsum("bcp,bnc->bnp", g, shift)
    constant = (on_mean - (scaled * grad_shifts).sum(1)) / count
    linear = ((scaled * grad_scales).sum(1) + on_rstd * rstd * rstd) / count
    grad_x = g * slope + constant[..., None] - normalized * linear[..., None]
    state, grad_masks = (g * wide).sum(1), []
    for m, after, target in zip(mask.unbind(1), later.unbind(1), towards.unbind(1)):
        grad_masks.append(after * (target - state))
        state = state * (1 - m) + target * m
    stacked = torch.stack(grad_masks, dim=1) if grad_masks else torch.zeros_like(mask)
    return (
        grad_x.reshape(x.shape).to(x.dtype),
        stacked.reshape(masks.shape).to(masks.dtype),
        grad_scales.to(scales.dtype),
        grad_shifts.to(shifts.dtype),
    )
