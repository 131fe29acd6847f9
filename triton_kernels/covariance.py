"""Covariance penalties: tiles of a covariance, each summed over the batch by one program.

Products split float32 operands into TF32 terms for the matrix units, and sum in float32. A program
reads the batch once: it centres rows by the mean of earlier ones, and corrects for its changes by
rank-one updates (Chan et al. 1979). One launch and, for several tiles, the sum of their penalties;
third moments are computed for parts of the batch, which a second launch combines.

Floor, with s bytes per number: mu and logvar once, 2 B d s bytes, and 2 B d² operations; for
two operands B (k + d) s and 2 B k d, for the third moment 2 B d s and 6 B d. The adjoints move
twice the bytes, with 2 B d², 4 B k d and 5 B d operations.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._columns import centred, entries, first_mean, store_mean, strides_of, tile_size, total_of
from ._common import (
    blocks_of,
    compute_dtype,
    exponential,
    power_of_2,
    product,
    scaled_exponential,
    split_float,
)
from ._third_moment import (
    third_moment_adjoint_kernel,
    third_moment_kernel,
    third_moment_sums_kernel,
)

# Rows processed at a time, columns of a tile, and columns of a third-moment program.
_ROWS, _TILE, _COLUMNS = 32, 64, 32
# Programs that fill a GPU; maximum parts of a batch, and minimum rows of a part.
_PROGRAMS, _PARTS, _LEAST = 512, 32, 256
# Columns processed at a time by the launch that combines the parts.
_JOIN = {"TILE": 128, "num_warps": 16}


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
def _tile(place, tiles, SYMMETRIC: tl.constexpr):
    """Row and column of a tile, only on and above the diagonal if symmetric."""
    if SYMMETRIC:
        root = tl.sqrt((8 * place.to(tl.int64) + 1).to(tl.float64))
        column = ((root - 1) / 2).to(tl.int32)
        row = place - column * (column + 1) // 2
    else:
        row, column = place // tiles, place % tiles
    return row, column


@triton.jit
def covariance_kernel(
    left, right, logvar, left_means, right_means, covariance, sums,
    left_row, left_column, right_row, right_column, logvar_row, logvar_column, batch, k, d, tiles,
    off_high, off_low, on_high, on_low,
    SYMMETRIC: tl.constexpr, HAS_LOGVAR: tl.constexpr, DOUBLE: tl.constexpr,
    ROWS: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr,
):  # fmt: skip
    """Compute one tile of the covariance (k, d), and its part of the penalty."""
    T: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    row, column = _tile(tl.program_id(0), tiles, SYMMETRIC)
    i, j = row * LEFT + tl.arange(0, LEFT), column * RIGHT + tl.arange(0, RIGHT)
    pivot_i = first_mean(left, 0, i, left_row, left_column, batch, k, DOUBLE, ROWS)
    pivot_j = first_mean(right, 0, j, right_row, right_column, batch, d, DOUBLE, ROWS)
    rest_i, rest_j = tl.zeros((LEFT,), T), tl.zeros((RIGHT,), T)
    total = tl.zeros((LEFT, RIGHT), T)
    for start in range(0, batch, ROWS):
        b = start + tl.arange(0, ROWS)
        x = centred(left, b, i, left_row, left_column, batch, k, pivot_i, rest_i, DOUBLE)
        y = centred(right, b, j, right_row, right_column, batch, d, pivot_j, rest_j, DOUBLE)
        ahead_i, ahead_j = tl.sum(x, axis=0), tl.sum(y, axis=0)
        share = 1 / tl.minimum(start + ROWS, batch).to(T)
        total = product(tl.trans(x), y, total, DOUBLE)
        total -= ahead_i[:, None] * (ahead_j * share)[None, :]
        rest_i, rest_j = rest_i + ahead_i * share, rest_j + ahead_j * share
    if row == 0:
        store_mean(right_means, j, d, pivot_j, rest_j)
    if not SYMMETRIC and column == 0:
        store_mean(left_means, i, k, pivot_i, rest_i)
    total = total / tl.maximum(batch, 1).to(T)
    inside = (i < k)[:, None] & (j < d)[None, :]
    off = tl.full((), 0.0, T) + off_high + off_low
    part = off * (total * total)
    if SYMMETRIC:
        diagonal = i[:, None] == j[None, :]
        if HAS_LOGVAR and row == column:
            v = _variances(logvar, j, logvar_row, logvar_column, batch, d, DOUBLE, ROWS, RIGHT)
            total = tl.where(diagonal, total + v[None, :], total)
        on = tl.full((), 0.0, T) + on_high + on_low
        part = tl.where(diagonal, on * ((total - 1) * (total - 1)), part)
        if row != column:
            tl.store(covariance + j.to(tl.int64)[None, :] * d + i[:, None], total, mask=inside)
            part += part
    tl.store(covariance + i.to(tl.int64)[:, None] * d + j[None, :], total, mask=inside)
    part = tl.where(inside, part, 0.0)
    tl.store(sums + tl.program_id(0), tl.sum(tl.sum(part, axis=1), axis=0))


@triton.jit
def _weights(
    covariance, i, j, row_stride, column_stride, m, n, off, on, scale,
    SYMMETRIC: tl.constexpr, DOUBLE: tl.constexpr,
):  # fmt: skip
    """Tile (i, j) of the weights (m, n), zero outside; see the CPU kernel."""
    w = entries(covariance, i, j, row_stride, column_stride, m, n, DOUBLE)
    if SYMMETRIC:
        w = tl.where(i[:, None] == j[None, :], on * (w - 1), off * w)
    inside = (i < m)[:, None] & (j < n)[None, :]
    return tl.where(inside, w * scale, 0.0)


@triton.jit
def covariance_adjoint_kernel(
    grad, x, logvar, means, covariance, out, grad_logvar,
    x_row, x_column, logvar_row, logvar_column, covariance_row, covariance_column,
    batch, m, n, tiles, off_high, off_low, on_high, on_low,
    FACTOR: tl.constexpr, SYMMETRIC: tl.constexpr, HAS_LOGVAR: tl.constexpr,
    DOUBLE: tl.constexpr, ROWS: tl.constexpr, STEP: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Compute one tile of centred x (B, m) times weights (m, n), derived from the covariance."""
    T: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    b = tl.program_id(0) // tiles * ROWS + tl.arange(0, ROWS)
    j = tl.program_id(0) % tiles * TILE + tl.arange(0, TILE)
    off = tl.full((), 0.0, T) + off_high + off_low
    on = tl.full((), 0.0, T) + on_high + on_low
    scale = FACTOR * tl.load(grad) / tl.maximum(batch, 1).to(T)
    total = tl.zeros((ROWS, TILE), T)
    for start in range(0, m, STEP):
        i = start + tl.arange(0, STEP)
        mean = tl.load(means + i, mask=i < m, other=0.0)
        rest = tl.load(means + m + i, mask=i < m, other=0.0)
        c = centred(x, b, i, x_row, x_column, batch, m, mean, rest, DOUBLE)
        w = _weights(
            covariance, i, j, covariance_row, covariance_column, m, n, off, on, scale,
            SYMMETRIC, DOUBLE,
        )  # fmt: skip
        total = product(c, w, total, DOUBLE)
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


