"""PPL: rate of perceptual change along paths between codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pydisent._checks import check_counts, check_integer, check_one_of
from pydisent.metrics._decoded import (
    Decoder,
    check_codes_tensor,
    check_distance,
    decode_checked,
    images_at_a_time,
)
from pydisent.metrics._result import MetricResult
from pydisent.metrics.perceptual import PerceptualDistance

# Percentiles beyond which distances count as outliers.
KEPT = (1, 99)


def ppl(
    decode: Decoder,
    sample: Callable[[int], Tensor],
    *,
    distance: PerceptualDistance | None = None,
    pairs: int = 10_000,
    epsilon: float = 1e-4,
    sampling: Literal["endpoints", "full"] = "endpoints",
    interpolation: Literal["lerp", "slerp"] = "lerp",
    seed: int = 0,
    batch_size: int | None = None,
) -> MetricResult:
    """Perceptual path length (Karras et al. 2019): lower is smoother.

    The mean of dis(G(p(t)), G(p(t + ε))) / ε² over paths p between pairs of codes from the prior,
    excluding distances below the 1st and above the 99th percentile. As the distance is squared,
    this is the mean of a squared speed. PS-SC's scores are for straight paths at their start
    (StyleGAN2's ppl2_wend, 50 000 pairs, with codes in the role of w), the default here; those of
    the Hessian penalty are for spherical paths (zend, 100 000 pairs, images enlarged to 256 × 256).

    Distances are computed in float64. The decoder's own rounding, of relative size r, adds about
    (r/ε)² to a squared speed of order one: 1e-6 in float32, but 1e3 in bfloat16, for which no ε
    works.

    Parameters
    ----------
    decode : callable
        From codes (N, d) to images (N, 1 or 3, H, W) in [0, 1], deterministic; called without grad.
    sample : callable
        From a number n to n codes (n, d) from the prior; called once.
    distance : PerceptualDistance, optional
        A squared distance; by default that of `FixedFeatures`. Published scores use LPIPS of VGG16.
    pairs : int
        Number of pairs of codes.
    epsilon : float
        Step of the path's parameter, in (0, 1).
    sampling : {"endpoints", "full"}
        t = 0, or t uniform in [0, 1].
    interpolation : {"lerp", "slerp"}
        Straight paths, or great circles whose radius changes linearly from one code's norm to the
        other's (StyleGAN discards the norm, as its mapping network normalises z).
    seed : int
        Seed of t.
    batch_size : int, optional
        Images decoded at a time, at least 2; by default 32, or fewer if large.

    Returns
    -------
    MetricResult
        Score, >= 0; details: ``standard_error`` of the mean over kept pairs (None for one), the
        number of ``kept`` pairs, and the settings.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, the distance is not squared, ``sample`` returns
        something other than 2 · pairs codes, or ``decode`` something other than N finite images.
    """
    measure = _check_settings(distance, pairs, epsilon, sampling, interpolation)
    check_integer("seed", seed, at_least=0)
    codes = check_codes_tensor(sample(2 * pairs), "sample's codes")
    if len(codes) != 2 * pairs:
        raise ValueError(f"sample must return {2 * pairs} codes, got {len(codes)}")
    rng = np.random.default_rng(seed)
    t = torch.from_numpy(rng.random(pairs) if sampling == "full" else np.zeros(pairs))
    way = _lerp if interpolation == "lerp" else _slerp
    size = images_at_a_time(decode, codes[:1], batch_size) // 2
    first, second = codes[:pairs], codes[pairs:]
    parts = []
    for start in range(0, pairs, size):
        chosen = slice(start, start + size)
        parts.append(
            _speeds(decode, way, first[chosen], second[chosen], t[chosen], epsilon, measure)
        )
    kept = _without_outliers(torch.cat(parts).numpy(), measure.name)
    error = float(kept.std(ddof=1) / len(kept) ** 0.5) if len(kept) > 1 else None
    return MetricResult(
        float(kept.mean()),
        {
            "standard_error": error,
            "kept": len(kept),
            "pairs": pairs,
            "epsilon": epsilon,
            "sampling": sampling,
            "interpolation": interpolation,
            "distance": measure.name,
            "notice": measure.notice,
            "seed": seed,
        },
    )


def _check_settings(
    distance: PerceptualDistance | None,
    pairs: int,
    epsilon: float,
    sampling: str,
    interpolation: str,
) -> PerceptualDistance:
    check_counts(pairs=pairs)
    if not 0 < epsilon < 1:
        raise ValueError(f"epsilon must be above 0 and below 1, got {epsilon}")
    check_one_of("sampling", sampling, ("endpoints", "full"))
    check_one_of("interpolation", interpolation, ("lerp", "slerp"))
    measure = check_distance(distance, squared=True)
    if not measure.squared:
        raise ValueError(
            f"distance must be squared, as it is divided by epsilon², got {measure.name}"
        )
    return measure


def _speeds(
    decode: Decoder,
    way: Callable[[Tensor, Tensor, Tensor], Tensor],
    first: Tensor,
    second: Tensor,
    t: Tensor,
    epsilon: float,
    distance: PerceptualDistance,
) -> Tensor:
    """Return the squared speed of each pair, (n,) float64 on the CPU."""
    wide = (first.cpu().double(), second.cpu().double())
    codes = torch.cat([way(*wide, t[:, None]), way(*wide, t[:, None] + epsilon)])
    images = decode_checked(decode, codes.to(first))
    # Metal has no float64.
    images = images.cpu() if images.device.type == "mps" else images
    with torch.no_grad():
        distances = distance.distance(*images.double().chunk(2))
    return distances.cpu().double() / epsilon**2


def _without_outliers(speeds: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(speeds).all():
        raise ValueError(f"distance {name} must be finite, got NaN or infinity")
    low = np.percentile(speeds, KEPT[0], method="lower")
    high = np.percentile(speeds, KEPT[1], method="higher")
    return speeds[(low <= speeds) & (speeds <= high)]


def _lerp(first: Tensor, second: Tensor, t: Tensor) -> Tensor:
    return first + t * (second - first)


def _slerp(first: Tensor, second: Tensor, t: Tensor) -> Tensor:
    norms = [v.norm(dim=1, keepdim=True).clamp_min(1e-300) for v in (first, second)]
    one, other = (v / norm for v, norm in zip((first, second), norms))
    cosine = (one * other).sum(1, keepdim=True).clamp(-1, 1)
    across = other - cosine * one
    # Parallel codes span no plane of rotation, and have no angle (or any, if opposite).
    across = across / across.norm(dim=1, keepdim=True).clamp_min(1e-12)
    angle = t * cosine.acos()
    return (one * angle.cos() + across * angle.sin()) * _lerp(norms[0], norms[1], t)
