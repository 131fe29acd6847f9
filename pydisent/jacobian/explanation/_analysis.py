"""``analyse``: a generator's behaviour as directions of its codes, and what these change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pydisent._checks import check
from pydisent.jacobian._arguments import Coupled, refuse_transforms
from pydisent.jacobian._eager import run_eagerly
from pydisent.jacobian.explanation import _pictures
from pydisent.jacobian.explanation._arguments import Method, Options, check_latents
from pydisent.jacobian.explanation._budget import Clock, Memory, Report
from pydisent.jacobian.explanation._generator import Generator, sampled
from pydisent.jacobian.explanation._leading import Leading
from pydisent.jacobian.explanation._paths import Eigenpaths, eigenpaths
from pydisent.jacobian.explanation._pictures import Pictures
from pydisent.jacobian.explanation._points import Points, at_points, average, common
from pydisent.jacobian.explanation._regions import Region, checked_masks, in_regions
from pydisent.jacobian.explanation._work import MORE, Work
from pydisent.jacobian.linearization import Linearization

_SURELY_EXACT, _AT_MOST_EXACT = 64, 2048  # sizes m
_EXACT_SHARE = 0.3  # of the time limit
_BATCH_SHARE = 0.1  # of the time limit, for the codes of one batch


@dataclass(frozen=True)
class Directions:
    """Orthonormal directions q of codes, the strongest first.

    Attributes
    ----------
    values : Tensor
        The eigenvalues that rank them, (k,).
    vectors : Tensor
        (k, *latent).
    shares : Tensor
        For average directions, the share of all change that is along them, q'M̄ q / tr M̄; for
        common ones, ``values``; (k,) in [0, 1].
    residuals : Tensor or None
        Relative errors ‖M̄ q − λ q‖ / λ, (k,); NaN if unknown.
    """

    values: Tensor
    vectors: Tensor
    shares: Tensor
    residuals: Tensor | None = None


@dataclass(eq=False)
class Analysis:
    """The results of `analyse`, as tensors on the CPU.

    Attributes
    ----------
    codes : Tensor
        z, (B, *latent): the codes at which directions were found.
    eigenvalues : Tensor
        Eigenvalues of M = J'J at each code, descending, (B, r): all m if M was computed as a whole,
        else the k leading ones.
    eigenvectors : Tensor
        The k leading ones at each code, (B, k, *latent), float64.
    residuals : Tensor
        ‖M v − λ v‖ / λ of these, (B, k).
    traces, trace_errors : Tensor
        tr M at each code and its standard error, 0 where it is exact, (B,).
    heatmap : Tensor
        F = E V ∘ V (Ramesh et al., Eq. 6), (m, r), with r as in ``eigenvalues``.
    average : Directions
        The leading eigenvectors of M̄ = (1/B) Σ_b J_b'J_b: the right-singular vectors of the
        Jacobians of all codes, stacked.
    common : Directions
        Those of P̄ = (1/B) Σ_b V_b V_b', with V_b the k leading eigenvectors at a code: the left
        singular vectors of all V_b side by side. The eigenvalue is the share of the direction in
        the span of the k leading ones at a code, on average.
    pictures : Pictures or None
        Images along directions, and where these act, if the generator returns images.
    regions : dict of str to Region
        Directions of regions of the image.
    paths : Eigenpaths or None
        Curves along eigenvectors from the first code.
    method : str
        "exact" or "subspace".
    products : int
        The fewest columns that M was multiplied with at a code; 0 if it was computed as a whole.
    output_shapes : list of Size
        Shapes of the generator's outputs for one code.
    notes : list of str
        Notes for the reader, such as what was left out.
    seconds : float
        The time taken.
    settings : dict
        The arguments.
    names : list of str or None
        Names of the m coordinates of a code.
    """

    codes: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor
    residuals: Tensor
    traces: Tensor
    trace_errors: Tensor
    heatmap: Tensor
    average: Directions
    common: Directions
    pictures: Pictures | None
    regions: dict[str, Region]
    paths: Eigenpaths | None
    method: str
    products: int
    output_shapes: list[torch.Size]
    notes: list[str]
    seconds: float
    settings: dict[str, Any]
    names: list[str] | None = None

    @property
    def m(self) -> int:
        """The number of coordinates of a code."""
        return self.codes[0].numel()

    @property
    def k(self) -> int:
        """The number of directions."""
        return self.eigenvectors.shape[1]


@run_eagerly
def analyse(
    generator: Any,
    z: Tensor | int,
    *,
    k: int | None = None,
    decode: Callable[..., Any] | None = None,
    fn_kwargs: Mapping[str, Any] | None = None,
    regions: Mapping[str, Any] | None = None,
    region_nullspace: int = 0,
    points: int = 4,
    paths: int = 3,
    length: float | None = None,
    value_range: tuple[float, float] | None = None,
    picture_size: int = 128,
    method: Method = "auto",
    tolerance: float = 1e-2,
    time_limit: float | None = 240.0,
    memory_limit: int | None = None,
    coupled: Coupled = "error",
    seed: int = 0,
    names: Sequence[str] | None = None,
    progress: Report = lambda name, done, total: None,
) -> Analysis:
    """Analyse a generator without making a page; arguments as in `pydisent.explain`."""
    refuse_transforms()
    options = Options(
        k, regions, region_nullspace, points, paths, length, value_range, picture_size, method,
        tolerance, time_limit, memory_limit,
    )  # fmt: skip
    options.check()
    source = Generator(generator, decode, fn_kwargs, seed)
    codes = z if isinstance(z, Tensor) else sampled(generator, z, seed)
    check_latents(codes)
    codes = codes.detach()
    m = codes[0].numel()
    k = options.directions(m)
    if names is not None:
        check(len(names) == m, "names", f"{m} names, one per coordinate", len(names))
    clock = Clock(math.inf if time_limit is None else time_limit)
    work = Work(
        source, Memory(memory_limit, codes.device), clock, progress, k, tolerance, seed,
        picture_size, codes.shape[1:], coupled,
    )  # fmt: skip
    masks, first = _looked_at(work, options, codes)
    found = at_points(work, codes, _prepared(work, options, codes), points)
    analysis = _finished(work, options, codes[: found.count], found, masks, first)
    analysis.names = None if names is None else list(names)
    return analysis


def _looked_at(
    work: Work, options: Options, codes: Tensor
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The masks of the regions, and the generator's outputs for the first code."""
    generator, m = work.generator, codes[0].numel()
    generator.refuse_batch_statistics()
    first = generator.look_at(codes[:1])
    if not options.regions:
        return {}, first
    check(generator.image is not None, "regions", "left out for outputs without images", "some")
    most = m - min(work.k, MORE)
    within = options.region_nullspace <= most
    check(within, "region_nullspace", f"at most {most}", options.region_nullspace)
    height, width = first[generator.image].shape[2:]  # type: ignore[index]
    return checked_masks(options.regions, height, width), first


