"""Leading eigenvectors of small matrices without an eigensolver, which would block the GPU."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from pydisent.jacobian._modes import can_keep_tensors

STEPS = 6
_EPS, _TINY = torch.finfo(torch.float64).eps, torch.finfo(torch.float64).tiny


def leading_subspace(matrix: Tensor, rank: int) -> Tensor:
    """Approximate leading eigenvectors (B, m, rank) of semidefinite matrices (B, m, m).

    Block power steps from a fixed start, in double precision: the columns are orthonormal, mixed by
    a rotation, and have no component that the matrices annihilate.
    """
    batch, size = matrix.shape[:2]
    if rank >= size:  # any basis will do; the axes are free of rounding
        return torch.eye(size, dtype=torch.float64, device=matrix.device).expand_as(matrix)
    matrix = matrix.double()
    trace = matrix.diagonal(dim1=1, dim2=2).sum(-1).clamp_min(_TINY)
    matrix = matrix / trace[:, None, None]
    start = (_cached_start if can_keep_tensors() else _start)(size, rank, matrix.device)
    basis = start.expand(batch, size, rank)
    shift = shift_of(basis)
    for _ in range(STEPS):
        basis = orthonormalized(torch.bmm(matrix, basis), shift)
    return basis


def shift_of(columns: Tensor) -> Tensor:
    """A multiple of the identity (r, r) above the rounding of products of columns (B, m, r)."""
    _, size, count = columns.shape
    return torch.eye(count, dtype=torch.float64, device=columns.device) * (4 * size * _EPS)


def orthonormalized(columns: Tensor, shift: Tensor) -> Tensor:
    """An orthonormal basis of the span of columns (B, m, r) whose squares sum to at most 1.

    Cholesky-QR twice, shifted by the rounding of the products so that it never breaks down (Fukaya
    et al. 2020). ``torch.linalg.qr`` calls cuSOLVER for each matrix of a batch in turn.
    """
    for bound in (1, len(shift)):  # on the sum of squares: in the second pass norms are near 1
        gram = torch.baddbmm(shift, columns.mT, columns, beta=bound)
        factor, _ = torch.linalg.cholesky_ex(gram)
        columns = torch.linalg.solve_triangular(factor.mT, columns, upper=True, left=False)
    return columns


def _start(size: int, rank: int, device: torch.device) -> Tensor:
    """Fixed numbers (m, rank) without a pattern that eigenvectors may share: a chirp."""
    places = torch.arange(size * rank, dtype=torch.float64, device=device).reshape(size, rank)
    return torch.cos((places.square() * ((math.sqrt(5) - 1) / 2)).frac() * (2 * math.pi))


_cached_start = functools.lru_cache(16)(_start)
