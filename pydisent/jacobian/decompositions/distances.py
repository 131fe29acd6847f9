"""Distances and similarities between vectors."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pydisent.jacobian.decompositions._registry import decomposes


@decomposes(torch.cdist, torch.ops.aten.cdist)
def cdist(
    x1: Tensor,
    x2: Tensor,
    p: float = 2.0,
    compute_mode: str = "use_mm_for_euclid_dist_if_necessary",
) -> Tensor:
    """Distances (..., P, R) between the rows of ``x1`` (..., P, M) and of ``x2`` (..., R, M)."""
    return _vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p)


@decomposes(torch.pdist)
def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """Distances (N (N - 1) / 2,) between the rows of ``input`` (N, M)."""
    rows, columns = torch.triu_indices(len(input), len(input), 1, device=input.device)
    return _vector_norm(input[rows] - input[columns], p)


@decomposes(F.cosine_similarity, torch.cosine_similarity)
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Cosine of the angle between ``x1`` and ``x2`` along ``dim``."""
    a, b = (t.movedim(dim, -1) for t in torch.broadcast_tensors(x1, x2))
    norms = [_vector_norm(t, 2.0).clamp_min(eps).unsqueeze(-1) for t in (a, b)]
    return (a / norms[0] * (b / norms[1])).sum(-1)


def _vector_norm(x: Tensor, p: float) -> Tensor:
    """p-norm over the last axis, with the native derivative of zero at a zero vector."""
    if math.isinf(p):
        return x.abs().amax(-1)
    if p == 0:
        return (x != 0).sum(-1).to(x.dtype)
    if p == 1:
        return x.abs().sum(-1)
    sums = (x * x if p == 2 else x.abs().pow(p)).sum(-1)
    zero = sums == 0
    return sums.masked_fill(zero, 1.0).pow(1.0 / p).masked_fill(zero, 0.0)
