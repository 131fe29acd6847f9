"""Dtypes of arithmetic, and products with e^x that avoid overflow."""

from __future__ import annotations

import functools
import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def compute_dtype(*tensors: Tensor | None) -> torch.dtype:
    """Return float64 if any of the tensors is float64, else float32."""
    double = any(x is not None and x.dtype == torch.float64 for x in tensors)
    return torch.float64 if double else torch.float32


def promote(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Convert to torch's promoted dtype, as autocast leaves some tensors in half precision."""
    first = tensors[0].dtype
    for x in tensors:
        if x.dtype != first:
            break
    else:
        return tensors  # promote_types is an op itself, which dispatch modes would see
    dtype = functools.reduce(torch.promote_types, (x.dtype for x in tensors))
    return tuple(x.to(dtype) for x in tensors)


def times_exp(w: Tensor, x: Tensor) -> Tensor:
    """Return w e^x, even where e^x alone would overflow.

    e^x counts as finite and positive for any x: the product is 0 where w is 0, infinite where w is.
    """
    root = _root_of_exp(x)
    return (w * root) * root


def times_expm1(w: Tensor, x: Tensor) -> Tensor:
    """Return w (e^x − 1), even where e^x alone would overflow."""
    large = x > 1
    root = _root_of_exp(torch.where(large, x, 1.0))
    small = w * torch.expm1(torch.where(large, 0.0, x))
    return torch.where(large, (w * (root - 1 / root)) * root, small)


def half_expm1(x: Tensor) -> Tensor:
    """Return (e^x − 1) / 2, even where e^x alone would overflow."""
    large = x > 1
    y = torch.where(large, x, 1.0)
    # Not bounded, as the derivative must overflow where the value does; and no shared root, as the
    # derivative through one would be e^x before halving.
    product = torch.exp(0.5 * y) * (0.5 * torch.exp(0.5 * y))
    small = 0.5 * torch.expm1(torch.where(large, 0.0, x))
    return torch.where(large, product - 0.5, small)


def times_exp_and_square(v: Tensor, w: Tensor, x: Tensor) -> Tensor:
    """Return v e^x + w (e^2x − 1).

    For x > 0 it is e^x (v + 2 w sinh x), so that at most one infinity arises, from the larger term;
    for x <= 0 it is a sum of two numbers in range.
    """
    grows = x > 0
    positive = torch.where(grows, x, 0.0)
    twice_sinh = times_expm1(w, positive) - w * torch.expm1(-positive)
    square = w * torch.expm1(2 * torch.where(grows, 0.0, x))
    return times_exp(torch.where(grows, v + twice_sinh, v), x) + torch.where(grows, 0.0, square)


def _root_of_exp(x: Tensor) -> Tensor:
    return torch.exp(_bounded(0.5 * x))


def _bounded(x: Tensor) -> Tensor:
    # Keeps e^x and e^-x normal numbers, however exp rounds.
    largest = -math.log(torch.finfo(x.dtype).tiny) - 0.1
    return x.clamp(-largest, largest)


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context without autocast on the device of x: products keep their factors' dtype."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if _autocasts(device) else nullcontext()


def _autocasts(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
