"""A toy op, and its adjoint."""

from __future__ import annotations

from torch import Tensor

from pydisent.reference.dtypes import compute_dtype


def weighted_square(x: Tensor, weight: float) -> Tensor:
    """w x²."""
    wide = x.to(compute_dtype(x))
    return (weight * wide * wide).to(x.dtype)


def weighted_square_backward(grad: Tensor, x: Tensor, weight: float) -> Tensor:
    """Adjoint of :func:`weighted_square`."""
    dtype = compute_dtype(x)
    return (2 * weight * x.to(dtype) * grad.to(dtype)).to(x.dtype)
