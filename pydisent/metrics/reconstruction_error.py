"""Reconstruction error: mean loss between images and their reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pydisent._checks import check_counts
from pydisent.data import ImageDataset
from pydisent.metrics._result import MetricResult

# A float32 sigmoid yields exact zeros and ones, where the logarithm is infinite.
LEAST_CHANCE = 1e-6


def reconstruction_error(
    reconstruct: Callable[[Tensor], Tensor],
    dataset: ImageDataset,
    indices: Sequence[int] | np.ndarray | Tensor | None = None,
    *,
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> MetricResult:
    """Mean squared error per pixel between images and their reconstructions.

    Parameters
    ----------
    reconstruct : callable
        From images (N, C, H, W), float32 in [0, 1], to reconstructions of the same shape.
    dataset : ImageDataset
        The source of the images.
    indices : sequence of int, optional
        Numbers of the images; None for all.
    batch_size : int
        Images per call.
    device : torch.device, optional
        Device of the images passed to ``reconstruct``; the CPU by default.

    Returns
    -------
    MetricResult
        Score, 0 for perfect reconstruction; a pixel is one channel's value. Details: the standard
        error of the mean over images, ``per_image`` (summed over pixels), ``absolute_error`` per
        pixel, and ``bernoulli``, the cross-entropy per pixel in nats, with the reconstruction,
        clamped to [1e-6, 1 − 1e-6], as the probability of white.

    Raises
    ------
    ValueError, TypeError
        If there are no images, ``batch_size`` is below 1, or ``reconstruct`` does not return
        equally many finite images of the same shape.
    """
    check_counts(batch_size=batch_size)
    numbers = torch.arange(len(dataset)) if indices is None else torch.as_tensor(indices)
    if not len(numbers):
        raise ValueError("indices must name at least one image, got none")
    errors: list[Tensor] = []
    with torch.no_grad():
        for start in range(0, len(numbers), batch_size):
            images = dataset.images(numbers[start : start + batch_size])
            # A copy, as a model may write to its input.
            made = reconstruct(images.to(device=device, copy=True))
            errors.append(_errors(images, _checked(made, images)))
    squared, absolute, bernoulli = torch.cat(errors, 1)
    deviation = float(squared.std()) if len(squared) > 1 else float("nan")
    return MetricResult(
        float(squared.mean()),
        {
            "standard_error": deviation / len(squared) ** 0.5 if len(squared) > 1 else None,
            "per_image": float(squared.mean()) * int(np.prod(dataset.image_shape)),
            "absolute_error": float(absolute.mean()),
            "bernoulli": float(bernoulli.mean()),
            "images": len(squared),
        },
    )


def _errors(images: Tensor, made: Tensor) -> Tensor:
    """Return each image's mean squared, absolute and Bernoulli error, (3, N) float64."""
    x, p = images.flatten(1).double(), made.flatten(1).double()
    chance = p.clamp(LEAST_CHANCE, 1 - LEAST_CHANCE)
    bernoulli = -(x * chance.log() + (1 - x) * (-chance).log1p())
    return torch.stack([((x - p) ** 2).mean(1), (x - p).abs().mean(1), bernoulli.mean(1)])


def _checked(made: Tensor, images: Tensor) -> Tensor:
    if not isinstance(made, Tensor):
        raise TypeError(f"reconstruct must return a Tensor, got {type(made).__name__}")
    if made.is_complex():
        raise TypeError(f"reconstruct must return real images, got {made.dtype}")
    if made.shape != images.shape:
        raise ValueError(
            f"reconstruct must return images {tuple(images.shape)}, got {tuple(made.shape)}"
        )
    made = made.detach().cpu()
    if not made.isfinite().all():
        raise ValueError("reconstruct must return finite images, got NaN or infinity")
    return made
