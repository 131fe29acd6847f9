"""The leading eigenvectors of M = J'J from products with it, when M itself is too large."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
_FLOOR = 1e-6  # of the largest eigenvalue: below it, float32 does not resolve eigenvectors


@dataclass(frozen=True)
class Leading:
    """Eigenpairs of semidefinite matrices M (B, m, m), the largest first.

    Attributes
    ----------
    values, vectors : Tensor
        (B, r) and (B, m, r), float64; all of the subspace searched, or all m.
    residuals : Tensor
        ‖M v − λ v‖ / λ of each pair, (B, r).
    products : int
        The number of columns that M was multiplied with; 0 if M itself was given.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: int = 0

    def head(self, count: int) -> Leading:
        """The first ``count`` pairs."""
        return Leading(
            self.values[:, :count],
            self.vectors[..., :count],
            self.residuals[:, :count],
            self.products,
        )


def leading_of_matrix(matrix: Tensor) -> Leading:
    """All eigenpairs of matrices (B, m, m)."""
    matrix = matrix.double()
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return _ritz(eye.expand_as(matrix), matrix)


def leading_of_products(
    product: Product,
    start: Tensor,
    count: int,
    *,
    tolerance: float,
    most: int,
    go_on: Callable[[int], bool] = lambda columns: True,
) -> Leading:
    """The leading pairs by a block Krylov method: Rayleigh-Ritz on span(X, M X, ..., M^(s−1) X).

    Each product adds a block to an orthonormal basis Q, of which M Q is known; the eigenvectors of
    Q'M Q then give those of M, and their residuals, without a further product.

    Parameters
    ----------
    product
        M V of columns V (B, m, b).
    start
        X, (B, m, b).
    count
        Pairs that must converge.
    tolerance
        Stop when no residual of these is larger.
    most
        The largest number of columns in all, at least ``count``.
    go_on
        Whether to take another product, given the number of columns, once that is ``count``.
    """
    size, images = start.shape[1], []
    basis = start.new_zeros(*start.shape[:2], 0).double()
    columns = start.double()
    while True:
        columns = _orthonormal(columns[..., : min(most, size) - basis.shape[-1]], basis)
        moved = product(columns).double()
        basis = torch.cat([basis, columns], -1)
        images.append(moved)
        columns, done = moved, basis.shape[-1]
        if done < count:
            continue
        found = _ritz(basis, torch.cat(images, -1))
        converged = bool((found.residuals[:, :count] <= tolerance).all())
        if converged or done >= min(most, size) or not go_on(done):
            return Leading(found.values, found.vectors, found.residuals, done)


def rest_of_trace(squares: Callable[[Tensor], Tensor], basis: Tensor, probes: Tensor) -> Tensor:
    """Estimates of tr M − tr Q'M Q, one per probe, (B, g): ‖J (I − Q Q') g‖² (Hutch++).

    Parameters
    ----------
    squares
        ‖J v‖² (B, g) of columns (B, m, g).
    basis
        Q, (B, m, s), orthonormal.
    probes
        Random signs, (B, m, g).
    """
    probes = probes.to(basis)
    return squares(probes - basis @ (basis.mT @ probes))


def signed(vectors: Tensor) -> Tensor:
    """Columns with the sign that makes their entry of largest magnitude positive."""
    largest = vectors.gather(-2, vectors.abs().argmax(-2, keepdim=True))
    return vectors * torch.where(largest < 0, -1.0, 1.0).to(vectors)


def _orthonormal(columns: Tensor, basis: Tensor) -> Tensor:
    """Orthonormal columns orthogonal to the basis; dependent ones are replaced by any others."""
    for _ in range(3):  # after two passes the dependent columns are normalised rounding errors
        columns = columns - basis @ (basis.mT @ columns)
        columns = torch.linalg.qr(columns).Q
    return columns


def _ritz(basis: Tensor, images: Tensor) -> Leading:
    """Ritz pairs of M, from the eigenpairs of Q'M Q, and their residuals."""
    small = basis.mT @ images
    values, mixed = torch.linalg.eigh((small + small.mT) / 2)
    values, mixed = values.flip(-1), mixed.flip(-1)
    vectors = basis @ mixed
    errors = (images @ mixed - vectors * values.unsqueeze(-2)).norm(dim=-2)
    floor = values[:, :1].clamp_min(torch.finfo(torch.float32).tiny) * _FLOOR
    values = values.clamp_min(0)
    return Leading(values, signed(vectors), errors / torch.maximum(values, floor))
