"""Distances along paths of codes, decoded in batches of bounded size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pydisent._checks import check_counts
from pydisent.metrics.fixed_features import FixedFeatures
from pydisent.metrics.perceptual import PerceptualDistance, full_precision

Decoder = Callable[[Tensor], Tensor]

# Default batch: this many images, which fit in caches, but at most this many pixels in total.
IMAGES, PLACES = 32, 1 << 20


def check_distance(distance: PerceptualDistance | None, squared: bool) -> PerceptualDistance:
    """Return ``distance``, by default the fixed net's, squared or as a length.

    Raises
    ------
    TypeError
        If it is not a `PerceptualDistance`.
    """
    if distance is None:
        return FixedFeatures(squared=squared)
    if not isinstance(distance, PerceptualDistance):
        raise TypeError(
            f"distance must be a PerceptualDistance, such as perceptual_distance('fixed') gives; "
            f"got {type(distance).__name__}"
        )
    return distance


def check_codes_tensor(codes: Tensor, name: str) -> Tensor:
    """Return codes (n, d), checked, with n and d at least 1.

    Raises
    ------
    TypeError, ValueError
        If they are not a finite real Tensor of that shape; the message names the argument.
    """
    if not isinstance(codes, Tensor) or not codes.is_floating_point():
        kind = codes.dtype if isinstance(codes, Tensor) else type(codes).__name__
        raise TypeError(f"{name} must be a floating point Tensor, got {kind}")
    if codes.ndim != 2 or not codes.numel():
        raise ValueError(f"{name} must be (n, d), n and d at least 1, got {tuple(codes.shape)}")
    if not codes.isfinite().all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return codes.detach()


def decode_checked(decode: Decoder, codes: Tensor) -> Tensor:
    """Return the images (N, C, H, W) for codes (N, d), without gradients, in full precision.

    Raises
    ------
    TypeError, ValueError
        If ``decode`` returns something other than N finite images.
    """
    with torch.no_grad(), full_precision():
        images = decode(codes.clone())  # else a decoder that writes to its input would alter them
    if not isinstance(images, Tensor):
        raise TypeError(f"decode must return a Tensor, got {type(images).__name__}")
    if images.ndim != 4 or len(images) != len(codes):
        raise ValueError(
            f"decode must return images ({len(codes)}, C, H, W), got {tuple(images.shape)}"
        )
    if not images.isfinite().all():
        raise ValueError("decode must return finite images, got NaN or infinity")
    return images


def images_at_a_time(decode: Decoder, code: Tensor, batch_size: int | None) -> int:
    """Return ``batch_size``, or a default based on the size of the image for one code (1, d).

    Raises
    ------
    TypeError, ValueError
        If ``batch_size`` is not an integer >= 2, or ``decode`` returns no image.
    """
    if batch_size is None:
        height, width = decode_checked(decode, code).shape[2:]
        return max(2, min(IMAGES, PLACES // max(1, height * width)))
    check_counts(batch_size=batch_size)
    if batch_size < 2:
        raise ValueError(f"batch_size must be at least 2, got {batch_size}")
    return batch_size


def path_steps(
    decode: Decoder,
    path: Callable[[int, int], Tensor],
    paths: int,
    points: int,
    distance: PerceptualDistance,
    batch_size: int | None,
) -> Tensor:
    """Return the distance of each step along paths through the latent space.

    The paths are concatenated and decoded as a single sequence of points, in batches that overlap
    by one point, so that memory is bounded for any path length.

    Parameters
    ----------
    decode : callable
        From codes (N, d) to images (N, C, H, W) in [0, 1].
    path : callable
        From a first and a last point (exclusive), numbered through all paths, to their codes
        (N, d).
    paths, points : int
        Number of paths, and of points per path.
    distance : PerceptualDistance
        Distance between neighbouring points.
    batch_size : int, optional
        Images at a time, at least 2; by default fewer if they are large.

    Returns
    -------
    Tensor
        (paths, points − 1) float64 on the CPU.

    Raises
    ------
    TypeError, ValueError
        If ``batch_size`` is below 2, or ``decode`` returns something other than finite images.
    """
    size = images_at_a_time(decode, path(0, 1), batch_size)
    total = paths * points
    # One entry more per path than its steps: a path's last point precedes the next path's first.
    steps = torch.zeros(total, dtype=torch.float64)
    with torch.no_grad():
        for start in range(0, total - 1, size - 1):
            stop = min(start + size, total)
            images = decode_checked(decode, path(start, stop))
            steps[start : stop - 1] = distance.steps(images).cpu().double()
    if not steps.isfinite().all():
        raise ValueError(f"distance {distance.name} must be finite, got NaN or infinity")
    return steps.view(paths, points)[:, :-1].contiguous()
