"""The few directions along which the penalty's gradient needs the derivative of J."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from pydisent import parallel
from pydisent._checks import check, check_integer, check_number
from pydisent.jacobian._layout import in_memory_order, like_columns
from pydisent.jacobian._subspace import leading_subspace, orthonormalized, shift_of
from pydisent.jacobian.linearization import Linearization


class Keep(NamedTuple):
    """How many directions to keep: ``rank`` of them, or all but a share ``tolerance``."""

    tolerance: float = 0.0
    rank: int | None = None

    @classmethod
    def of(cls, tolerance: float | None, rank: int | None) -> Keep:
        """From the arguments of a penalty; raises if they are invalid or contradictory."""
        if rank is None:
            tolerance = 1e-3 if tolerance is None else tolerance
            check_number("tolerance", tolerance, at_least=0, below=1)
            return cls(tolerance)
        check_integer("rank", rank, at_least=1)
        check(tolerance is None, "tolerance", "None where rank is given", tolerance)
        return cls(rank=int(rank))


@dataclass(frozen=True)
class Directions:
    """The q for which the penalty's gradient is that of Σ_r <seed_r, J q_r> or Σ_r λ_r ‖J q_r‖².

    ``tangents`` are the q. ``seeds`` are (B, r, *out) for each output, or None if ``weights``, the
    λ, are given. ``known`` are the tangents along the q at some slots of the program.
    """

    tangents: Tensor  # (r, B, m)
    seeds: list[Tensor] | None
    weights: Tensor | None
    known: dict[int, Tensor] = field(default_factory=dict)


def leading_directions(
    columns: Sequence[Tensor], grams: Sequence[Tensor], slopes: Sequence[Tensor], keep: Keep
) -> tuple[Tensor, list[Tensor]]:
    """The best low-rank form of J C: q (B, r, K), and seeds 2 J C q for each output.

    The q are right-singular vectors of J C, from the eigenvectors of C M C, in coordinates of the
    basis that J maps to ``columns``. ``grams`` and ``slopes``, M and 2 C (B, K, K), hold one matrix
    for all outputs together, or one for each.
    """
    if keep.rank is not None:
        vectors = _leading_of(grams, slopes, keep.rank).to(slopes[0].dtype)
    elif keep.tolerance == 0:  # any full basis will do; the axes are free of rounding
        eye = torch.eye(grams[0].shape[-1], dtype=grams[0].dtype, device=grams[0].device)
        vectors = eye.expand_as(grams[0])
    else:
        energy = _energy(grams, slopes)
        trace = _trace(energy)
        shares, vectors = torch.linalg.eigh((energy / trace).to(slopes[0].dtype))
        energy, vectors = shares.flip(-1).clamp_min(0) * trace[..., 0], vectors.flip(-1)
        vectors = vectors[..., : _rank(energy, keep.tolerance**2)]
    rows = vectors.mT
    images = [rows @ slope for slope in slopes]
    images *= len(columns) // len(images)  # if the outputs share one slope
    return rows, [_seed(part, image) for part, image in zip(columns, images)]


def _seed(part: Tensor, images: Tensor) -> Tensor:
    """2 J C q of an output (B, r, *out), given 2 C q as (B, r, K)."""
    seed = like_columns(part, len(images), images.shape[1], part.dtype)
    torch.bmm(images.to(part.dtype), in_memory_order(part), out=in_memory_order(seed))
    return seed


def _energy(grams: Sequence[Tensor], slopes: Sequence[Tensor]) -> Tensor:
    """C M C up to a factor, summed over outputs, in float64, whose range holds float32 powers."""
    wide = [(slope.double(), gram.double()) for slope, gram in zip(slopes, grams)]
    products = [slope @ gram @ slope for slope, gram in wide]
    return sum(products[1:], products[0])


def _trace(matrix: Tensor) -> Tensor:
    """The traces (B, 1, 1) of semidefinite matrices, clamped to be positive."""
    trace = matrix.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None]
    return trace.clamp_min(torch.finfo(trace.dtype).tiny)


def _leading_of(grams: Sequence[Tensor], slopes: Sequence[Tensor], rank: int) -> Tensor:
    return leading_subspace(_energy(grams, slopes), rank)


def pushed_directions(linear: Linearization, gram: Tensor, slope: Tensor, rank: int) -> Directions:
    """As ``leading_directions`` for a given rank, if the columns of J are not kept."""
    vectors = _leading_of([gram], [slope], rank)
    return _directions_by(linear, vectors, slope.double() @ vectors)


def _directions_by(linear: Linearization, vectors: Tensor, images: Tensor) -> Directions:
    """Seeds 2 J C q from one more pass, given the q and C q (B, m, r)."""
    tangents, images = (x.permute(2, 0, 1).to(linear.dtype).contiguous() for x in (vectors, images))
    seeds = linear.columns(2 * images.reshape(-1, *linear.latent_shape))
    return Directions(tangents, seeds, None)


def leading_eigenvectors(slope: Tensor, tolerance: float) -> Directions:
    """C = Σ λ q q' without the smallest |λ|."""
    weights, vectors = torch.linalg.eigh(slope)
    order = weights.abs().argsort(-1, descending=True)
    weights = weights.gather(-1, order)
    vectors = vectors.gather(-1, order[:, None, :].expand_as(vectors))
    rank = _rank(weights.abs(), tolerance)
    tangents = vectors[..., :rank].permute(2, 0, 1).contiguous()
    return Directions(tangents, None, weights[:, :rank])


