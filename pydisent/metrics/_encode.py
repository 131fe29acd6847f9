"""Encoding of data sets, shared by several metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pydisent._checks import check_counts, check_tensor, shape_error
from pydisent.data import FactorDataset, ImageDataset, ObservedFactorDataset

Encoder = Callable[[Tensor], Tensor]

# Largest accepted code: beyond float32's range, variances overflow even in float64.
LARGEST = float(np.finfo(np.float32).max)
# Maximum number of images for looking up codes through a dense index, which is faster.
DENSE = 1 << 24


def encode_dataset(
    encode: Encoder,
    dataset: ImageDataset | EncodedDataset,
    indices: Sequence[int] | np.ndarray | Tensor | None = None,
    *,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Encode some or all images of a data set, in batches and without gradients.

    Parameters
    ----------
    encode : callable
        From images (N, C, H, W), float32 in [0, 1], to codes (N, d).
    dataset : ImageDataset
        The images, or codes to look up.
    indices : sequence of int, optional
        (N,) numbers of the images; None for all, in order.
    batch_size : int, optional
        Images per call of ``encode``; by default 64 on the CPU, so that a convolutional encoder's
        activations fit in its caches, and 1024 elsewhere.
    device : torch.device, optional
        The device of the images passed to ``encode``; the CPU by default.

    Returns
    -------
    Tensor
        (N, d) codes on the CPU, float64 if ``encode`` returns float64, else float32.

    Raises
    ------
    ValueError, TypeError
        If there are no images, ``batch_size`` is below 1, or ``encode`` does not return N finite
        codes of the same size for all images.
    """
    encoded = isinstance(dataset, EncodedDataset)
    read = dataset.codes if isinstance(dataset, EncodedDataset) else dataset.images
    if batch_size is None:
        on_cpu = torch.device(device or "cpu").type == "cpu"
        batch_size = 1 << 16 if encoded else 64 if on_cpu else 1024
    check_counts(batch_size=batch_size)
    numbers = torch.arange(len(dataset)) if indices is None else torch.as_tensor(indices)
    if numbers.ndim != 1:
        raise shape_error("indices", "(N,)", numbers)
    if not len(numbers):
        raise ValueError("indices must name at least one image, got none")
    codes = None
    with torch.no_grad():
        for start in range(0, len(numbers), batch_size):
            images = read(numbers[start : start + batch_size])
            batch = check_batch_codes(
                encode(images if device is None else images.to(device)), len(images)
            )
            if codes is None:
                codes = torch.empty(len(numbers), batch.shape[1], dtype=batch.dtype)
            if batch.shape[1] != codes.shape[1]:
                raise ValueError(
                    f"encode must return codes of one size, got {codes.shape[1]} for the first "
                    f"{start} images and {batch.shape[1]} after them"
                )
            codes[start : start + len(batch)] = batch
    assert codes is not None
    return codes


class EncodedDataset:
    """Codes of images with factors, so that metrics can share one encoding.

    Pass it with its `encode` in place of the data set and the encoder:
    ``factor_vae_score(codes.encode, codes)``.

    Parameters
    ----------
    source : FactorDataset or ObservedFactorDataset
        The data set.
    codes : Tensor or numpy.ndarray
        (n, d).
    pool : numpy.ndarray, optional
        (n,) ascending numbers of the encoded images; None for all.

    Raises
    ------
    TypeError, ValueError
        If ``codes`` are not real numbers, or not one row per encoded image.
    """

    def __init__(
        self,
        source: FactorDataset | ObservedFactorDataset,
        codes: Tensor | np.ndarray,
        pool: np.ndarray | None = None,
    ) -> None:
        if not isinstance(codes, Tensor | np.ndarray) or np.dtype("O") == codes.dtype:
            raise TypeError(f"codes must be a tensor or array (n, d), got {type(codes).__name__}")
        codes = torch.as_tensor(codes)
        count = len(source) if pool is None else len(pool)
        if codes.ndim != 2 or len(codes) != count:
            shape = tuple(codes.shape)
            raise ValueError(f"codes must be (n, d), n = {count} encoded images, got {shape}")
        self.source, self.name, self.factors = source, source.name, source.factors
        self.factor_names, self.factor_sizes = source.factor_names, source.factor_sizes
        self.pool = pool
        self._length, self._codes = len(source), codes

    def __len__(self) -> int:
        return self._length

    @staticmethod
    def encode(codes: Tensor) -> Tensor:
        """Return the codes (N, d) themselves."""
        return codes

    def codes(self, indices: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """Return the codes (N, d) of the images with the given numbers.

        Raises
        ------
        ValueError
            If one of them has not been encoded.
        """
        numbers = np.asarray(indices)
        if self.pool is None:
            return self._codes[numbers]
        rows = np.searchsorted(self.pool, numbers).clip(max=len(self.pool) - 1)
        if (self.pool[rows] != numbers).any():
            lacking = numbers[self.pool[rows] != numbers][0]
            raise ValueError(f"indices must be of images that were encoded, got {lacking}")
        return self._codes[rows]


#: Data with ground-truth factors, on a grid or observed, as images or as their codes.
FactorGrid = FactorDataset | ObservedFactorDataset | EncodedDataset


class CodeTable:
    """Codes of the images in some draws, looked up by image number.

    Parameters
    ----------
    encode, dataset, batch_size, device
        As for `encode_dataset`.
    draws : numpy.ndarray
        Image numbers, of any shape; each image is encoded once.
    """

    def __init__(
        self,
        encode: Encoder,
        dataset: ImageDataset | EncodedDataset,
        *draws: np.ndarray,
        batch_size: int | None,
        device: torch.device | str | None,
    ) -> None:
        self._row: Callable[[np.ndarray], np.ndarray]
        if len(dataset) <= DENSE:
            needed = np.zeros(len(dataset), bool)
            for draw in draws:
                needed[draw] = True
            numbers = np.flatnonzero(needed)
            self._row = (np.cumsum(needed, dtype=np.int32) - 1).__getitem__
        else:
            numbers = np.unique(np.concatenate([np.unique(draw) for draw in draws]))
            self._row = numbers.searchsorted
        codes = encode_dataset(encode, dataset, numbers, batch_size=batch_size, device=device)
        self.codes: np.ndarray = codes.numpy()

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, draws: np.ndarray) -> np.ndarray:
        return self.codes[self._row(draws)]


def check_batch_codes(codes: Tensor, count: int) -> Tensor:
    """Return the codes (N, d) of ``count`` images on the CPU, as float64 if given so, else float32.

    Raises
    ------
    TypeError, ValueError
        If they are not N finite real codes.
    """
    if not isinstance(codes, Tensor):
        raise TypeError(f"encode must return a Tensor, got {type(codes).__name__}")
    if codes.ndim != 2 or len(codes) != count or not codes.shape[1]:
        raise ValueError(
            f"encode must return codes (N, d) for N = {count} images, got {tuple(codes.shape)}"
        )
    check_tensor("encode's codes", codes)
    if codes.is_complex():
        raise TypeError(f"encode must return real codes, got {codes.dtype}")
    codes = codes.detach().cpu()
    codes = codes if codes.dtype == torch.float64 else codes.to(torch.float32)
    if not codes.isfinite().all():
        raise ValueError("encode must return finite codes, got NaN or infinity")
    if codes.dtype == torch.float64 and (largest := codes.abs().max().item()) > LARGEST:
        raise ValueError(f"encode must return codes within ±{LARGEST:.2g}, got ±{largest:.2g}")
    return codes
