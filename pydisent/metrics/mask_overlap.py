"""Mask overlap: whether codes act on distinct regions."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from pydisent.data.indices import plain_array
from pydisent.metrics._result import MetricResult


def mask_overlap(masks: Tensor | np.ndarray) -> MetricResult:
    """Return the mean soft intersection over union of the masks of different codes.

    Each mask is divided by its maximum. The overlap of two masks m and n is then
    sum min(m, n) / sum max(m, n), which for binary masks is the usual ratio; an empty mask overlaps
    with none. The score is the mean over samples, then over pairs of codes.

    Parameters
    ----------
    masks : Tensor or ndarray
        (N, d, H, W) masks of N samples and d codes, in [0, 1].

    Returns
    -------
    MetricResult
        Score in [0, 1]: 0 if all masks are disjoint, 1 if all are identical; NaN for a single code.
        Details, means over samples: ``by_pair`` (d, d); ``peak`` (d,), the maximum; ``centre``
        (d, 2), the centre of mass, y and x from 0 (top, left) to 1; ``extent`` (d, 2), height and
        width, relative to the image's, of the uniform rectangle with the mask's standard
        deviations. Centre and extent are NaN for a code whose masks are all empty.

    Raises
    ------
    ValueError, TypeError
        If `masks` has another shape, is empty, or has values outside [0, 1].
    """
    values = plain_array(masks, "masks")
    if values.dtype.kind not in "buif":
        raise TypeError(f"masks must be real numbers, got {values.dtype}")
    values = values.astype(np.float64)
    if values.ndim != 4 or not values.size:
        raise ValueError(f"masks must be (N, d, H, W), all at least 1, got {values.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("masks must be finite and in [0, 1], got other values")
    peaks = values.max((2, 3))
    scaled = np.divide(values, peaks[..., None, None], where=(peaks > 0)[..., None, None],
                       out=np.zeros_like(values))  # fmt: skip
    by_pair = _pairs(scaled.reshape(*peaks.shape, -1))
    pairs = by_pair[np.triu_indices(len(by_pair), 1)]
    centre, extent = _places(scaled)
    return MetricResult(
        float(pairs.mean()) if len(pairs) else float("nan"),
        {
            "by_pair": by_pair.tolist(),
            "peak": peaks.mean(0).tolist(),
            "centre": centre.tolist(),
            "extent": extent.tolist(),
            "samples": len(values),
        },
    )


def _pairs(masks: np.ndarray) -> np.ndarray:
    """Return the overlaps (d, d) of masks (N, d, pixels), the mean over samples."""
    codes = masks.shape[1]
    overlaps = np.zeros((codes, codes))
    for i in range(codes):  # all pairs at once would hold d² masks per sample
        shared = np.minimum(masks[:, i, None], masks[:, i:]).sum(-1)
        union = np.maximum(masks[:, i, None], masks[:, i:]).sum(-1)
        ratio = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        overlaps[i, i:] = overlaps[i:, i] = ratio.mean(0)
    return overlaps


def _places(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return centre (d, 2) and extent (d, 2), means over the samples whose mask is not empty."""
    mass = masks.sum((2, 3))
    there = mass > 0
    count = np.where(there.any(0), there.sum(0), np.nan)
    centres, extents = [], []
    for axis in (2, 3):
        length = masks.shape[axis]
        weights = masks.sum(5 - axis)
        weights = np.divide(weights, mass[..., None], where=there[..., None],
                            out=np.zeros_like(weights))  # fmt: skip
        middle = (np.arange(length) + 0.5) / length
        first = weights @ middle
        # A pixel is an interval, not a point: n equal pixels in a row extend over n / length.
        variance = (weights * (middle - first[..., None]) ** 2).sum(-1) + 1 / (12 * length**2)
        centres.append((first * there).sum(0) / count)
        extents.append((np.sqrt(12 * variance) * there).sum(0) / count)
    return np.stack(centres, -1), np.stack(extents, -1)