def _rank(magnitudes: Tensor, fraction: float) -> int:
    """How many of the (B, m) descending magnitudes to keep so that the rest sum to ``fraction``."""
    sums = parallel.total(magnitudes.sum(0).double())
    left_out = sums.flip(0).cumsum(0).flip(0)  # sums from each index on
    total = left_out[0]
    return max(1, int((left_out > fraction * total).sum()))


def leading_eigenvectors_of_product(left: Tensor, right: Tensor, tolerance: float) -> Directions:
    """Eigenvectors of sym(left right'), computed in the span of the factors if that is smaller."""
    factors = torch.cat([left, right], -1)
    if factors.shape[-1] >= factors.shape[-2]:
        product = left @ right.mT
        return leading_eigenvectors((product + product.mT) / 2, tolerance)
    basis, coordinates = torch.linalg.qr(factors)
    first, second = coordinates.chunk(2, -1)
    product = first @ second.mT
    core = leading_eigenvectors((product + product.mT) / 2, tolerance)
    return Directions(
        (core.tangents.movedim(0, 1) @ basis.mT).movedim(1, 0).contiguous(), None, core.weights
    )


def subspace_of_product(
    linear: Linearization, left: Tensor, right: Tensor, rank: int
) -> Directions:
    """The leading directions of C = sym(left right'), for factors (B, m, kT), and seeds 2 J C q."""
    left, right = left.double(), right.double()
    factors = torch.cat([left, right], -1)
    if factors.shape[-1] < factors.shape[-2]:
        scale = torch.linalg.vector_norm(factors, dim=(1, 2), keepdim=True)
        scaled = factors / scale.clamp_min(torch.finfo(scale.dtype).tiny)
        basis = orthonormalized(scaled, shift_of(scaled))
        first, second = (basis.mT @ factors).chunk(2, -1)
        core = first @ second.mT
        core = (core + core.mT) / 2
        vectors = basis @ leading_subspace(core @ core, min(rank, core.shape[-1]))
    else:
        slope = left @ right.mT
        slope = (slope + slope.mT) / 2
        vectors = leading_subspace(slope @ slope, rank)
    images = left @ (right.mT @ vectors) + right @ (left.mT @ vectors)
    return _directions_by(linear, vectors, images / 2)