@lru_cache(1024)
def _tiles(m: int, n: int, double: bool) -> tuple[int, int]:
    most = _TILE // 2 if double else _TILE
    return tile_size(m, most), tile_size(n, most)


def _run_covariance(
    left: Tensor, right: Tensor, logvar: Tensor | None, left_means: Tensor, right_means: Tensor,
    symmetric: bool, lambda_od: float, lambda_d: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    (batch, k), d, double = left.shape, right.shape[1], left.dtype == torch.float64
    high, wide = _tiles(k, d, double)
    rows, columns = blocks_of(k, high), blocks_of(d, wide)
    tiles = columns * (columns + 1) // 2 if symmetric else rows * columns
    sums, covariance = left_means.new_empty(tiles), left_means.new_empty(k, d)
    if tiles == 0:
        return sums.sum(), covariance
    covariance_kernel[(tiles,)](
        left, right, left if logvar is None else logvar, left_means, right_means, covariance, sums,
        *left.stride(), *right.stride(), *strides_of(logvar), batch, k, d, columns,
        *split_float(lambda_od), *split_float(lambda_d),
        SYMMETRIC=symmetric, HAS_LOGVAR=logvar is not None, DOUBLE=double,
        ROWS=_ROWS, LEFT=high, RIGHT=wide,
    )  # fmt: skip
    return total_of(sums), covariance


def _run_adjoint(
    grad: Tensor, x: Tensor, logvar: Tensor | None, means: Tensor, covariance: Tensor,
    factor: int, symmetric: bool, lambda_od: float, lambda_d: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    (batch, m), n, double = x.shape, covariance.shape[1], x.dtype == torch.float64
    out = x.new_empty(batch, n)
    grad_logvar = x.new_empty(0 if logvar is None else (batch, n))
    if batch * n == 0:
        return out, grad_logvar
    step, tile = _tiles(m, n, double)
    tiles = blocks_of(n, tile)
    covariance_adjoint_kernel[(blocks_of(batch, _ROWS) * tiles,)](
        grad, x, x if logvar is None else logvar, means.contiguous(), covariance, out, grad_logvar,
        *x.stride(), *strides_of(logvar), *covariance.stride(), batch, m, n, tiles,
        *split_float(lambda_od), *split_float(lambda_d),
        FACTOR=factor, SYMMETRIC=symmetric, HAS_LOGVAR=logvar is not None, DOUBLE=double,
        ROWS=_ROWS, STEP=min(step, 32), TILE=tile,
    )  # fmt: skip
    return out, grad_logvar


def covariance_penalty(
    mu: Tensor, logvar: Tensor | None, lambda_od: float, lambda_d: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch the op of the same name."""
    means = mu.new_empty(2, mu.shape[1], dtype=compute_dtype(mu))
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
    """Launch the op of the same name."""
    return _run_adjoint(grad, mu, logvar, means, covariance, 4, True, lambda_od, lambda_d)


def cross_covariance_penalty(y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Launch the op of the same name."""
    y_means = y.new_empty(2, y.shape[1], dtype=compute_dtype(y))
    z_means = z.new_empty(2, z.shape[1], dtype=compute_dtype(z))
    penalty, covariance = _run_covariance(y, z, None, y_means, z_means, False, 1.0, 0.0)
    return penalty, y_means, z_means, covariance


def cross_covariance_penalty_backward(
    grad: Tensor, y: Tensor, z: Tensor, y_means: Tensor, z_means: Tensor, covariance: Tensor
) -> tuple[Tensor, Tensor]:
    """Launch the op of the same name."""
    grad_y, _ = _run_adjoint(grad, z, None, z_means, covariance.T, 2, False, 1.0, 0.0)
    grad_z, _ = _run_adjoint(grad, y, None, y_means, covariance, 2, False, 1.0, 0.0)
    return grad_y, grad_z


@lru_cache(1024)
def _parts(batch: int, d: int, double: bool) -> tuple[int, int, int, int]:
    """Columns per tile, number of tiles, rows per part of the batch, and number of parts."""
    tile = tile_size(d, _COLUMNS // 2 if double else _COLUMNS)
    tiles = blocks_of(d, tile)
    parts = max(1, min(_PROGRAMS // max(tiles, 1), _PARTS, batch // _LEAST))
    count = max(1, blocks_of(batch, parts * _ROWS)) * _ROWS
    return tile, tiles, count, max(1, blocks_of(batch, count))


def third_central_moment_penalty(z: Tensor, logvar: Tensor | None) -> tuple[Tensor, Tensor]:
    """Launch the op of the same name."""
    (batch, d), double = z.shape, z.dtype == torch.float64
    tile, tiles, count, splits = _parts(batch, d, double)
    whole = tiles == splits == 1
    moments = z.new_empty(4, d, dtype=compute_dtype(z))
    penalty, sums = moments.new_empty(()), moments.new_empty(0 if whole else (splits, 6, d))
    if tiles > 0:
        third_moment_kernel[(tiles * splits,)](
            z, z if logvar is None else logvar, moments, penalty, sums,
            *z.stride(), *strides_of(logvar), batch, d, tiles, count,
            WHOLE=whole, HAS_LOGVAR=logvar is not None, DOUBLE=double, ROWS=_ROWS, TILE=tile,
        )  # fmt: skip
    if not whole:
        third_moment_sums_kernel[(1,)](
            sums, moments, penalty, batch, d, count, splits,
            DOUBLE=double, SPLITS=power_of_2(splits), **_JOIN,
        )  # fmt: skip
    return penalty, moments


def third_central_moment_penalty_backward(
    grad: Tensor, z: Tensor, logvar: Tensor | None, moments: Tensor
) -> tuple[Tensor, Tensor]:
    """Launch the op of the same name."""
    batch, d = z.shape
    grad_z = z.new_empty(batch, d)
    grad_logvar = z.new_empty(0 if logvar is None else (batch, d))
    if batch * d > 0:
        tile = tile_size(d, _COLUMNS)
        tiles = blocks_of(d, tile)
        third_moment_adjoint_kernel[(blocks_of(batch, _ROWS) * tiles,)](
            grad, z, z if logvar is None else logvar, moments.contiguous(), grad_z, grad_logvar,
            *z.stride(), *strides_of(logvar), batch, d, tiles,
            HAS_LOGVAR=logvar is not None, DOUBLE=z.dtype == torch.float64, ROWS=_ROWS, TILE=tile,
        )  # fmt: skip
    return grad_z, grad_logvar


def _compilations() -> list[tuple[object, dict[str, str], dict[str, int], dict[str, int]]]:
    """List typical configurations of every kernel, float32, bfloat16 and float64."""
    integers = "left_row left_column right_row right_column logvar_row logvar_column batch k d m n"
    integers += " x_row x_column z_row z_column covariance_row covariance_column"
    integers += " tiles count splits"
    stored = ("left", "right", "logvar", "x", "z", "out", "grad_z", "grad_logvar")
    found = []
    for kernel, options in (
        (covariance_kernel, {"SYMMETRIC": 1, "HAS_LOGVAR": 1, "LEFT": _TILE, "RIGHT": _TILE}),
        (covariance_kernel, {"SYMMETRIC": 0, "HAS_LOGVAR": 0, "LEFT": 16, "RIGHT": _TILE}),
        (covariance_adjoint_kernel, {"FACTOR": 4, "SYMMETRIC": 1, "HAS_LOGVAR": 1}),
        (covariance_adjoint_kernel, {"FACTOR": 2, "SYMMETRIC": 0, "HAS_LOGVAR": 0}),
        (third_moment_kernel, {"WHOLE": 0, "HAS_LOGVAR": 1}),
        (third_moment_sums_kernel, {"SPLITS": 16, **_JOIN}),
        (third_moment_adjoint_kernel, {"HAS_LOGVAR": 1}),
    ):
        for narrow, wide in (("*fp32", "*fp32"), ("*bf16", "*fp32"), ("*fp64", "*fp64")):
            double = narrow == "*fp64"
            tile = {"TILE": _COLUMNS if "moment" in kernel.__name__ else _TILE // (1 + double)}
            constants = {"DOUBLE": int(double), "ROWS": _ROWS, "STEP": 32, **tile, **options}
            if kernel is third_moment_kernel:
                constants["TILE"] //= 1 + double
            for side in {"LEFT", "RIGHT"} & options.keys():
                constants[side] = max(16, constants[side] // (1 + double))
            launch = {"num_warps": constants.pop("num_warps", 4)}
            constants = {name: x for name, x in constants.items() if name in kernel.arg_names}
            types = dict.fromkeys(integers.split(), "i32") | dict.fromkeys(stored, narrow)
            types |= {n: "fp32" for n in kernel.arg_names if n.endswith(("_high", "_low"))}
            types |= dict.fromkeys(constants, "constexpr")
            signature = {name: types.get(name, wide) for name in kernel.arg_names}
            found.append((kernel, signature, constants, launch))
    return found


#: Compiled by the tests for every GPU: kernel, argument types, values of constants.
COMPILE = _compilations()
