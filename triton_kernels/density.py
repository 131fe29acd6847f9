"""Triton kernels of the density ops: log-densities of the aggregate posterior, and their adjoint.

Each program owns some rows i (or columns j) and loops over the others, tile by tile, as in
attention; nothing larger than a tile is held, and no sum crosses programs, so results are bitwise
reproducible.

Floor, with s bytes per number: 3 B d s + 4 B (1 + d) bytes and 7 B² d operations; the adjoint
6 B d s + 8 B (1 + d) and 15 B² d. Compute-bound from a few hundred samples on.
"""

from functools import lru_cache

import triton
import triton.language as tl
from torch import Tensor

from ._common import blocks_of, compute_dtype, power_of_2

_LOG_2PI = tl.constexpr(1.8378770664093453)
# Rows and columns of a forward tile; elements of a (rows, columns, dimensions) tile.
_ROWS, _COLUMNS, _TILE = 16, 64, 1024
_INTEGERS = ["batch", "d", "dataset_size"]


@triton.jit
def _log_weights(i, j, batch, dataset_size, STRATIFIED: tl.constexpr, DTYPE: tl.constexpr):
    """Log-weights of columns j in rows i; −inf beyond the batch."""
    rows, columns = i[:, None], j[None, :]
    if STRATIFIED:
        others = batch - 1
        log_count, log_others = tl.log(dataset_size.to(DTYPE)), tl.log(others.to(DTYPE))
        following = tl.log((dataset_size - others).to(DTYPE)) - log_count - log_others
        weights = tl.where(columns == (rows + 1) % batch, following, -log_others)
        weights = tl.where(columns == rows, tl.where(batch == 1, 0.0, -log_count), weights)
    else:
        weights = tl.zeros([i.shape[0], j.shape[0]], DTYPE)
        weights -= tl.log(batch.to(DTYPE)) + tl.log(dataset_size.to(DTYPE))
    return tl.where(columns < batch, weights, float("-inf"))


@triton.jit
def _inverse_root(log_variance):
    """1 / sqrt(std), to be applied twice: 1 / std may overflow where no result does."""
    x = -0.25 * log_variance
    LARGEST: tl.constexpr = 709.7 if x.dtype == tl.float64 else 88.7
    return tl.exp(tl.where(x > LARGEST, LARGEST, x))  # harmless: u² is infinite or 0


@triton.jit
def _log_density(z, mu, logvar, i, j, k, batch, d, DTYPE: tl.constexpr):
    """Compute log N(z_ik; mu_jk, exp(logvar_jk)) for one dimension k, (rows, columns)."""
    point = tl.load(z + i * d + k, mask=i < batch, other=0.0).to(DTYPE)
    mean = tl.load(mu + j * d + k, mask=j < batch, other=0.0).to(DTYPE)
    log_variance = tl.load(logvar + j * d + k, mask=j < batch, other=0.0).to(DTYPE)
    root = _inverse_root(log_variance)[None, :]
    u = ((point[:, None] - mean[None, :]) * root) * root
    return -0.5 * (u * u + (log_variance + _LOG_2PI)[None, :])


@triton.jit
def _joint_log_density(z, mu, logvar, i, j, batch, d, DTYPE: tl.constexpr):
    total = tl.zeros([i.shape[0], j.shape[0]], DTYPE)
    for k in range(d):
        total += _log_density(z, mu, logvar, i, j, k, batch, d, DTYPE)
    return total


@triton.jit
def _add_exponentials(values, peak, total):
    """Add exp of a tile's columns to a running sum total * exp(peak), row by row."""
    top = tl.maximum(peak, tl.max(values, axis=1))
    shift = tl.where(top == float("-inf"), 0.0, top)  # −inf − −inf would be NaN
    total = total * tl.exp(peak - shift) + tl.sum(tl.exp(values - shift[:, None]), axis=1)
    return top, total


@triton.jit
def _log_total(peak, total):
    return tl.where(peak == float("-inf"), 0.0, peak) + tl.log(total)


