"""The directions at each code, and those of all codes together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pydisent.jacobian.explanation._generator import shrunk
from pydisent.jacobian.explanation._leading import (
    Leading,
    leading_of_matrix,
    leading_of_products,
    rest_of_trace,
    signed,
)
from pydisent.jacobian.explanation._work import (
    AVERAGE,
    DIRECTIONS,
    MORE,
    WIDTH,
    OutOfTime,
    Work,
    maps_of,
    squares,
)
from pydisent.jacobian.linearization import Linearization

_PROBES = 4  # for the trace
_MOST = 64  # most columns of products at a code, or twice the number of directions


@dataclass
class Points:
    """Results at the codes so far, on the CPU; sums are over codes."""

    found: list[Leading] = field(default_factory=list)
    traces: list[Tensor] = field(default_factory=list)  # with standard errors, (B, 2)
    maps: list[Tensor] = field(default_factory=list)
    gram: Tensor | None = None
    heatmap: Tensor | None = None

    @property
    def count(self) -> int:
        """The number of codes."""
        return sum(len(part) for part in self.traces)

    def add(self, leading: Leading, trace: Tensor, k: int, gram: Tensor | None) -> None:
        """Add a batch of codes; ``gram`` is M where it is known."""
        ranked = leading.vectors if gram is not None else leading.vectors[..., :k]
        heat = ranked.square().sum(0).cpu()
        self.heatmap = heat if self.heatmap is None else self.heatmap + heat
        if gram is not None:
            whole = gram.sum(0).cpu()
            self.gram = whole if self.gram is None else self.gram + whole
            leading = Leading(
                leading.values, leading.vectors[..., :k], leading.residuals, leading.products
            )
        parts = (leading.values.cpu(), leading.vectors.cpu(), leading.residuals.cpu())
        self.found.append(Leading(*parts, leading.products))
        self.traces.append(trace.cpu())

    @property
    def mean_heatmap(self) -> Tensor:
        """F, (m, r)."""
        assert self.heatmap is not None
        return self.heatmap / self.count

    def vectors(self, k: int) -> Tensor:
        """The leading vectors of each code, (B, m, k)."""
        return torch.cat([each.vectors[..., :k] for each in self.found])


def at_points(work: Work, codes: Tensor, one: Linearization | None, drawn: int) -> Points:
    """Find the directions at each code, as far as time allows.

    Parameters
    ----------
    work
        The explanation in progress.
    codes
        (B, *latent).
    one
        The linearization at the first code.
    drawn
        The number of codes for which to keep maps of where the directions act.
    """
    points, batches, least = Points(), codes.split(work.codes), 0.0
    for number, z in enumerate(batches):
        begin = work.clock.elapsed
        if number and work.clock.left(DIRECTIONS) < least:
            break
        linear = one if one is not None and len(z) == 1 else work.linear(z)
        one = None  # two linearizations at once may not fit into memory
        share = work.clock.left(DIRECTIONS) / (len(batches) - number)
        until = work.clock.elapsed + 0.8 * share  # the rest is for the work after the products
        try:
            with work.within(DIRECTIONS if number else None):
                leading, trace, gram = _solved(work, linear, until)
        except OutOfTime:
            break
        points.add(leading, trace, work.k, gram)
        wanted = drawn - number * work.codes
        if work.generator.image is not None and wanted > 0:
            maps = maps_of(linear, leading.vectors[..., : work.k], work.generator.image)
            points.maps.append(shrunk(maps[:wanted], work.side).cpu())
        del linear
        work.report("directions", points.count, len(codes))
        least = work.clock.elapsed - begin
        if gram is None:  # the least work possible at the next code
            least -= (leading.products - work.k - MORE) * work.column_seconds
    if points.count < len(codes):
        work.leave_out(f"{len(codes) - points.count} of {len(codes)} codes")
    return points


def _solved(
    work: Work, linear: Linearization, until: float
) -> tuple[Leading, Tensor, Tensor | None]:
    """Eigenpairs at some codes, tr M with its standard error (B, 2), and M if known."""
    batch, m = linear.latent_shape[0], linear.latent_shape[1:].numel()
    if work.exact:
        gram = work.gram(linear)
        trace = gram.diagonal(dim1=1, dim2=2).sum(1)
        return leading_of_matrix(gram), torch.stack([trace, torch.zeros_like(trace)], 1), gram

    def go_on(columns: int) -> bool:
        next_one = work.clock.elapsed + WIDTH * work.column_seconds
        return columns < work.k + MORE or next_one <= until  # fewer would be meaningless

    # The same at each code, so that results do not depend on how codes are batched.
    draws = work.signs(1, m, min(m, WIDTH) + _PROBES).expand(batch, -1, -1)
    leading = leading_of_products(
        work.product(linear), draws[..., _PROBES:], work.k,
        tolerance=work.tolerance, most=max(_MOST, 2 * work.k), go_on=go_on,
    )  # fmt: skip
    trace = leading.values.sum(1)
    if leading.products == m:
        return leading, torch.stack([trace, torch.zeros_like(trace)], 1), None
    rest = rest_of_trace(lambda v: squares(linear, v), leading.vectors, draws[..., :_PROBES])
    error = rest.std(1) / math.sqrt(_PROBES)
    return leading, torch.stack([trace + rest.mean(1), error], 1), None


def average(work: Work, codes: Tensor, points: Points) -> Leading:
    """The leading pairs of the mean M over codes, (1, ...); residuals are NaN if unknown.

    If M is unknown, the search starts from Σ_b V_b Λ_b V_b' and takes products with all M_b.
    """
    k, count = work.k, points.count
    if points.gram is not None:
        return leading_of_matrix(points.gram[None] / count)
    if count == 1:
        return points.found[0]
    roots = [(each.vectors * each.values.sqrt().unsqueeze(-2))[b]
             for each in points.found for b in range(len(each.values))]  # fmt: skip
    start, sizes, _ = torch.linalg.svd(torch.cat(roots, -1) / math.sqrt(count), full_matrices=False)
    block = min(k + MORE, start.shape[-1])
    per_code = work.linear_seconds + block * work.column_seconds

    def product(columns: Tensor) -> Tensor:
        total = torch.zeros_like(columns)
        for number, z in enumerate(codes.split(work.codes)):
            every = columns.to(z.device).expand(len(z), -1, -1)
            total += work.product(work.linear(z))(every).sum(0, keepdim=True).cpu()
            work.report("average", min(count, (number + 1) * work.codes), count)
        return total / count

    rounds = -(-count // work.codes)

    def in_time(columns: int) -> bool:
        return work.clock.left(AVERAGE) >= rounds * per_code

    try:
        if not in_time(0):
            raise OutOfTime
        with work.within(AVERAGE):
            return leading_of_products(
                product, start[None, :, :block], k, tolerance=work.tolerance, most=3 * block,
                go_on=in_time,
            )  # fmt: skip
    except OutOfTime:
        work.leave_out(
            "the refinement of the average directions by products with every M: they are those of "
            "the sum of the leading parts"
        )
    unknown = torch.full((1, block), math.nan, dtype=torch.float64)
    return Leading(sizes[None, :block].square(), signed(start[None, :, :block]), unknown)


def common(points: Points, k: int) -> tuple[Tensor, Tensor]:
    """Leading eigenvalues (k,) and eigenvectors (m, k) of the mean projector (1/B) Σ_b V_b V_b'."""
    stacked = torch.cat(list(points.vectors(k)), -1) / math.sqrt(points.count)
    vectors, sizes, _ = torch.linalg.svd(stacked, full_matrices=False)
    return sizes[:k].square(), signed(vectors[:, :k])
