"""Encoding, decoding and classification in batches, for metrics on edited codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pydisent.data import ImageDataset
from pydisent.data.indices import integer_array
from pydisent.metrics._decoded import Decoder, decode_checked
from pydisent.metrics._encode import Encoder, check_batch_codes
from pydisent.metrics.perceptual import full_precision

Classify = Callable[[Tensor], Tensor]
Device = torch.device | str | None
Images = Tensor | ImageDataset


def image_shape(images: Images) -> tuple[int, ...]:
    """Return (C, H, W)."""
    return tuple(images.shape[1:]) if isinstance(images, Tensor) else images.image_shape


def batches(images: Images, batch_size: int) -> Iterator[Tensor]:
    """Yield images (n, C, H, W) in order; those of a data set are read on demand."""
    if isinstance(images, Tensor):
        yield from images.split(batch_size)
        return
    for start in range(0, len(images), batch_size):
        yield images.images(np.arange(start, min(start + batch_size, len(images))))


def check_image_batch(images: Images, name: str = "images") -> None:
    """Check images (N, C, H, W); those of a data set are trusted.

    Raises
    ------
    TypeError, ValueError
        If they are not a finite floating point Tensor of that shape; the message names the
        argument.
    """
    if isinstance(images, ImageDataset):
        if not len(images):
            raise ValueError(f"{name} must be at least one image, got none")
        return
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"{name} must be a floating point Tensor, got {kind}")
    if images.ndim != 4 or not images.numel():
        raise ValueError(f"{name} must be (N, C, H, W), all at least 1, got {tuple(images.shape)}")
    if not images.isfinite().all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")


def check_columns(factors: Sequence[int] | np.ndarray | Tensor) -> np.ndarray:
    """Return the code's factor columns, (k,) int64, checked.

    Raises
    ------
    TypeError, ValueError
        If they are not integers, empty, negative, or repeated.
    """
    columns = integer_array(factors, "factors")
    if columns.ndim != 1 or not columns.size:
        raise ValueError(f"factors must be (k,) columns of the code, got shape {columns.shape}")
    if columns.min() < 0 or len(np.unique(columns)) < len(columns):
        raise ValueError(f"factors must be different columns, at least 0, got {columns.tolist()}")
    return columns


def encode_images(
    encode: Encoder, images: Images, columns: np.ndarray, batch_size: int, device: Device
) -> Tensor:
    """Return codes (N, d) on ``device``, checked to have the given columns.

    Raises
    ------
    TypeError, ValueError
        If ``encode`` returns something other than N finite codes, or they lack such a column.
    """
    codes = []
    with torch.no_grad(), full_precision():
        for part in batches(images, batch_size):
            # Copies, as encode may write to its input, and the next call to its last output.
            found = check_batch_codes(encode(part.to(device, copy=True)), len(part))
            codes.append(found.clone())
    if (wide := codes[0].shape[1]) <= columns.max():
        raise ValueError(
            f"factors must be below {wide}, the columns that encode gives, got {columns.max()}"
        )
    return torch.cat(codes).to(device)


def verdicts_on_reconstructions(
    decode: Decoder,
    codes: Tensor,
    images: Images,
    verdict: Classify,
    batch_size: int,
) -> tuple[Tensor, float]:
    """Return the verdict on each reconstruction, (N, ...), and their mean squared error per pixel.

    Raises
    ------
    TypeError, ValueError
        If ``decode`` returns something other than finite images of the shape of ``images``.
    """
    verdicts, error = [], 0.0
    for code, image in zip(codes.split(batch_size), batches(images, batch_size)):
        made = decode_checked(decode, code)
        if made.shape != image.shape:
            raise ValueError(
                f"decode must return images {tuple(image.shape)}, got {tuple(made.shape)}"
            )
        error += float((made.cpu().double() - image.cpu().double()).square().sum())
        verdicts.append(verdict(made))
    return torch.cat(verdicts), error / (len(codes) * math.prod(image_shape(images)))
