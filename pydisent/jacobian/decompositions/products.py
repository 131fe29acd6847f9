"""Products along a dimension, with derivatives where factors are zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pydisent.jacobian._modes import is_capturing
from pydisent.jacobian.decompositions._registry import decomposes, widen


@decomposes(torch.cumprod, Tensor.cumprod)
def cumprod(input: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Running product along ``dim``, from products of pairs if a factor is zero."""
    x = input if dtype is None else input.to(dtype)
    if not _has_zeros(x):
        return torch.cumprod(input, dim, dtype=dtype)
    products, reach = widen(x).movedim(dim, -1), 1
    while reach < products.shape[-1]:  # each is the product of the last ``reach`` factors
        later = products[..., reach:] * products[..., :-reach]
        products = torch.cat([products[..., :reach], later], -1)
        reach *= 2
    return products.movedim(-1, dim).to(x.dtype)


@decomposes(torch.prod, Tensor.prod)
def prod(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """Product of all numbers, or along ``dim``, from products of pairs if a factor is zero."""
    x = input if dtype is None else input.to(dtype)
    if not _has_zeros(x):
        if dim is None:
            return torch.prod(input, dtype=dtype)
        return torch.prod(input, dim, keepdim, dtype=dtype)
    factors = widen(x.flatten() if dim is None else x.movedim(dim, -1))
    while (count := factors.shape[-1]) > 1:
        pairs = factors[..., : count // 2] * factors[..., count // 2 : count // 2 * 2]
        factors = torch.cat([pairs, factors[..., count // 2 * 2 :]], -1)
    product = factors.squeeze(-1).to(x.dtype)
    return product.unsqueeze(dim) if keepdim and dim is not None else product


def _has_zeros(x: Tensor) -> bool:
    """Whether there are zeros; False during CUDA graph capture, when they cannot be read."""
    plain = x.dim() == 0 or not (x.is_floating_point() or x.is_complex()) or is_capturing()
    return not plain and bool((x.detach() == 0).any())
