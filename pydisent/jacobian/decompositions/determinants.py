"""Determinants, with derivatives even at singular matrices."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import torch
from torch import Tensor

from pydisent.jacobian.decompositions._registry import decomposes

_EXPANDED = 8  # rows expanded by minors


@decomposes(torch.linalg.slogdet, torch.slogdet, Tensor.slogdet)
def slogdet(A: Tensor) -> Any:
    """Sign and log of the absolute value of the determinant of ``A`` (..., n, n)."""
    _check_square("slogdet", A)
    pivots, parity = _pivots(A)
    if A.is_complex():
        signs = pivots / pivots.abs().masked_fill(pivots == 0, 1.0)
    else:  # the sign of a real number has no derivative
        signs = pivots.detach().sgn()
    named: Any = torch.return_types
    return named.linalg_slogdet((parity * signs.prod(-1), pivots.abs().log().sum(-1)))


@decomposes(torch.logdet, Tensor.logdet)
def logdet(A: Tensor) -> Tensor:
    """Log of the determinant of ``A`` (..., n, n), NaN where that is negative."""
    _check_square("logdet", A)
    sign, log = slogdet(A)
    return sign.log() + log if A.is_complex() else log.masked_fill(sign < 0, torch.nan)


@decomposes(torch.linalg.det, torch.det, Tensor.det)
def det(A: Tensor) -> Tensor:
    """Determinant of ``A`` (..., n, n), with derivatives even where ``A`` is singular.

    For n > 8, `torch.linalg.inv` may raise where the rank is below n - 8.
    """
    _check_square("det", A)
    head_size = max(A.shape[-1] - _EXPANDED, 0)
    parity: Any = 1
    if head_size:
        order = _independent_first(A)
        parity, A = _factors(order)[2], A @ order
    rows, lower, row_parity = _factors(A)
    # ``lower`` is constant, so this is linear in A, and at A it is triangular: its determinant by
    # expansion is as accurate as the product of pivots, but divides by none of them.
    upper = torch.linalg.solve_triangular(lower, rows.mT @ A, upper=False, unitriangular=True)
    (head, right), (below, tail) = (
        half.tensor_split([head_size], -1) for half in upper.tensor_split([head_size], -2)
    )
    parity = parity * row_parity
    if head_size:
        pivots, head_parity = _pivots(head)
        parity = parity * head_parity * pivots.prod(-1)
        tail = tail - below @ torch.linalg.inv(head) @ right
    return parity * _expand_by_minors(tail)


def _check_square(name: str, A: Tensor) -> None:
    if A.dim() < 2 or A.shape[-1] != A.shape[-2]:
        raise ValueError(f"{name}: A must have shape (..., n, n), got {tuple(A.shape)}")


def _pivots(A: Tensor) -> tuple[Tensor, Tensor]:
    """Diagonal of U in A = PLU, and the sign of P."""
    packed, swaps, _ = torch.linalg.lu_factor_ex(A)
    return packed.diagonal(dim1=-2, dim2=-1), _parity(swaps).to(A.dtype)


def _factors(A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """P and L in A = PLU, held constant, and the sign of P."""
    packed, swaps, _ = torch.linalg.lu_factor_ex(A.detach())
    P, L, _ = torch.lu_unpack(packed, swaps)
    return P, L, _parity(swaps).to(A.dtype)


def _independent_first(A: Tensor) -> Tensor:
    """Permutation matrix that moves columns of ``A`` that depend on others to the end."""
    packed, swaps, _ = torch.linalg.lu_factor_ex(A.detach().mT)
    places = packed.diagonal(dim1=-2, dim2=-1).abs().argsort(-1, descending=True)
    return torch.lu_unpack(packed, swaps)[0].take_along_dim(places.unsqueeze(-2), -1)


def _parity(swaps: Tensor) -> Tensor:
    rows = torch.arange(1, swaps.shape[-1] + 1, device=swaps.device)
    return 1 - 2 * ((swaps != rows).sum(-1) % 2)


def _expand_by_minors(A: Tensor) -> Tensor:
    """Determinant of ``A`` (..., k, k) in k 2^(k - 1) products."""
    minors = A.new_ones(*A.shape[:-2], 1)
    for row, table in zip(A.unbind(-2), _minors(A.shape[-1])):
        columns, rest = torch.tensor(table, device=A.device).unbind(-1)
        signs = [(-1) ** i for i in reversed(range(columns.shape[1]))]
        terms = row[..., columns] * minors[..., rest]
        minors = (terms * torch.tensor(signs, dtype=A.dtype, device=A.device)).sum(-1)
    return minors.squeeze(-1)


@functools.cache
def _minors(k: int) -> list[list[list[tuple[int, int]]]]:
    """For each size and set of that many columns: its columns, and the index of the set without it.

    Sets of equal size are in lexicographic order.
    """
    tables: list[list[list[tuple[int, int]]]] = []
    smaller: dict[tuple[int, ...], int] = {(): 0}
    for size in range(1, k + 1):
        sets = list(itertools.combinations(range(k), size))
        tables.append(
            [[(column, smaller[s[:i] + s[i + 1 :]]) for i, column in enumerate(s)] for s in sets]
        )
        smaller = {s: i for i, s in enumerate(sets)}
    return tables
