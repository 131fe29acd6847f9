"""Linear systems (also given Cholesky factors), eigenvalues and Householder products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pydisent.jacobian.decompositions._registry import decomposes


@decomposes(torch.linalg.solve)
def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """Solution of A X = B (or of X A = B), by way of the inverse, whose derivatives are right."""
    inverse = torch.linalg.inv(A)
    if B.dim() == 1 or (B.dim() == A.dim() - 1 and B.shape == A.shape[:-1]):
        row_or_column = inverse if left else inverse.mT
        return (row_or_column @ B.unsqueeze(-1)).squeeze(-1)
    return inverse @ B if left else B @ inverse


@decomposes(torch.linalg.eigvalsh)
def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """Eigenvalues of symmetric matrices, by `torch.linalg.eigh`.

    The native function's second derivatives along asymmetric directions differ between modes.
    """
    eigenvalues: Tensor = torch.linalg.eigh(A, UPLO)[0]
    return eigenvalues


@decomposes(torch.linalg.solve_ex)
def solve_ex(
    A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False
) -> tuple[Tensor, Tensor]:
    """As :func:`solve`, with LAPACK's status code for each matrix."""
    with torch.no_grad():
        info = torch.linalg.solve_ex(A, B, left=left, check_errors=check_errors)[1]
    named: Any = torch.return_types
    return named.linalg_solve_ex((solve(A, B, left=left), info))


@decomposes(torch.ops.aten._linalg_solve_ex)
def _solve_with_factors(
    A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False
) -> tuple[Tensor, ...]:
    with torch.no_grad():
        native = torch.ops.aten._linalg_solve_ex
        _, *factors = native(A, B, left=left, check_errors=check_errors)
    return solve(A, B, left=left), *factors


@decomposes(torch.linalg.tensorsolve)
def tensorsolve(A: Tensor, B: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    """Solution X of tensordot(A, X, X.dim()) = B."""
    if dims is not None:
        A = A.movedim(tuple(dims), tuple(range(A.dim() - len(dims), A.dim())))
    shape = A.shape[B.dim() :]
    square = A.reshape(B.numel(), shape.numel())
    return solve(square, B.reshape(-1)).reshape(shape)


@decomposes(torch.cholesky_solve, Tensor.cholesky_solve)
def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """Solution of L L' X = B, or of L' L X = B for an ``upper`` factor."""
    first, second = (L.mH, L) if upper else (L, L.mH)
    half = torch.linalg.solve_triangular(first, B, upper=False)
    return torch.linalg.solve_triangular(second, half, upper=True)


@decomposes(torch.cholesky_inverse, Tensor.cholesky_inverse)
def cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    """Inverse of L L', or of L' L for an ``upper`` factor."""
    return cholesky_solve(torch.eye(L.shape[-1], dtype=L.dtype, device=L.device), L, upper)


@decomposes(torch.linalg.householder_product, torch.orgqr, Tensor.orgqr)
def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first n columns of the product of the reflections I − τ v v' in ``A`` (..., m, n)."""
    rows, columns = A.shape[-2:]
    below = torch.ones(rows, columns, dtype=torch.bool, device=A.device).tril(-1)
    eye = torch.eye(rows, columns, dtype=A.dtype, device=A.device)
    vectors = A.masked_fill(~below, 0) + eye
    product = eye.expand(*A.shape)
    for i in reversed(range(tau.shape[-1])):
        v = vectors[..., i : i + 1]
        product = product - tau[..., i, None, None] * (v @ (v.mH @ product))
    return product
