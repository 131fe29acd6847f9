"""Elementwise kernels of the toy op.

Floor, of n elements with s bytes a number: 2 s n bytes and 2 n operations, the adjoint 3 s n bytes.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._common import split_float

_BLOCK = 1024


@triton.jit
def square_kernel(
    grad, x, out, count, high, low,
    ADJOINT: tl.constexpr, DOUBLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """w x², or 2 w x g, of some elements."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside, T = at < count, tl.float64 if DOUBLE else tl.float32
    value = tl.load(x + at, mask=inside, other=0.0).to(T)
    weight = tl.full((), 0.0, T) + high + low
    if ADJOINT:
        weight = 2.0 * weight * tl.load(grad + at, mask=inside, other=0.0).to(T)
        tl.store(out + at, weight * value, mask=inside)
    else:
        tl.store(out + at, weight * value * value, mask=inside)


def _launch(grad: Tensor | None, x: Tensor, weight: float) -> Tensor:
    out, x = x.new_empty(x.shape), x.contiguous()
    if x.numel() > 0:
        square_kernel[(triton.cdiv(x.numel(), _BLOCK),)](
            x if grad is None else grad.contiguous(), x, out, x.numel(), *split_float(weight),
            ADJOINT=grad is not None, DOUBLE=x.dtype == torch.float64, BLOCK=_BLOCK,
        )  # fmt: skip
    return out


def weighted_square(x: Tensor, weight: float) -> Tensor:
    """Launch the op of that name."""
    return _launch(None, x, weight)


def weighted_square_backward(grad: Tensor, x: Tensor, weight: float) -> Tensor:
    """Launch the op of that name."""
    return _launch(grad, x, weight)


_TYPES = {"count": "i64", "high": "fp32", "low": "fp32"} | dict.fromkeys(
    ("ADJOINT", "DOUBLE", "BLOCK"), "constexpr"
)
#: What tests compile for every GPU: kernel, types of its arguments, values of its constants.
COMPILE = [
    (
        square_kernel,
        {name: _TYPES.get(name, "*fp32") for name in square_kernel.arg_names},
        {"ADJOINT": adjoint, "DOUBLE": 0, "BLOCK": _BLOCK},
    )
    for adjoint in (0, 1)
]
