"""TPL: perceptual length of latent traversals."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pydisent._checks import check_counts
from pydisent.metrics._decoded import Decoder, check_codes_tensor, check_distance, path_steps
from pydisent.metrics._result import MetricResult
from pydisent.metrics.perceptual import PerceptualDistance

# Batch size of a traversal's distances in the authors' evaluation of VAEs.
AUTHORS_BATCH = 25


def tpl(
    decode: Decoder,
    base_codes: Tensor,
    *,
    distance: PerceptualDistance | None = None,
    segments: int = 48,
    span: float = 4.0,
    threshold: float | None = None,
    compat: Literal["author_code"] | None = None,
    batch_size: int | None = None,
) -> MetricResult:
    """Traversal perceptual length (Zhu et al. 2021, Eqs. 11-12): lower is more disentangled.

    Each dimension is swept over [−span, span] with the others fixed at a base code; tpl_i is the
    sum of the perceptual distances of its segments, averaged over base codes, and the score is the
    sum of tpl_i over active dimensions, those with tpl_i >= threshold. A model that encodes little
    scores low as well: compare models with equally many active dimensions (the paper's "act > 4").

    Parameters
    ----------
    decode : callable
        From codes (N, d) to images (N, 1 or 3, H, W) in [0, 1], deterministic; called without grad.
    base_codes : Tensor
        (n, d) codes drawn from the prior N(0, I).
    distance : PerceptualDistance, optional
        By default the length by `FixedFeatures`; the paper uses the squared distance of VGG16
        (LPIPS).
    segments : int
        N, the number of intervals in a sweep; 48 in the paper's Tables 3 and 4.
    span : float
        Half the sweep's width, > 0.
    threshold : float, optional
        S, the minimum length of an active dimension; by default the distance's own. Published for
        LPIPS of VGG16: 0.3 for CelebA, 0.5 for FFHQ, 0.01 for VAEs on dSprites.
    compat : {"author_code"}, optional
        As in the authors' evaluation of VAEs: distances are computed in batches of 25 images, and
        the interval between two batches is omitted (of 49 segments 48 are summed); a dimension is
        active only above the threshold, not at it.
    batch_size : int, optional
        Images decoded and compared at a time, at least 2; by default 32, or fewer if large.

    Returns
    -------
    MetricResult
        Score, >= 0; details: ``per_dimension`` (d,) tpl_i, ``standard_error`` (d,) of each over
        base codes and ``score_standard_error`` of the score (None for one base code), the number of
        ``active`` dimensions, and the settings.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, the distance has no threshold of its own and none is
        given, or ``decode`` returns something other than N finite images.
    """
    codes = check_codes_tensor(base_codes, "base_codes")
    measure = check_distance(distance, squared=False)
    least = _check_settings(segments, span, threshold, compat, measure)
    steps = _traversals(decode, codes, segments, span, measure, batch_size)
    if compat:
        steps = steps[..., [k for k in range(segments) if (k + 1) % AUTHORS_BATCH]]
    lengths = steps.sum(-1)
    mean = lengths.mean(0)
    active = mean > least if compat else mean >= least
    return MetricResult(
        float(mean[active].sum()),
        {
            "per_dimension": mean.tolist(),
            "standard_error": _standard_error(lengths),
            "score_standard_error": _standard_error(lengths[:, active].sum(1)),
            "active": int(active.sum()),
            "threshold": least,
            "distance": measure.name,
            "notice": measure.notice,
            "segments": segments,
            "span": span,
            "samples": len(codes),
            "compat": compat,
        },
    )


def _standard_error(values: Tensor) -> float | list[float] | None:
    """Return the standard error of the mean over the rows (n, ...); None for one row."""
    return values.std(0).div(len(values) ** 0.5).tolist() if len(values) > 1 else None


def _check_settings(
    segments: int,
    span: float,
    threshold: float | None,
    compat: str | None,
    distance: PerceptualDistance,
) -> float:
    """Return the threshold."""
    check_counts(segments=segments)
    if not 0 < span < float("inf"):
        raise ValueError(f"span must be finite and above 0, got {span}")
    if compat not in (None, "author_code"):
        raise ValueError(f"compat must be 'author_code' or None, got {compat!r}")
    least = distance.threshold if threshold is None else threshold
    if least is None:
        raise ValueError(
            f"threshold must be given: distance {distance.name} has none of its own; published "
            "with LPIPS of VGG16: 0.3 for CelebA, 0.5 for FFHQ, 0.01 for VAEs on dSprites"
        )
    if not 0 <= least < float("inf"):
        raise ValueError(f"threshold must be finite and at least 0, got {least}")
    return float(least)


def _traversals(
    decode: Decoder,
    codes: Tensor,
    segments: int,
    span: float,
    distance: PerceptualDistance,
    batch_size: int | None,
) -> Tensor:
    """Return the distance of each segment of traversals from each code, (n, d, segments)."""
    count, dimensions = codes.shape
    points = segments + 1
    values = torch.linspace(-span, span, points, dtype=torch.float64).to(codes)

    def path(start: int, stop: int) -> Tensor:
        number = torch.arange(start, stop, device=codes.device)
        traversal, point = number // points, number % points
        rows = codes[traversal // dimensions].clone()
        rows[number - start, traversal % dimensions] = values[point]
        return rows

    steps = path_steps(decode, path, count * dimensions, points, distance, batch_size)
    return steps.view(count, dimensions, segments)
