"""Kernels of third central moments and of their adjoint: see ``covariance.py``."""

from __future__ import annotations

import triton
import triton.language as tl

from ._columns import centred, entries, first_mean, store_mean
from ._common import exponential, scaled_exponential


@triton.jit
def _about(size, squares, cubes, variances, products, shift):
    """Sums of c², c³ and c v over ``size`` rows, moved from c about their mean to c + ``shift``."""
    # Variances may be infinite where all rows equal the mean.
    moved = tl.where(shift == 0.0, 0.0, shift * variances)
    cubes += shift * (3 * squares + size * shift * shift)
    return squares + size * shift * shift, cubes, products + moved


@triton.jit
def _finish(
    moments, j, d, size, pivot, distance, squares, cubes, variances, products
):  # fmt: skip
    """Store means, variances and third central moments; return the penalty's part."""
    third = (cubes + 3 * products) / size
    store_mean(moments, j, d, pivot, distance)
    tl.store(moments + 2 * d + j, (squares + variances) / size, mask=j < d)
    tl.store(moments + 3 * d + j, third, mask=j < d)
    return tl.sum(tl.where(j < d, third * third, 0.0), axis=0)


@triton.jit
def third_moment_kernel(
    z, logvar, moments, penalty, parts, z_row, z_column, logvar_row, logvar_column,
    batch, d, tiles, count,
    WHOLE: tl.constexpr, HAS_LOGVAR: tl.constexpr, DOUBLE: tl.constexpr,
    ROWS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Moments of ``count`` rows, or all, of some columns, tile by tile (Chan et al. 1979)."""
    T: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    part, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    j = tile * TILE + tl.arange(0, TILE)
    begin, end = part * count, tl.minimum((part + 1) * count, batch)
    pivot = first_mean(z, begin, j, z_row, z_column, end, d, DOUBLE, ROWS)
    distance, squares, cubes = tl.zeros((TILE,), T), tl.zeros((TILE,), T), tl.zeros((TILE,), T)
    variances, products = tl.zeros((TILE,), T), tl.zeros((TILE,), T)
    for start in range(begin, end, ROWS):
        rows = start + tl.arange(0, ROWS)
        inside = (rows < end)[:, None] & (j < d)[None, :]
        before, own = (start - begin).to(T), tl.minimum(end - start, ROWS).to(T)
        c = centred(z, rows, j, z_row, z_column, end, d, pivot, distance, DOUBLE)
        ahead = tl.sum(c, axis=0) / own
        c = tl.where(inside, c - ahead[None, :], 0.0)
        square, cube = tl.sum(c * c, axis=0), tl.sum(c * c * c, axis=0)
        variance, product = tl.zeros((TILE,), T), tl.zeros((TILE,), T)
        if HAS_LOGVAR:
            s = entries(logvar, rows, j, logvar_row, logvar_column, end, d, DOUBLE)
            variance = tl.sum(tl.where(inside, exponential(s, DOUBLE), 0.0), axis=0)
            product = tl.sum(scaled_exponential(c, s, DOUBLE), axis=0)
        share = own / (before + own)
        squares, cubes, products = _about(
            before, squares, cubes, variances, products, -ahead * share
        )
        square, cube, product = _about(own, square, cube, variance, product, ahead - ahead * share)
        squares, cubes, products = squares + square, cubes + cube, products + product
        variances += variance
        distance += ahead * share
    if WHOLE:
        size = tl.maximum(batch, 1).to(T)
        sums = _finish(
            moments, j, d, size, pivot, distance, squares, cubes, variances, products
        )  # fmt: skip
        tl.store(penalty, sums)
    else:
        at = parts + part * 6 * d
        store_mean(at, j, d, pivot, distance)
        tl.store(at + 2 * d + j, squares, mask=j < d)
        tl.store(at + 3 * d + j, cubes, mask=j < d)
        tl.store(at + 4 * d + j, variances, mask=j < d)
        tl.store(at + 5 * d + j, products, mask=j < d)


@triton.jit
def third_moment_sums_kernel(
    parts, moments, penalty, batch, d, count, splits,
    DOUBLE: tl.constexpr, SPLITS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Combine the parts' moments into those of all rows; one program, as the penalty is one sum."""
    T: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    part = tl.arange(0, SPLITS)
    rows = tl.minimum(batch - part * count, count).to(T)
    rows = tl.where(part < splits, rows, 0.0)[:, None]
    size = tl.maximum(batch, 1).to(T)
    total = tl.full((), 0.0, T)
    for first in range(0, d, TILE):
        j = first + tl.arange(0, TILE)
        inside = (part < splits)[:, None] & (j < d)[None, :]
        at = parts + part[:, None] * 6 * d + j[None, :]
        pivot = tl.load(parts + j, mask=j < d, other=0.0)
        distances = tl.load(at, mask=inside, other=0.0) - pivot[None, :]
        distances += tl.load(at + d, mask=inside, other=0.0)
        distance = tl.sum(rows * distances, axis=0) / size
        variances = tl.load(at + 4 * d, mask=inside, other=0.0)
        squares, cubes, products = _about(
            rows,
            tl.load(at + 2 * d, mask=inside, other=0.0),
            tl.load(at + 3 * d, mask=inside, other=0.0),
            variances,
            tl.load(at + 5 * d, mask=inside, other=0.0),
            tl.where(inside, distances - distance[None, :], 0.0),
        )
        total += _finish(
            moments, j, d, size, pivot, distance, tl.sum(squares, axis=0), tl.sum(cubes, axis=0),
            tl.sum(variances, axis=0), tl.sum(products, axis=0),
        )  # fmt: skip
    tl.store(penalty, total)


@triton.jit
def third_moment_adjoint_kernel(
    grad, z, logvar, moments, grad_z, grad_logvar, z_row, z_column, logvar_row, logvar_column,
    batch, d, tiles,
    HAS_LOGVAR: tl.constexpr, DOUBLE: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Compute one tile of the gradients, elementwise except for the moments."""
    T: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    b = tl.program_id(0) // tiles * ROWS + tl.arange(0, ROWS)
    j = tl.program_id(0) % tiles * TILE + tl.arange(0, TILE)
    mean = tl.load(moments + j, mask=j < d, other=0.0)
    rest = tl.load(moments + d + j, mask=j < d, other=0.0)
    variance = tl.load(moments + 2 * d + j, mask=j < d, other=0.0)
    third = tl.load(moments + 3 * d + j, mask=j < d, other=0.0)
    weights = third * (6 * tl.load(grad) / tl.maximum(batch, 1).to(T))
    c = centred(z, b, j, z_row, z_column, batch, d, mean, rest, DOUBLE)
    square = c * c
    inside = (b < batch)[:, None] & (j < d)[None, :]
    offsets = b.to(tl.int64)[:, None] * d + j[None, :]
    if HAS_LOGVAR:
        s = entries(logvar, b, j, logvar_row, logvar_column, batch, d, DOUBLE)
        square += exponential(s, DOUBLE)
        on_logvar = scaled_exponential(weights[None, :] * c, s, DOUBLE)
        tl.store(grad_logvar + offsets, on_logvar, mask=inside)
    # Where all samples equal the mean, variances may be infinite and their difference NaN.
    spread = tl.where(weights[None, :] == 0.0, c, square - variance[None, :])
    tl.store(grad_z + offsets, weights[None, :] * spread, mask=inside)
