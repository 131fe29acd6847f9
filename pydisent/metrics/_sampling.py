"""Draws of images from a grid of factors, from observed factors, or from a fixed subset."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pydisent._checks import check_counts, check_integer
from pydisent.data import ObservedFactorDataset
from pydisent.metrics._encode import EncodedDataset, FactorGrid
from pydisent.metrics._rows import draw_from_rows

# Image numbers are 32-bit: the largest variant of z-diff draws forty million.
NUMBER = np.int32


def check_factor_dataset(dataset: FactorGrid) -> None:
    """Check that the data set has ground-truth factors.

    Raises
    ------
    TypeError, ValueError
        If ``dataset`` is neither a `FactorDataset` nor an `ObservedFactorDataset`, or is too large
        for 32-bit image numbers.
    """
    if not isinstance(dataset, FactorGrid):
        raise TypeError(
            f"dataset must be a FactorDataset, with ground-truth factors, or an "
            f"ObservedFactorDataset, with a table of them, got {type(dataset).__name__}"
        )
    if len(dataset) > np.iinfo(NUMBER).max:
        raise ValueError(f"dataset must have fewer than 2^31 images, got {len(dataset)}")


def observed(dataset: FactorGrid) -> ObservedFactorDataset | None:
    """Return the underlying data with observed factors; None for a grid."""
    source = dataset.source if isinstance(dataset, EncodedDataset) else dataset
    return source if isinstance(source, ObservedFactorDataset) else None


def check_varying(dataset: FactorGrid, columns: Iterable[int]) -> None:
    """Check that the shared factors take several values.

    Raises
    ------
    ValueError
        If one takes a single value; the message names it.
    """
    for column in columns:
        if (size := dataset.factor_sizes[column]) < 2:
            raise ValueError(
                f"dataset must have at least 2 values of each shared factor, got {size} "
                f"of {dataset.factor_names[column]!r}"
            )


def image_pool(dataset: FactorGrid, max_images: int | None, seed: int) -> np.ndarray | None:
    """Return the numbers of the images to draw from; None for all.

    An encoded data set has its own pool.

    Raises
    ------
    TypeError, ValueError
        If ``max_images`` is not a positive integer, or is given for an encoded data set.
    """
    if isinstance(dataset, EncodedDataset):
        if max_images is not None:
            raise ValueError(
                f"max_images must be None for a data set that is already encoded, got {max_images}"
            )
        return dataset.pool
    return draw_pool(dataset, max_images, seed)


def draw_pool(dataset: FactorGrid, max_images: int | None, seed: int) -> np.ndarray | None:
    """Draw ``max_images`` distinct image numbers, ascending; None if all images may be drawn."""
    if max_images is None:
        return None
    check_counts(max_images=max_images)
    check_integer("seed", seed, at_least=0)
    if max_images >= len(dataset):
        return None
    drawn = np.random.default_rng((seed, len(dataset))).choice(
        len(dataset), max_images, replace=False, shuffle=False
    )
    return np.sort(drawn).astype(NUMBER)


def draw_uniform(
    dataset: FactorGrid, count: int, rng: np.random.Generator, pool: np.ndarray | None = None
) -> np.ndarray:
    """Draw (count,) image numbers uniformly and independently."""
    drawn = rng.integers(0, len(dataset) if pool is None else len(pool), count, dtype=NUMBER)
    return drawn if pool is None else pool[drawn]


def draw_sharing(
    dataset: FactorGrid,
    factor: np.ndarray,
    shape: tuple[int, ...],
    rng: np.random.Generator,
    pool: np.ndarray | None = None,
) -> np.ndarray:
    """Draw sets of images that share a uniformly drawn value of one factor, uniform in the others.

    For observed factors, the value is that of a uniformly drawn image, and the set is drawn
    uniformly from all images with that value; see `ObservedFactorDataset`.

    Parameters
    ----------
    dataset : FactorDataset or ObservedFactorDataset
        The images, possibly encoded.
    factor : numpy.ndarray
        (n,) the factor that each set shares.
    shape : tuple of int
        The shape (*s) of a set of images.
    rng : numpy.random.Generator
        Source of randomness.
    pool : numpy.ndarray, optional
        The images to draw from; all by default.

    Returns
    -------
    numpy.ndarray
        (n, *s) int32 image numbers.

    Raises
    ------
    ValueError
        If the pool has no image with one of a factor's values; or if fewer than two values of an
        observed factor are shared by several images.
    """
    if observed(dataset) is not None:
        rows = np.arange(len(dataset), dtype=NUMBER) if pool is None else pool
        return draw_from_rows(rows, dataset, factor, shape, rng)
    if pool is not None:
        return _draw_sharing_from(pool, dataset, factor, shape, rng)
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


def _draw_sharing_from(
    pool: np.ndarray,
    dataset: FactorGrid,
    factor: np.ndarray,
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> np.ndarray:
    values = dataset.factors(pool).numpy()
    out = np.empty((len(factor), *shape), NUMBER)
    for shared in np.unique(factor):
        sets = np.flatnonzero(factor == shared)
        size = dataset.factor_sizes[shared]
        count = np.bincount(values[:, shared], minlength=size)
        if not count.all():
            raise ValueError(
                f"max_images must leave an image of each factor's every value; {len(pool)} leave "
                f"none with {dataset.factor_names[shared]} = {count.argmin()}"
            )
        by_value, first = np.argsort(values[:, shared], kind="stable"), np.cumsum(count) - count
        value = rng.integers(0, size, size=(len(sets), *(1 for _ in shape)))
        nth = rng.integers(0, count[value], size=(len(sets), *shape))
        out[sets] = pool[by_value[first[value] + nth]]
    return out
