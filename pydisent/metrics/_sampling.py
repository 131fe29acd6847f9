"""Draws of images that share the value of one factor."""

from __future__ import annotations

import numpy as np

from ..data import FactorDataset

# Image numbers are 32-bit: the largest variant of z-diff draws forty million of them.
NUMBER = np.int32


def check_factor_dataset(dataset: FactorDataset) -> None:
    """Check that there are ground-truth factors to fix.

    Raises
    ------
    TypeError, ValueError
        If ``dataset`` is not a `FactorDataset`, or is too large to number in 32 bits.
    """
    if not isinstance(dataset, FactorDataset):
        raise TypeError(
            f"dataset must be a FactorDataset, with ground-truth factors; got "
            f"{type(dataset).__name__}"
        )
    if len(dataset) > np.iinfo(NUMBER).max:
        raise ValueError(f"dataset must have fewer than 2^31 images; got {len(dataset)}")


def check_counts(**counts: int) -> None:
    """Check that these counts are positive integers.

    Raises
    ------
    TypeError, ValueError
        If one is not; the message names it.
    """
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int | np.integer):
            raise TypeError(f"{name} must be an integer; got {count!r}")
        if count < 1:
            raise ValueError(f"{name} must be at least 1; got {count}")


def draw_sharing(
    dataset: FactorDataset, factor: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray:
    """Draw sets of images that share a uniformly drawn value of one factor, the rest uniform.

    Parameters
    ----------
    dataset : FactorDataset
        The grid.
    factor : numpy.ndarray
        (n,) the factor that each set shares.
    shape : tuple of int
        The shape (*s) of a set of images.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        (n, *s) int32 image numbers.
    """
    # number = (outer * size + value) * stride + inner, with stride the product of the sizes after
    # the factor: one integer drawn for (outer, inner) is uniform over all the other factors.
    sizes = dataset.factor_sizes
    out = np.empty((len(factor), *shape), NUMBER)
    for shared in np.unique(factor):
        sets = np.flatnonzero(factor == shared)
        size, stride = NUMBER(sizes[shared]), NUMBER(np.prod(sizes[shared + 1 :], dtype=int))
        value = rng.integers(0, size, size=(len(sets), *(1 for _ in shape)), dtype=NUMBER)
        others = rng.integers(0, len(dataset) // size, size=(len(sets), *shape), dtype=NUMBER)
        outer, inner = np.divmod(others, stride)
        out[sets] = (outer * size + value) * stride + inner
    return out