def _prepared(work: Work, options: Options, codes: Tensor) -> Linearization:
    """The linearization at the first code, by which batch sizes and the method are set."""
    one, m, memory = work.linear(codes[:1]), codes[0].numel(), work.memory
    begin = work.clock.elapsed
    one.jvp(work.signs(m).to(one.dtype).reshape(1, *one.latent_shape))
    each = max(work.clock.elapsed - begin, 1e-9)  # seconds per tangent; clocks may be coarse
    whole = each * m * (1 if memory.holds_jacobian(one) else 2)
    in_time = whole * len(codes) <= _EXACT_SHARE * work.clock.limit
    suits = m <= _SURELY_EXACT or (m <= _AT_MOST_EXACT and in_time)
    work.exact = suits if options.method == "auto" else options.method == "exact"
    per_code = whole if work.exact else 2 * each * (work.k + MORE)
    together = min(memory.codes(one), len(codes), _BATCH_SHARE * work.clock.limit / per_code)
    work.codes = 1 if work.generator.draws else max(1, int(together))
    while work.exact and work.codes > 1 and not memory.holds_jacobian(one, work.codes):
        work.codes //= 2
    work.chunk = memory.chunk(one, work.codes)
    work.decoded = memory.images(one)
    return work.linear(codes[:1]) if work.chunk else one


