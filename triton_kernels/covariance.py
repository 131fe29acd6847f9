"""Covariance penalties: tiles of a covariance, each summed over the batch by one program.

Products are sums of float32 products without TF32; float64 goes by rank-one updates. A program
computes the means that it needs, and reads the batch three times from the cache: one launch and,
if there are several tiles, the sum of their penalties.

Floor, with s bytes a number: mu and logvar once, 2 B d s bytes, and 2 B d² operations; of two
operands B (k + d) s and 2 B k d, of the third moment 2 B d s and 6 B d. The adjoints move twice the
bytes; 2 B d², 4 B k d and 5 B d operations.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._columns import centred, column_means, entries, strides_of, tile_size, total_of
from ._common import compute_dtype, exponential, scaled_exponential, split_float
from ._third_moment import third_moment_adjoint_kernel, third_moment_kernel

# Rows that a program takes at a time.
_ROWS = 32


@triton.jit
def _variances(
    x, columns, row_stride, column_stride, batch, count, DOUBLE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Batch means of exp(x)."""
    T: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    total = tl.zeros((COLUMNS,), T)
    for start in range(0, batch, ROWS):
        rows = start + tl.arange(0, ROWS)
        x_block = entries(x, rows, columns, row_stride, column_stride, batch, count, DOUBLE)
        total += tl.sum(
            tl.where((rows < batch)[:, None], exponential(x_block, DOUBLE), 0.0), axis=0
        )
    return total / tl.maximum(batch, 1).to(T)


