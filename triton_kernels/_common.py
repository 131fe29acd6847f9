"""Helpers shared by several families' kernels."""

from __future__ import annotations

import ctypes

import torch
import triton
import triton.language as tl


@triton.jit
def exponential(x, DOUBLE: tl.constexpr):
    """Compute e^x, in float32 by argument reduction: the hardware's loses accuracy at large x."""
    if DOUBLE:
        result = tl.exp(x)
    else:
        x = tl.where(x > 90.0, 90.0, tl.where(x < -105.0, -105.0, x))
        n = tl.floor(x * 1.4426950408889634 + 0.5)
        r = (x - n * 0.693359375) + n * 2.12194440e-4
        half = tl.floor(n * 0.5)
        result = (tl.exp(r) * tl.exp2(half)) * tl.exp2(n - half)
    return result


@triton.jit
def scaled_exponential(w, x, DOUBLE: tl.constexpr):
    """Compute w e^x, even where e^x is out of range; 0 for w = 0, infinite for w = ±inf."""
    if DOUBLE:
        root = tl.exp(tl.where(x > 1418.0, 709.0, tl.where(x < -1416.0, -708.0, 0.5 * x)))
        result = (w * root) * root
    else:
        x = tl.where(x > 176.0, 176.0, tl.where(x < -174.0, -174.0, x))
        n = tl.floor(x * 1.4426950408889634 + 0.5)
        r = (x - n * 0.693359375) + n * 2.12194440e-4
        half = tl.floor(n * 0.5)
        result = (w * (tl.exp(r) * tl.exp2(half))) * tl.exp2(n - half)
    return result


@triton.jit
def product(x, y, total, DOUBLE: tl.constexpr):
    """Add a matrix product to total; float32 operands are split into TF32 terms."""
    if DOUBLE:
        result = tl.dot(x, y, total, out_dtype=tl.float64)
    else:
        result = tl.dot(x, y, total, input_precision="tf32x3")
    return result


def split_float(x: float) -> tuple[float, float]:
    """Split a number into two that a kernel adds, as Triton rounds scalar arguments to float32."""
    high = ctypes.c_float(x).value
    return high, x - high


# Triton's versions also serve kernels, which makes them slower than the arithmetic.
def blocks_of(size: int, block: int) -> int:
    """The number of blocks that cover a size."""
    return -(-size // block)


def power_of_2(n: int) -> int:
    """The least power of two that is at least n >= 1."""
    return 1 << (n - 1).bit_length()


def compute_dtype(x: torch.Tensor) -> torch.dtype:
    """Return float64 for float64, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
