"""What several families' kernels share."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def exponential(x, DOUBLE: tl.constexpr):
    """Compute e^x; in float32 by a reduced argument, as the hardware's loses digits of large x."""
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
    """Compute w e^x, which may be in range where e^x is not; 0 for w = 0, infinite for w = ±inf."""
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


def split_float(x: float) -> tuple[float, float]:
    """Split a number in two, which a kernel adds: Triton passes each rounded to float32."""
    high = float(torch.tensor(x, dtype=torch.float32))
    return high, x - high


def compute_dtype(x: torch.Tensor) -> torch.dtype:
    """Return float64 for float64, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
