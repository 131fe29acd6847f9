"""Tangents of activations, their adjoint, and the translated PReLU (Ramesh et al., App. C)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from pydisent.reference.dtypes import compute_dtype

#: Accepted values of ``kind``, named after the activations of ``torch.nn``.
Kind = Literal[
    "relu",
    "leaky_relu",
    "prelu",
    "translated_prelu",
    "tanh",
    "sigmoid",
    "silu",
    "softplus",
]
KINDS = get_args(Kind)
#: Kinds whose derivative is constant on each side of a kink.
PIECEWISE_LINEAR = KINDS[:4]


def _per_channel(parameter: Tensor, h: Tensor) -> Tensor:
    """Shape a parameter (C,) or (1,) to broadcast along dimension 1 of h (B, C, ...)."""
    return parameter.reshape(-1, *[1] * (h.dim() - 2)) if parameter.numel() > 1 else parameter


def is_positive(h: Tensor, kind: str, threshold: Tensor | None) -> Tensor:
    """Return where a piecewise linear activation has slope one; elsewhere its slope is the leak."""
    if kind == "translated_prelu":
        assert threshold is not None
        return h >= _per_channel(threshold.detach().to(h.dtype), h)
    # NaN counts as positive for ReLU alone, as it does in PyTorch's own derivatives.
    return ~(h <= 0) if kind == "relu" else h > 0


def derivative(
    h: Tensor,
    kind: str,
    leak: Tensor | None,
    threshold: Tensor | None,
    negative_slope: float,
    beta: float,
    softplus_threshold: float,
) -> Tensor:
    """First derivative of an activation at h, elementwise and differentiable."""
    if kind in PIECEWISE_LINEAR:
        positive = is_positive(h, kind, threshold)
        if leak is None:
            slope = negative_slope if kind == "leaky_relu" else 0.0
            return torch.where(positive, torch.ones_like(h), slope)
        return torch.where(positive, 1.0, _per_channel(leak.to(h.dtype), h))
    # Products of sigmoids: differences such as 1 - tanh² would lose precision in small results.
    if kind == "tanh":
        return 4 * torch.sigmoid(2 * h) * torch.sigmoid(-2 * h)
    if kind == "softplus":
        u = h * beta
        return torch.where(u > softplus_threshold, 1.0, torch.sigmoid(u))
    s, complement = torch.sigmoid(h), torch.sigmoid(-h)
    return s * complement if kind == "sigmoid" else s * (1 + h * complement)


def second_derivative(h: Tensor, kind: str, beta: float, softplus_threshold: float) -> Tensor:
    """Second derivative of an activation at h, elementwise and differentiable."""
    if kind in PIECEWISE_LINEAR:
        return torch.zeros_like(h)
    if kind == "tanh":
        return -8 * torch.tanh(h) * torch.sigmoid(2 * h) * torch.sigmoid(-2 * h)
    if kind == "softplus":
        u = h * beta
        second = beta * torch.sigmoid(u) * torch.sigmoid(-u)
        return torch.where(u > softplus_threshold, 0.0, second)
    s, complement = torch.sigmoid(h), torch.sigmoid(-h)
    odd = -torch.tanh(h / 2)  # 1 - 2 s
    return s * complement * odd if kind == "sigmoid" else s * complement * (2 + h * odd)


def activation_tangent(
    h: Tensor,
    tangents: Tensor,
    kind: str,
    leak: Tensor | None,
    threshold: Tensor | None,
    negative_slope: float,
    beta: float,
    softplus_threshold: float,
    turn: bool,
) -> Tensor:
    """Multiply K tangents (K, B, C, ...) by D(h), or by D(h)² with ``turn``."""
    dtype = compute_dtype(h, tangents)
    parameters = leak, threshold, negative_slope, beta, softplus_threshold
    d = derivative(h.to(dtype), kind, *parameters)
    return (tangents.to(dtype) * (d * d if turn else d)).to(tangents.dtype)


def activation_tangent_(h: Tensor, tangents: Tensor, *args: object) -> None:
    """In-place version of :func:`activation_tangent`, which overwrites ``tangents``."""
    tangents.copy_(activation_tangent(h, tangents, *args))  # type: ignore[arg-type]


def activation_tangent_backward(
    grad: Tensor,
    h: Tensor,
    tangents: Tensor,
    kind: str,
    leak: Tensor | None,
    threshold: Tensor | None,
    negative_slope: float,
    beta: float,
    softplus_threshold: float,
    turn: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Adjoint of :func:`activation_tangent`.

    With E = D or D²: grad_tangents = E∘grad; with S = Σ_k grad_k∘tangent_k, grad_h = S∘E'(h)
    (zero for the piecewise linear kinds) and grad_leak = Σ S∘∂E/∂leak over all but the channels.

    Returns
    -------
    grad_h, grad_tangents, grad_leak
        Shaped as ``h``, ``tangents`` and ``leak``; (0,) for the last if there is no leak.
    """
    dtype = compute_dtype(h, tangents)
    point, g = h.to(dtype), grad.to(dtype)
    parameters = leak, threshold, negative_slope, beta, softplus_threshold
    d = derivative(point, kind, *parameters)
    d2 = second_derivative(point, kind, beta, softplus_threshold)
    e = d * d if turn else d
    grad_tangents = (g * e).to(tangents.dtype)
    products = (g * tangents.to(dtype)).sum(dim=0)
    if kind in PIECEWISE_LINEAR:
        grad_h = torch.zeros_like(h)
    else:
        grad_h = (products * (2 * d * d2 if turn else d2)).to(h.dtype)
    if leak is None:
        return grad_h, grad_tangents, h.new_empty(0)
    outside = torch.where(is_positive(point, kind, threshold), 0.0, products)
    outside = 2 * d * outside if turn else outside
    others = [i for i in range(h.dim()) if i != 1]
    total = outside.sum(dim=others if leak.numel() > 1 else None).reshape(leak.shape)
    return grad_h, grad_tangents, total.to(leak.dtype)


def translated_prelu(x: Tensor, leak: Tensor, threshold: Tensor) -> Tensor:
    """Compute x where x >= c, else a (x − c) + c, with a leak a and threshold c per channel."""
    a, c = _per_channel(leak, x), _per_channel(threshold, x)
    return torch.where(x >= c, x, a * (x - c) + c)
