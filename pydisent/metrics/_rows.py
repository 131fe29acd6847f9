"""Draws of images with observed factors."""

from __future__ import annotations

import numpy as np

from pydisent.metrics._encode import FactorGrid


def draw_from_rows(
    rows: np.ndarray,
    dataset: FactorGrid,
    factor: np.ndarray,
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw sets of images that share one factor's value, that of a uniformly drawn image.

    The images of a set are drawn uniformly and independently from those with the value, except that
    the two of a pair (a last axis of 2) are never the same: such a pair has no difference, and how
    often it occurs would reveal factors by their number of values. Values of only a single image
    are left out.

    Parameters
    ----------
    rows : numpy.ndarray
        (m,) numbers of the images to draw from.
    dataset, factor, shape, rng
        As for `draw_sharing`.

    Raises
    ------
    ValueError
        If fewer than two values are shared by several images; the message names the factor.
    """
    values = dataset.factors(rows).numpy()
    out = np.empty((len(factor), *shape), rows.dtype)
    for shared in np.unique(factor):
        sets = np.flatnonzero(factor == shared)
        column = values[:, shared]
        count = np.bincount(column)
        if (count > 1).sum() < 2:
            raise ValueError(
                f"dataset must have at least 2 values of {dataset.factor_names[shared]!r} that "
                f"several images have, got {(count > 1).sum()} among {len(rows)} images"
            )
        by_value, first = np.argsort(column, kind="stable"), np.cumsum(count) - count
        sharing = column[count[column] > 1]
        value = sharing[rng.integers(0, len(sharing), size=(len(sets), *(1 for _ in shape)))]
        nth = rng.integers(0, count[value], size=(len(sets), *shape))
        if shape[-1] == 2:
            apart = rng.integers(1, count[value], size=(len(sets), *shape[:-1], 1))
            nth[..., 1:] = (nth[..., :1] + apart) % count[value]
        out[sets] = rows[by_value[first[value] + nth]]
    return out