def _finished(
    work: Work,
    options: Options,
    codes: Tensor,
    found: Points,
    masks: dict[str, Tensor],
    first: list[Tensor],
) -> Analysis:
    """The analysis that follows from the directions at codes."""
    k, latent = work.k, codes.shape[1:]
    mean = average(work, codes, found).head(k)
    shown = codes[: options.points]
    regions = in_regions(work, shown, masks, options.region_nullspace) if masks else {}
    values = torch.cat([each.values[:, : (None if work.exact else k)] for each in found.found])
    span = _range(work, options, shown)
    length = _length(work, options, values, codes, first, span)
    pictures = traced = None
    if span is not None:
        lengths = _lengths(options, length, values[:, :k], regions)
        pictures = _pictures.draw(work, shown, found, mean.vectors[0], regions, lengths, span)
    if options.paths:
        start = found.found[0].vectors[0]
        traced = eigenpaths(work, codes[:1], start, min(options.paths, k), 2 * length)
    traces = torch.cat(found.traces)
    return Analysis(
        codes=codes.cpu(),
        eigenvalues=values,
        eigenvectors=found.vectors(k).mT.reshape(-1, k, *latent),
        residuals=torch.cat([each.residuals[:, :k] for each in found.found]),
        traces=traces[:, 0],
        trace_errors=traces[:, 1],
        heatmap=found.mean_heatmap,
        average=_average_directions(mean, traces[:, 0], latent),
        common=_common_directions(found, k, latent),
        pictures=pictures,
        regions=regions,
        paths=traced,
        method="exact" if work.exact else "subspace",
        products=min(each.products for each in found.found),
        output_shapes=[tensor.shape[1:] for tensor in first],
        notes=work.notes,
        seconds=work.clock.elapsed,
        settings={
            **vars(options), "seed": work.seed, "length": length, "k": k, "regions": list(masks)
        },
    )  # fmt: skip


def _average_directions(mean: Leading, traces: Tensor, latent: torch.Size) -> Directions:
    total = traces.mean().clamp_min(torch.finfo(torch.float64).tiny)
    vectors = mean.vectors[0].mT.reshape(-1, *latent)
    shares = (mean.values[0] / total).clamp_max(1)
    return Directions(mean.values[0], vectors, shares, mean.residuals[0])


def _common_directions(found: Points, k: int, latent: torch.Size) -> Directions:
    values, vectors = common(found, k)
    return Directions(values, vectors.mT.reshape(-1, *latent), values)


def _range(work: Work, options: Options, shown: Tensor) -> tuple[float, float] | None:
    """The values drawn black and white, or None if the generator returns no images."""
    if work.generator.image is None:
        return None
    if options.value_range is not None:
        low, high = options.value_range
        return float(low), float(high)
    return _pictures.usual_range(work.images(shown))


def _lengths(
    options: Options, length: float, values: Tensor, regions: dict[str, Region]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The longest steps along directions, and along those of each region."""
    usual = values.median(0).values
    parts = {name: region.eigenvalues[0] for name, region in regions.items()}
    if options.length is not None:
        return usual.new_full((len(usual),), length), {
            name: part.new_full((len(part),), length) for name, part in parts.items()
        }
    strongest = float(usual[0])
    return _pictures.step_lengths(length, strongest, usual), {
        name: _pictures.step_lengths(length, strongest, part) for name, part in parts.items()
    }


def _length(
    work: Work,
    options: Options,
    values: Tensor,
    codes: Tensor,
    first: list[Tensor],
    span: tuple[float, float] | None,
) -> float:
    """The longest step along the first direction."""
    if options.length is not None:
        return float(options.length)
    if span is None:
        span = min(float(t.min()) for t in first), max(float(t.max()) for t in first)
    outputs = sum(tensor.numel() for tensor in first)
    extent = span[1] - span[0]
    return _pictures.step_length(values, outputs, extent if extent > 0 else 1.0, codes)