@triton.jit
def covariance_kernel(
    left, right, logvar, left_means, right_means, covariance, sums,
    left_row, left_column, right_row, right_column, logvar_row, logvar_column, batch, k, d,
    off_high, off_low, on_high, on_low,
    SYMMETRIC: tl.constexpr, HAS_LOGVAR: tl.constexpr, DOUBLE: tl.constexpr,
    ROWS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """One tile of the covariance (k, d), and its part of the penalty."""
    T: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    i = tl.program_id(0) * TILE + tl.arange(0, TILE)
    j = tl.program_id(1) * TILE + tl.arange(0, TILE)
    mean_i, rest_i = column_means(left, i, left_row, left_column, batch, k, DOUBLE, ROWS, TILE)
    mean_j, rest_j = column_means(right, j, right_row, right_column, batch, d, DOUBLE, ROWS, TILE)
    if tl.program_id(0) == 0:
        tl.store(right_means + j, mean_j, mask=j < d)
        tl.store(right_means + d + j, rest_j, mask=j < d)
    if not SYMMETRIC and tl.program_id(1) == 0:
        tl.store(left_means + i, mean_i, mask=i < k)
        tl.store(left_means + k + i, rest_i, mask=i < k)
    total = tl.zeros((TILE, TILE), T)
    if DOUBLE:
        for b in range(0, batch):
            row = b + tl.arange(0, 1)
            x = centred(left, row, i, left_row, left_column, batch, k, mean_i, rest_i, DOUBLE)
            y = centred(right, row, j, right_row, right_column, batch, d, mean_j, rest_j, DOUBLE)
            total += tl.trans(x) * y
    else:
        for start in range(0, batch, ROWS):
            row = start + tl.arange(0, ROWS)
            x = centred(left, row, i, left_row, left_column, batch, k, mean_i, rest_i, DOUBLE)
            y = centred(right, row, j, right_row, right_column, batch, d, mean_j, rest_j, DOUBLE)
            total = tl.dot(tl.trans(x), y, total, input_precision="ieee")
    total = total / tl.maximum(batch, 1).to(T)
    inside = (i < k)[:, None] & (j < d)[None, :]
    off = tl.full((), 0.0, T) + off_high + off_low
    part = off * (total * total)
    if SYMMETRIC:
        diagonal = i[:, None] == j[None, :]
        if HAS_LOGVAR and tl.program_id(0) == tl.program_id(1):
            v = _variances(logvar, j, logvar_row, logvar_column, batch, d, DOUBLE, ROWS, TILE)
            total = tl.where(diagonal, total + v[None, :], total)
        on = tl.full((), 0.0, T) + on_high + on_low
        part = tl.where(diagonal, on * ((total - 1) * (total - 1)), part)
    offsets = i.to(tl.int64)[:, None] * d + j[None, :]
    tl.store(covariance + offsets, total, mask=inside)
    part = tl.where(inside, part, 0.0)
    place = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    tl.store(sums + place, tl.sum(tl.sum(part, axis=1), axis=0))


@triton.jit
def _weights(
    covariance, i, j, row_stride, column_stride, m, n, off, on, scale,
    SYMMETRIC: tl.constexpr, DOUBLE: tl.constexpr,
):  # fmt: skip
    """Tile (i, j) of the weights (m, n), zeros outside; see the CPU kernel."""
    w = entries(covariance, i, j, row_stride, column_stride, m, n, DOUBLE)
    if SYMMETRIC:
        w = tl.where(i[:, None] == j[None, :], on * (w - 1), off * w)
    inside = (i < m)[:, None] & (j < n)[None, :]
    return tl.where(inside, w * scale, 0.0)


@triton.jit
def covariance_adjoint_kernel(
    grad, x, logvar, means, covariance, out, grad_logvar,
    x_row, x_column, logvar_row, logvar_column, covariance_row, covariance_column, batch, m, n,
    off_high, off_low, on_high, on_low,
    FACTOR: tl.constexpr, SYMMETRIC: tl.constexpr, HAS_LOGVAR: tl.constexpr,
    DOUBLE: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """One tile of centred x (B, m) times weights (m, n), made of the covariance."""
    T: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    b = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    j = tl.program_id(1) * TILE + tl.arange(0, TILE)
    off = tl.full((), 0.0, T) + off_high + off_low
    on = tl.full((), 0.0, T) + on_high + on_low
    scale = FACTOR * tl.load(grad) / tl.maximum(batch, 1).to(T)
    total = tl.zeros((ROWS, TILE), T)
    STEP: tl.constexpr = 1 if DOUBLE else 16
    for start in range(0, m, STEP):
        i = start + tl.arange(0, STEP)
        mean = tl.load(means + i, mask=i < m, other=0.0)
        rest = tl.load(means + m + i, mask=i < m, other=0.0)
        c = centred(x, b, i, x_row, x_column, batch, m, mean, rest, DOUBLE)
        w = _weights(
            covariance, i, j, covariance_row, covariance_column, m, n, off, on, scale,
            SYMMETRIC, DOUBLE,
        )  # fmt: skip
        if DOUBLE:
            total += c * w
        else:
            total = tl.dot(c, w, total, input_precision="ieee")
    inside = (b < batch)[:, None] & (j < n)[None, :]
    offsets = b.to(tl.int64)[:, None] * n + j[None, :]
    tl.store(out + offsets, total, mask=inside)
    if HAS_LOGVAR:
        diagonal = j.to(tl.int64) * (covariance_row + covariance_column)
        variance = tl.load(covariance + diagonal, mask=j < n, other=1.0)
        v = entries(logvar, b, j, logvar_row, logvar_column, batch, n, DOUBLE)
        weights = on * (variance - 1) * (scale / 2)
        on_logvar = scaled_exponential(weights[None, :], v, DOUBLE)
        tl.store(grad_logvar + offsets, on_logvar, mask=inside)


def _run_covariance(
    left: Tensor, right: Tensor, logvar: Tensor | None, left_means: Tensor, right_means: Tensor,
    symmetric: bool, lambda_od: float, lambda_d: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    (batch, k), d, double = left.shape, right.shape[1], left.dtype == torch.float64
    tile = tile_size(max(k, d), double)
    grid = triton.cdiv(k, tile), triton.cdiv(d, tile)
    sums = left.new_empty(grid[0] * grid[1], dtype=compute_dtype(left))
    covariance = left.new_empty((k, d), dtype=compute_dtype(left))
    covariance_kernel[grid](
        left, right, left if logvar is None else logvar, left_means, right_means, covariance, sums,
        *strides_of(left), *strides_of(right), *strides_of(logvar), batch, k, d,
        *split_float(lambda_od), *split_float(lambda_d),
        SYMMETRIC=symmetric, HAS_LOGVAR=logvar is not None, DOUBLE=double, ROWS=_ROWS, TILE=tile,
    )  # fmt: skip
    return total_of(sums), covariance


def _run_adjoint(
    grad: Tensor, x: Tensor, logvar: Tensor | None, means: Tensor, covariance: Tensor,
    factor: int, symmetric: bool, lambda_od: float, lambda_d: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    (batch, m), n, double = x.shape, covariance.shape[1], x.dtype == torch.float64
    out = x.new_empty(batch, n)
    grad_logvar = x.new_empty(0) if logvar is None else x.new_empty(batch, n)
    if batch == 0:
        return out, grad_logvar
    tile = tile_size(max(m, n), double)
    covariance_adjoint_kernel[triton.cdiv(batch, _ROWS), triton.cdiv(n, tile)](
        grad, x, x if logvar is None else logvar, means.contiguous(), covariance, out, grad_logvar,
        *strides_of(x), *strides_of(logvar), *strides_of(covariance), batch, m, n,
        *split_float(lambda_od), *split_float(lambda_d),
        FACTOR=factor, SYMMETRIC=symmetric, HAS_LOGVAR=logvar is not None, DOUBLE=double,
        ROWS=_ROWS, TILE=tile,
    )  # fmt: skip
    return out, grad_logvar


def covariance_penalty(
    mu: Tensor, logvar: Tensor | None, lambda_od: float, lambda_d: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch the op of that name."""
    means = mu.new_empty((2, mu.shape[1]), dtype=compute_dtype(mu))
    penalty, covariance = _run_covariance(mu, mu, logvar, means, means, True, lambda_od, lambda_d)
    return penalty, means, covariance


def covariance_penalty_backward(
    grad: Tensor,
    mu: Tensor,
    logvar: Tensor | None,
    means: Tensor,
    covariance: Tensor,
    lambda_od: float,
    lambda_d: float,
) -> tuple[Tensor, Tensor]:
    """Launch the op of that name."""
    return _run_adjoint(grad, mu, logvar, means, covariance, 4, True, lambda_od, lambda_d)


def cross_covariance_penalty(y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Launch the op of that name."""
    y_means = y.new_empty((2, y.shape[1]), dtype=compute_dtype(y))
    z_means = z.new_empty((2, z.shape[1]), dtype=compute_dtype(z))
    penalty, covariance = _run_covariance(y, z, None, y_means, z_means, False, 1.0, 0.0)
    return penalty, y_means, z_means, covariance


def cross_covariance_penalty_backward(
    grad: Tensor, y: Tensor, z: Tensor, y_means: Tensor, z_means: Tensor, covariance: Tensor
) -> tuple[Tensor, Tensor]:
    """Launch the op of that name."""
    grad_y, _ = _run_adjoint(grad, z, None, z_means, covariance.T, 2, False, 1.0, 0.0)
    grad_z, _ = _run_adjoint(grad, y, None, y_means, covariance, 2, False, 1.0, 0.0)
    return grad_y, grad_z


def third_central_moment_penalty(z: Tensor, logvar: Tensor | None) -> tuple[Tensor, Tensor]:
    """Launch the op of that name."""
    batch, d = z.shape
    tile = tile_size(d, False)
    moments = z.new_empty((4, d), dtype=compute_dtype(z))
    sums = z.new_empty(triton.cdiv(d, tile), dtype=compute_dtype(z))
    third_moment_kernel[(sums.numel(),)](
        z, z if logvar is None else logvar, moments, sums, *strides_of(z), *strides_of(logvar),
        batch, d, HAS_LOGVAR=logvar is not None, DOUBLE=z.dtype == torch.float64,
        ROWS=_ROWS, TILE=tile,
    )  # fmt: skip
    return total_of(sums), moments


def third_central_moment_penalty_backward(
    grad: Tensor, z: Tensor, logvar: Tensor | None, moments: Tensor
) -> tuple[Tensor, Tensor]:
    """Launch the op of that name."""
    batch, d = z.shape
    grad_z = z.new_empty(batch, d)
    grad_logvar = z.new_empty(0) if logvar is None else z.new_empty(batch, d)
    if batch > 0:
        tile = tile_size(d, False)
        third_moment_adjoint_kernel[triton.cdiv(batch, _ROWS), triton.cdiv(d, tile)](
            grad, z, z if logvar is None else logvar, moments.contiguous(), grad_z, grad_logvar,
            *strides_of(z), *strides_of(logvar), batch, d,
            HAS_LOGVAR=logvar is not None, DOUBLE=z.dtype == torch.float64, ROWS=_ROWS, TILE=tile,
        )  # fmt: skip
    return grad_z, grad_logvar


def _compilations() -> list[tuple[object, dict[str, str], dict[str, int]]]:
    """List typical configurations of every kernel, float32, bfloat16 and float64."""
    integers = "left_row left_column right_row right_column logvar_row logvar_column batch k d m n"
    integers += " x_row x_column z_row z_column covariance_row covariance_column"
    found = []
    for kernel, options in (
        (covariance_kernel, {"SYMMETRIC": 1, "HAS_LOGVAR": 1}),
        (covariance_kernel, {"SYMMETRIC": 0, "HAS_LOGVAR": 0}),
        (covariance_adjoint_kernel, {"FACTOR": 4, "SYMMETRIC": 1, "HAS_LOGVAR": 1}),
        (covariance_adjoint_kernel, {"FACTOR": 2, "SYMMETRIC": 0, "HAS_LOGVAR": 0}),
        (third_moment_kernel, {"HAS_LOGVAR": 1}),
        (third_moment_adjoint_kernel, {"HAS_LOGVAR": 1}),
    ):
        for narrow, wide in (("*fp32", "*fp32"), ("*bf16", "*fp32"), ("*fp64", "*fp64")):
            double = narrow == "*fp64"
            constants = {**options, "DOUBLE": int(double), "ROWS": _ROWS}
            constants["TILE"] = tile_size(32, double)
            signature = {}
            for name in kernel.arg_names:
                if name in constants:
                    signature[name] = "constexpr"
                elif name in integers.split():
                    signature[name] = "i32"
                elif name.endswith(("_high", "_low")):
                    signature[name] = "fp32"
                elif name in ("left", "right", "logvar", "x", "z", "out", "grad_z", "grad_logvar"):
                    signature[name] = narrow
                else:
                    signature[name] = wide
            found.append((kernel, signature, constants))
    return found


#: What tests compile for every GPU: kernel, types of its arguments, values of its constants.
COMPILE = _compilations()
