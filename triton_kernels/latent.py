"""Elementwise kernels over contiguous operands; others are copied first.

Programs of the simplicity loss own rows and columns, as dividing indices by d would cost more.

Floor, for n elements with s bytes per number: divergences (2 s + 4) n bytes and 5 n
operations, with samples (4 s + 4) n and 9 n, their adjoints (4 s + 4) n and 4 n, (7 s + 4) n and 10
n; the simplicity loss 4 s n and 7 n, its adjoint 8 s n and 10 n. All are memory-bound.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._common import (
    blocks_of,
    compute_dtype,
    exponential,
    power_of_2,
    scaled_exponential,
    split_float,
)

_BLOCK = 1024


@triton.jit
def _wide(x, DOUBLE: tl.constexpr):
    return x.to(tl.float64 if DOUBLE else tl.float32)


@triton.jit
def _half_excess(x, DOUBLE: tl.constexpr):
    """(e^x - 1 - x) / 2, by a power series where |x| < 1, to avoid cancellation."""
    # Halved before e^x can overflow.
    large = (scaled_exponential(x * 0.0 + 0.5, x, DOUBLE) - 0.5) - 0.5 * x
    return tl.where(tl.abs(x) < 1.0, 0.5 * _small_excess(x, DOUBLE), large)


@triton.jit
def _small_excess(x, DOUBLE: tl.constexpr):
    TERMS: tl.constexpr = 20 if DOUBLE else 12
    series = x * 0.0 + 1.0
    for k in tl.static_range(TERMS, 2, -1):
        series = 1.0 + x * series / k
    return 0.5 * x * x * series


@triton.jit
def _scaled_exp_minus_one(w, x, DOUBLE: tl.constexpr):
    # e^x - 1 is e^x (1 - e^-x) where e^x may overflow.
    rest = 1.0 - exponential(-tl.abs(x), DOUBLE)
    large = tl.where(x < 0.0, -rest, rest)
    factor = tl.where(tl.abs(x) < 1.0, _small_excess(x, DOUBLE) + x, large)
    return scaled_exponential(w * factor, tl.where(x < 1.0, 0.0, x), DOUBLE)


@triton.jit
def _scaled_exp_and_square(v, w, x, DOUBLE: tl.constexpr):
    """V e^x + w (e^2x - 1).

    For x > 0 it is e^x (v + 2 w sinh x), so that at most one infinity arises, from the larger term;
    for x <= 0 it is a sum of two numbers in range.
    """
    grows = x > 0.0
    near = tl.abs(x) < 1.0
    fall = exponential(-tl.abs(x), DOUBLE)
    series = _small_excess(x, DOUBLE) + x
    # w (1 - e^-x); times e^x and once more it sums to 2 w sinh x.
    rest = w * tl.where(near, series / (series + 1.0), 1.0 - fall)
    twice_sinh = scaled_exponential(rest, tl.where(grows, x, 0.0), DOUBLE) + rest
    change = tl.where(near, series, fall - 1.0)
    square = w * (change * (change + 2.0))
    scaled = scaled_exponential(tl.where(grows, v + twice_sinh, v), x, DOUBLE)
    return scaled + tl.where(grows, 0.0, square)


@triton.jit
def gaussian_kernel(
    mu, logvar, noise, z, kl, count,
    SAMPLE: tl.constexpr, DOUBLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute KL divergences and samples of some elements."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    m = _wide(tl.load(mu + at, mask=inside, other=0.0), DOUBLE)
    s = _wide(tl.load(logvar + at, mask=inside, other=0.0), DOUBLE)
    if SAMPLE:
        e = _wide(tl.load(noise + at, mask=inside, other=0.0), DOUBLE)
        tl.store(z + at, m + scaled_exponential(e, 0.5 * s, DOUBLE), mask=inside)
    tl.store(kl + at, (0.5 * m) * m + _half_excess(s, DOUBLE), mask=inside)


@triton.jit
def gaussian_adjoint_kernel(
    grad_z, grad_kl, mu, logvar, noise, grad_mu, grad_logvar, grad_noise, count,
    SAMPLE: tl.constexpr, DOUBLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of some elements."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    m = _wide(tl.load(mu + at, mask=inside, other=0.0), DOUBLE)
    s = _wide(tl.load(logvar + at, mask=inside, other=0.0), DOUBLE)
    g = tl.load(grad_kl + at, mask=inside, other=0.0)
    to_mu = g * m
    if SAMPLE:
        e = _wide(tl.load(noise + at, mask=inside, other=0.0), DOUBLE)
        h = _wide(tl.load(grad_z + at, mask=inside, other=0.0), DOUBLE)
        to_mu += h
        to_logvar = _scaled_exp_and_square(0.5 * h * e, 0.5 * g, 0.5 * s, DOUBLE)
        tl.store(grad_noise + at, scaled_exponential(h, 0.5 * s, DOUBLE), mask=inside)
    else:
        to_logvar = _scaled_exp_minus_one(0.5 * g, s, DOUBLE)
    tl.store(grad_mu + at, to_mu, mask=inside)
    tl.store(grad_logvar + at, to_logvar, mask=inside)


@triton.jit
def _places(columns, batch, d, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Rows, columns and offsets of a program's elements, and the mask of those inside."""
    row = (tl.program_id(0) // columns).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % columns * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < batch)[:, None] & (column < d)[None, :]
    return row, column, row[:, None] * d + column[None, :], inside


@triton.jit
def _errors(
    codes_a, codes_b, target_a, target_b, dimension, row, column, at, inside, batch,
    DOUBLE: tl.constexpr,
):  # fmt: skip
    """Errors of both predictions, of their mean on shared dimensions; and a mask of the latter."""
    a = _wide(tl.load(codes_a + at, mask=inside, other=0.0), DOUBLE)
    b = _wide(tl.load(codes_b + at, mask=inside, other=0.0), DOUBLE)
    wanted_a = _wide(tl.load(target_a + at, mask=inside, other=0.0), DOUBLE)
    wanted_b = _wide(tl.load(target_b + at, mask=inside, other=0.0), DOUBLE)
    own = tl.load(dimension + row, mask=row < batch, other=0)
    shared = column.to(tl.int64)[None, :] != own[:, None]
    mean = 0.5 * (a + b)
    return tl.where(shared, mean, a) - wanted_a, tl.where(shared, mean, b) - wanted_b, shared


@triton.jit
def simplicity_kernel(
    codes_a, codes_b, target_a, target_b, dimension, sums, columns, batch, d,
    weight_high, weight_low, DOUBLE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Compute the part of the loss from some elements."""
    T: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    row, column, at, inside = _places(columns, batch, d, ROWS, COLUMNS)
    e, f, _ = _errors(
        codes_a, codes_b, target_a, target_b, dimension, row, column, at, inside, batch, DOUBLE
    )
    weight = (tl.full((), 0.0, T) + weight_high + weight_low) / tl.maximum(batch, 1).to(T)
    total = tl.sum(tl.ravel(e * e + f * f), axis=0)
    tl.store(sums + tl.program_id(0), total * weight)


@triton.jit
def simplicity_adjoint_kernel(
    grad, codes_a, codes_b, target_a, target_b, dimension,
    grad_codes_a, grad_codes_b, grad_target_a, grad_target_b, columns, batch, d,
    weight_high, weight_low, DOUBLE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of some elements."""
    T: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    row, column, at, inside = _places(columns, batch, d, ROWS, COLUMNS)
    e, f, shared = _errors(
        codes_a, codes_b, target_a, target_b, dimension, row, column, at, inside, batch, DOUBLE
    )
    weight = (tl.full((), 0.0, T) + weight_high + weight_low) / tl.maximum(batch, 1).to(T)
    scale = tl.load(grad) * (2 * weight)
    both = 0.5 * (e + f)
    tl.store(grad_codes_a + at, scale * tl.where(shared, both, e), mask=inside)
    tl.store(grad_codes_b + at, scale * tl.where(shared, both, f), mask=inside)
    tl.store(grad_target_a + at, -scale * e, mask=inside)
    tl.store(grad_target_b + at, -scale * f, mask=inside)


@lru_cache(1024)
def _tile(batch: int, d: int) -> tuple[int, int, dict[str, int]]:
    """Number of programs, in all and per row, and the shape of a program's elements."""
    wide = min(_BLOCK, power_of_2(d))
    high, columns = _BLOCK // wide, blocks_of(d, wide)
    return max(1, blocks_of(batch, high)) * columns, columns, {"ROWS": high, "COLUMNS": wide}


def _run_gaussian(mu: Tensor, logvar: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the samples (empty without noise) and the divergences."""
    m, s = mu.contiguous(), logvar.contiguous()
    kl, count = m.new_empty(m.shape, dtype=compute_dtype(m)), m.numel()
    z = m.new_empty(0 if noise is None else m.shape)
    if count > 0:
        gaussian_kernel[(blocks_of(count, _BLOCK),)](
            m, s, m if noise is None else noise.contiguous(), z, kl, count,
            SAMPLE=noise is not None, DOUBLE=m.dtype == torch.float64, BLOCK=_BLOCK,
        )  # fmt: skip
    return z, kl


def _run_adjoint(
    grad_z: Tensor | None, grad_kl: Tensor, mu: Tensor, logvar: Tensor, noise: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    m, s = mu.contiguous(), logvar.contiguous()
    sample = grad_z is not None and noise is not None
    grads = m.new_empty(m.shape), m.new_empty(m.shape), m.new_empty(m.shape if sample else 0)
    count = m.numel()
    if count > 0:
        gaussian_adjoint_kernel[(blocks_of(count, _BLOCK),)](
            m if grad_z is None else grad_z.contiguous(), grad_kl.contiguous(), m, s,
            m if noise is None else noise.contiguous(), *grads, count,
            SAMPLE=sample, DOUBLE=m.dtype == torch.float64, BLOCK=_BLOCK,
        )  # fmt: skip
    return grads


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """Launch the op of the same name."""
    return _run_gaussian(mu, logvar, None)[1]


def gaussian_kl_backward(grad_kl: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """Launch the op of the same name."""
    return _run_adjoint(None, grad_kl, mu, logvar, None)[:2]


def reparameterized_sample(mu: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Launch the op of the same name."""
    return _run_gaussian(mu, logvar, noise)


def reparameterized_sample_backward(
    grad_z: Tensor, grad_kl: Tensor, mu: Tensor, logvar: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch the op of the same name."""
    return _run_adjoint(grad_z, grad_kl, mu, logvar, noise)


def perceptual_simplicity_loss(
    codes_a: Tensor,
    codes_b: Tensor,
    target_a: Tensor,
    target_b: Tensor,
    dimension: Tensor,
    weight: float,
) -> Tensor:
    """Launch the op of the same name."""
    tensors = [x.contiguous() for x in (codes_a, codes_b, target_a, target_b, dimension)]
    batch, d = codes_a.shape
    programs, columns, tile = _tile(batch, d)
    sums = codes_a.new_empty(programs, dtype=compute_dtype(codes_a))
    simplicity_kernel[(programs,)](
        *tensors, sums, columns, batch, d, *split_float(weight),
        DOUBLE=codes_a.dtype == torch.float64, **tile,
    )  # fmt: skip
    return sums.sum() if programs > 1 else sums.reshape(())


def perceptual_simplicity_loss_backward(
    grad: Tensor,
    codes_a: Tensor,
    codes_b: Tensor,
    target_a: Tensor,
    target_b: Tensor,
    dimension: Tensor,
    weight: float,
) -> tuple[Tensor, ...]:
    """Launch the op of the same name."""
    tensors = [x.contiguous() for x in (codes_a, codes_b, target_a, target_b, dimension)]
    batch, d = codes_a.shape
    grads = tuple(codes_a.new_empty(batch, d) for _ in range(4))
    if batch > 0:
        programs, columns, tile = _tile(batch, d)
        simplicity_adjoint_kernel[(programs,)](
            grad, *tensors, *grads, columns, batch, d, *split_float(weight),
            DOUBLE=codes_a.dtype == torch.float64, **tile,
        )  # fmt: skip
    return grads


def _compilations() -> list[tuple[object, dict[str, str], dict[str, int]]]:
    """List typical configurations of every kernel: float32, bfloat16 and float64."""
    fixed = {"dimension": "*i64", "count": "i64", "batch": "i32", "d": "i32", "columns": "i32"}
    fixed |= {"weight_high": "fp32", "weight_low": "fp32"}
    found = []
    for kernel, options in (
        (gaussian_kernel, {"SAMPLE": 0}),
        (gaussian_kernel, {"SAMPLE": 1}),
        (gaussian_adjoint_kernel, {"SAMPLE": 0}),
        (gaussian_adjoint_kernel, {"SAMPLE": 1}),
        (simplicity_kernel, {"ROWS": 64, "COLUMNS": 16}),
        (simplicity_adjoint_kernel, {"ROWS": 64, "COLUMNS": 16}),
    ):
        for narrow, wide in (("*fp32", "*fp32"), ("*bf16", "*fp32"), ("*fp64", "*fp64")):
            constants = {**options, "DOUBLE": int(narrow == "*fp64"), "BLOCK": _BLOCK}
            constants = {name: x for name, x in constants.items() if name in kernel.arg_names}
            types = dict.fromkeys(("kl", "grad_kl", "sums", "grad"), wide) | fixed
            types |= dict.fromkeys(constants, "constexpr")
            signature = {name: types.get(name, narrow) for name in kernel.arg_names}
            found.append((kernel, signature, constants))
    return found


#: What tests compile for every GPU: kernel, types of its arguments, values of its constants.
COMPILE = _compilations()
