"""Linear systems, Cholesky factors, eigenvalues of symmetric matrices and Householder products."""

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


def mirrored(A: Tensor, *, upper: bool) -> Tensor:
    """The Hermitian matrices given by one triangle of ``A``, which is all that native kernels read.

    Their derivatives are those of a function of both triangles, and so wrong where these differ.
    """
    beside = A.triu(1) if upper else A.tril(-1)
    diagonal = A.diagonal(dim1=-2, dim2=-1)
    diagonal = diagonal.real.to(A.dtype) if A.is_complex() else diagonal
    return beside + beside.mH + torch.diag_embed(diagonal)


@decomposes(torch.linalg.eigh)
def eigh(A: Tensor, UPLO: str = "L") -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of the symmetric matrices of which one triangle is given."""
    return torch.linalg.eigh(mirrored(A, upper=UPLO in ("U", "u")), UPLO)


@decomposes(torch.linalg.eigvalsh)
def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """Eigenvalues as of :func:`eigh`, as higher derivatives of the native function are wrong."""
    return eigh(A, UPLO)[0]


@decomposes(torch.linalg.cholesky)
def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """Cholesky factors of the symmetric matrices of which one triangle is given."""
    factors: Tensor = torch.linalg.cholesky(mirrored(A, upper=upper), upper=upper)
    return factors


@decomposes(torch.cholesky, Tensor.cholesky)
def old_cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """As :func:`cholesky`, with the arguments of ``torch.cholesky``."""
    return cholesky(input, upper=upper)


@decomposes(torch.linalg.cholesky_ex)
def cholesky_ex(
    A: Tensor, *, upper: bool = False, check_errors: bool = False
) -> tuple[Tensor, Tensor]:
    """As :func:`cholesky`, with LAPACK's status code for each matrix."""
    read = mirrored(A, upper=upper)
    return torch.linalg.cholesky_ex(read, upper=upper, check_errors=check_errors)


@decomposes(torch.linalg.pinv)
def pinv(
    A: Tensor, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None
) -> Tensor:
    """Pseudo-inverses, if ``hermitian`` of the symmetric matrices whose lower triangle is given."""
    A = mirrored(A, upper=False) if hermitian else A
    if rcond is None and atol is None and rtol is None:
        rcond = torch.finfo(A.dtype).eps * max(A.shape[-2:])
    # Under a dispatch mode the native function returns conjugates of complex results.
    read = _as_real_blocks(A) if A.is_complex() else A
    if rcond is None:
        inverse: Tensor = torch.linalg.pinv(read, atol=atol, rtol=rtol, hermitian=hermitian)
    else:
        inverse = torch.linalg.pinv(read, rcond, hermitian)
    if not A.is_complex():
        return inverse
    real, imaginary = inverse[..., : A.shape[-2]].chunk(2, -2)
    return torch.complex(real, imaginary)


@decomposes(torch.pinverse, Tensor.pinverse)
def pinverse(input: Tensor, rcond: Any = 1e-15) -> Tensor:
    """As :func:`pinv`, with the arguments of ``torch.pinverse``."""
    return pinv(input, rcond)


def _as_real_blocks(A: Tensor) -> Tensor:
    """The real matrices [[Re, −Im], [Im, Re]], which multiply and invert as complex ones do."""
    rows = torch.cat([A.real, -A.imag], -1), torch.cat([A.imag, A.real], -1)
    return torch.cat(rows, -2)


OF_SYMMETRIC_MATRICES = frozenset((eigh, eigvalsh, cholesky, old_cholesky, cholesky_ex))
"""Decompositions of functions that read one triangle of their first argument."""


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