@triton.jit(do_not_specialize=_INTEGERS)
def joint_kernel(
    z, mu, logvar, log_joint, batch, d, dataset_size, STRATIFIED: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """Compute log q(z_i) (B,) for a block of rows."""
    DTYPE: tl.constexpr = log_joint.dtype.element_ty
    i = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    peak = tl.full([ROWS], float("-inf"), DTYPE)
    total = tl.zeros([ROWS], DTYPE)
    for first in range(0, batch, COLUMNS):
        j = first + tl.arange(0, COLUMNS).to(tl.int64)
        values = _joint_log_density(z, mu, logvar, i, j, batch, d, DTYPE)
        values += _log_weights(i, j, batch, dataset_size, STRATIFIED, DTYPE)
        peak, total = _add_exponentials(values, peak, total)
    tl.store(log_joint + i, _log_total(peak, total), mask=i < batch)


@triton.jit(do_not_specialize=_INTEGERS)
def marginals_kernel(
    z, mu, logvar, log_marginals, batch, d, dataset_size, STRATIFIED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Compute log q(z_ik) (B, d) for a block of rows and one dimension."""
    DTYPE: tl.constexpr = log_marginals.dtype.element_ty
    # Only axis 0 allows more than 65535 programs.
    i = (tl.program_id(0) // d).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    k = tl.program_id(0) % d
    peak = tl.full([ROWS], float("-inf"), DTYPE)
    total = tl.zeros([ROWS], DTYPE)
    for first in range(0, batch, COLUMNS):
        j = first + tl.arange(0, COLUMNS).to(tl.int64)
        values = _log_density(z, mu, logvar, i, j, k, batch, d, DTYPE)
        values += _log_weights(i, j, batch, dataset_size, STRATIFIED, DTYPE)
        peak, total = _add_exponentials(values, peak, total)
    tl.store(log_marginals + i * d + k, _log_total(peak, total), mask=i < batch)


@triton.jit
def _responsibility(x):
    """Return exp(x) for x <= 0 up to rounding, which must not overflow; NaN stays NaN."""
    return tl.exp(tl.where(x > 1.0, 1.0, x))


@triton.jit
def _cotangents(
    grad_joint, grad_marginals, z, mu, logvar, log_joint, log_marginals, i, j, k, batch, d,
    dataset_size, STRATIFIED: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """Cotangents of a tile's log-densities, u = (z − mu) / std, and the root of 1 / std."""
    weights = _log_weights(i, j, batch, dataset_size, STRATIFIED, DTYPE)
    joint = _joint_log_density(z, mu, logvar, i, j, batch, d, DTYPE) + weights
    joint -= tl.load(log_joint + i, mask=i < batch, other=0.0)[:, None]
    on_joint = tl.load(grad_joint + i, mask=i < batch, other=0.0)[:, None] * _responsibility(joint)
    rows, in_rows = i[:, None] * d + k[None, :], (i < batch)[:, None] & (k < d)[None, :]
    columns, in_columns = j[:, None] * d + k[None, :], (j < batch)[:, None] & (k < d)[None, :]
    point = tl.load(z + rows, mask=in_rows, other=0.0).to(DTYPE)
    mean = tl.load(mu + columns, mask=in_columns, other=0.0).to(DTYPE)
    log_variance = tl.load(logvar + columns, mask=in_columns, other=0.0).to(DTYPE)
    root = _inverse_root(log_variance)[None, :, :]
    u = ((point[:, None, :] - mean[None, :, :]) * root) * root
    values = -0.5 * (u * u + (log_variance + _LOG_2PI)[None, :, :]) + weights[:, :, None]
    values -= tl.load(log_marginals + rows, mask=in_rows, other=0.0)[:, None, :]
    on_marginals = tl.load(grad_marginals + rows, mask=in_rows, other=0.0)
    c = on_joint[:, :, None] + on_marginals[:, None, :] * _responsibility(values)
    inside = (i < batch)[:, None] & (j < batch)[None, :]
    c = tl.where(inside[:, :, None], c, 0.0)
    # Where u² overflows, c is 0, and 0 times an infinite u would be NaN.
    return c, tl.where(c == 0.0, 0.0, u), root


@triton.jit(do_not_specialize=_INTEGERS)
def grad_z_kernel(
    grad_joint, grad_marginals, z, mu, logvar, log_joint, log_marginals, grad_z, batch, d,
    dataset_size, STRATIFIED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    DIMENSIONS: tl.constexpr,
):  # fmt: skip
    """Gradient for a block of rows and of dimensions: minus the sum over j of c u / std."""
    DTYPE: tl.constexpr = log_joint.dtype.element_ty
    blocks = tl.cdiv(d, DIMENSIONS)
    i = (tl.program_id(0) // blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    k = tl.program_id(0) % blocks * DIMENSIONS + tl.arange(0, DIMENSIONS)
    total = tl.zeros([ROWS, DIMENSIONS], DTYPE)
    for first in range(0, batch, COLUMNS):
        j = first + tl.arange(0, COLUMNS).to(tl.int64)
        c, u, root = _cotangents(
            grad_joint, grad_marginals, z, mu, logvar, log_joint, log_marginals,
            i, j, k, batch, d, dataset_size, STRATIFIED, DTYPE,
        )  # fmt: skip
        total -= tl.sum(((c * u) * root) * root, axis=1)
    inside = (i < batch)[:, None] & (k < d)[None, :]
    tl.store(grad_z + i[:, None] * d + k[None, :], total, mask=inside)


@triton.jit(do_not_specialize=_INTEGERS)
def grad_posteriors_kernel(
    grad_joint, grad_marginals, z, mu, logvar, log_joint, log_marginals, grad_mu, grad_logvar,
    batch, d, dataset_size, STRATIFIED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    DIMENSIONS: tl.constexpr,
):  # fmt: skip
    """Gradients for a block of columns: sums over i of c u / std and of c (u² − 1) / 2."""
    DTYPE: tl.constexpr = log_joint.dtype.element_ty
    blocks = tl.cdiv(d, DIMENSIONS)
    j = (tl.program_id(0) // blocks).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.program_id(0) % blocks * DIMENSIONS + tl.arange(0, DIMENSIONS)
    to_mu = tl.zeros([COLUMNS, DIMENSIONS], DTYPE)
    to_logvar = tl.zeros([COLUMNS, DIMENSIONS], DTYPE)
    for first in range(0, batch, ROWS):
        i = first + tl.arange(0, ROWS).to(tl.int64)
        c, u, root = _cotangents(
            grad_joint, grad_marginals, z, mu, logvar, log_joint, log_marginals,
            i, j, k, batch, d, dataset_size, STRATIFIED, DTYPE,
        )  # fmt: skip
        on_u = c * u
        to_mu += tl.sum((on_u * root) * root, axis=0)
        to_logvar += 0.5 * tl.sum(on_u * u - c, axis=0)
    inside = (j < batch)[:, None] & (k < d)[None, :]
    at = j[:, None] * d + k[None, :]
    tl.store(grad_mu + at, to_mu, mask=inside)
    tl.store(grad_logvar + at, to_logvar, mask=inside)


def aggregate_posterior(
    z: Tensor, mu: Tensor, logvar: Tensor, dataset_size: int, estimator: str
) -> tuple[Tensor, Tensor]:
    """Launch the forward kernels; arguments and results are those of the op."""
    (batch, d), dtype = z.shape, compute_dtype(z)
    z, mu, logvar = z.contiguous(), mu.contiguous(), logvar.contiguous()
    log_joint = z.new_empty(batch, dtype=dtype)
    log_marginals = z.new_empty(batch, d, dtype=dtype)
    sizes = batch, d, dataset_size, estimator == "mss", _ROWS, _COLUMNS
    blocks = blocks_of(batch, _ROWS)
    if blocks > 0:
        joint_kernel[(blocks,)](z, mu, logvar, log_joint, *sizes)
    if blocks * d > 0:
        marginals_kernel[(blocks * d,)](z, mu, logvar, log_marginals, *sizes)
    return log_joint, log_marginals


def aggregate_posterior_backward(
    grad_joint: Tensor,
    grad_marginals: Tensor,
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    log_joint: Tensor,
    log_marginals: Tensor,
    dataset_size: int,
    estimator: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch the adjoint's kernels; arguments and results are those of the op."""
    batch, d = z.shape
    tensors = [grad_joint, grad_marginals, z, mu, logvar, log_joint, log_marginals]
    tensors = [x.contiguous() for x in tensors]
    grads = grad_z, grad_mu, grad_logvar = tuple(z.new_empty(batch, d) for _ in range(3))
    if batch * d > 0:
        dimensions, short, long = _tile(d)
        sizes = batch, d, dataset_size, estimator == "mss"
        grid = (blocks_of(batch, short) * blocks_of(d, dimensions),)
        grad_z_kernel[grid](*tensors, grad_z, *sizes, short, long, dimensions)
        grad_posteriors_kernel[grid](
            *tensors, grad_mu, grad_logvar, *sizes, long, short, dimensions
        )
    return grads


@lru_cache(1024)
def _tile(d: int) -> tuple[int, int, int]:
    """Dimensions of a tile, rows (or columns) that a program owns, and those of a tile."""
    dimensions = min(16, power_of_2(d))
    return dimensions, 8, _TILE // (8 * dimensions)


def _configurations() -> list[tuple]:
    found: list[tuple] = []
    dimensions, short, long = _tile(10)
    wide = dict.fromkeys(("log_joint", "log_marginals"), "*fp32")
    grads = dict.fromkeys(("grad_joint", "grad_marginals"), "*fp32")
    sizes = {"batch": "i32", "d": "i32", "dataset_size": "i64"}
    for storage, stratified in (("*fp32", True), ("*bf16", False)):
        inputs = dict.fromkeys(("z", "mu", "logvar"), storage)
        block = {"STRATIFIED": stratified, "ROWS": _ROWS, "COLUMNS": _COLUMNS}
        for kernel, output in ((joint_kernel, "log_joint"), (marginals_kernel, "log_marginals")):
            found.append((kernel, {**inputs, output: "*fp32", **sizes}, block))
        for kernel, outputs, rows, columns in (
            (grad_z_kernel, ("grad_z",), short, long),
            (grad_posteriors_kernel, ("grad_mu", "grad_logvar"), long, short),
        ):
            arguments = {**grads, **inputs, **wide, **dict.fromkeys(outputs, storage), **sizes}
            block = {"STRATIFIED": stratified, "ROWS": rows, "COLUMNS": columns}
            found.append((kernel, arguments, {**block, "DIMENSIONS": dimensions}))
    return found


#: Compiled by the tests for every GPU: kernel, argument types, values of constants.
COMPILE = _configurations()
