"""Codes shared by several metrics: of a whole data set, or samples with factors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from pydisent._checks import check, check_counts, check_integer
from pydisent.data import FactorDataset, ObservedFactorDataset
from pydisent.metrics._encode import CodeTable, EncodedDataset, Encoder, FactorGrid, encode_dataset
from pydisent.metrics._sampling import (
    NUMBER,
    check_factor_dataset,
    draw_pool,
    image_pool,
    observed,
)


def encode_once(
    encode: Encoder,
    dataset: FactorDataset | ObservedFactorDataset,
    *,
    max_images: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
) -> EncodedDataset:
    """Encode a data set for several metrics: ``z_diff(codes.encode, codes)``.

    Parameters
    ----------
    encode, dataset, batch_size, device
        As for `encode_dataset`.
    max_images : int, optional
        Encode this many images, drawn uniformly from all, and let metrics draw only from these;
        None, the metrics' definition, encodes all.
    seed : int
        Seed of the draw.

    Raises
    ------
    ValueError, TypeError
        As `encode_dataset` does, or if ``max_images`` is not a positive integer.
    """
    check_factor_dataset(dataset)
    pool = draw_pool(dataset, max_images, seed)
    codes = encode_dataset(encode, dataset, pool, batch_size=batch_size, device=device)
    return EncodedDataset(dataset, codes, pool)


class Samples(NamedTuple):
    """Codes (N, d) and factors (N, f) for training, and (M, d) and (M, f) for testing."""

    codes: np.ndarray
    factors: np.ndarray
    test_codes: np.ndarray
    test_factors: np.ndarray


def sample_codes(
    encode: Encoder,
    dataset: FactorGrid,
    *,
    train: int = 10_000,
    test: int = 5_000,
    seed: int = 0,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
) -> Samples:
    """Draw images uniformly and encode them, for metrics on tables.

    The images are all distinct if there are enough of them, so that training and test sets are
    disjoint. Otherwise images of a grid, which is complete, are drawn independently; images with
    observed factors, which are a sample, are each used once, two thirds for training and the others
    for testing.

    Parameters
    ----------
    encode : callable
        From images (N, C, H, W), float32 in [0, 1], to codes (N, d).
    dataset : FactorDataset or ObservedFactorDataset
        Images with their ground-truth factors, or their codes from `encode_once`.
    train, test : int
        Maximum numbers of samples.
    seed : int
        Determines the draw.
    batch_size : int, optional
        Images per call of ``encode``; see `encode_dataset`.
    device : torch.device, optional
        Device of the images passed to ``encode``; the CPU by default.

    Raises
    ------
    ValueError, TypeError
        If a count is not positive, or ``encode`` does not return finite (N, d) codes.
    """
    check_factor_dataset(dataset)
    check_counts(train=train, test=test)
    check_integer("seed", seed, at_least=0)
    pool = image_pool(dataset, None, seed)
    size = len(dataset) if pool is None else len(pool)
    rng = np.random.default_rng(seed)
    if train + test > size and observed(dataset) is not None:
        check(size >= 3, "dataset", "of at least 3 images, to train and to test on", size)
        train, test = 2 * size // 3, size - 2 * size // 3
    if train + test <= size:
        drawn = rng.choice(size, train + test, replace=False).astype(NUMBER)
    else:
        drawn = rng.integers(0, size, train + test, dtype=NUMBER)
    numbers = drawn if pool is None else pool[drawn]
    table = CodeTable(encode, dataset, numbers, batch_size=batch_size, device=device)
    codes, factors = table[numbers], dataset.factors(numbers).numpy()
    return Samples(codes[:train], factors[:train], codes[train:], factors[train:])
