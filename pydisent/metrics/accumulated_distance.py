"""Accumulated perceptual distance under rotation of two latent axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pydisent._checks import check_counts
from pydisent.metrics._decoded import Decoder, check_codes_tensor, check_distance, path_steps
from pydisent.metrics.perceptual import PerceptualDistance


def accumulated_distance(
    decode: Decoder,
    base_code: Tensor,
    dimensions: tuple[int, int],
    angles: Sequence[float],
    *,
    distance: PerceptualDistance | None = None,
    size: int = 16,
    span: float = 4.0,
    batch_size: int | None = None,
) -> np.ndarray:
    """Perceptual distance along one axis of a plane of codes, for each rotation of the plane.

    dis_cum(α) of Zhu et al. 2021 (Eq. 10, Fig. 3 d): the sum, over an N × N grid of (c1, c2), of
    the distances between the images at R(α)(c1, c2) and R(α)(c1 + 2 span / N, c2). For two
    disentangled dimensions it has local minima at multiples of 90°.

    Parameters
    ----------
    decode : callable
        From codes (N, d) to images (N, 1 or 3, H, W) in [0, 1], deterministic; called without grad.
    base_code : Tensor
        (d,) the code that supplies the other coordinates.
    dimensions : tuple of int
        The two coordinates c1 and c2, counted from 0.
    angles : sequence of float
        (A,) values of α in degrees.
    distance : PerceptualDistance, optional
        By default the length by `FixedFeatures`; the paper uses the squared distance of VGG16
        (LPIPS).
    size : int
        N: c2 takes N evenly spaced values from −span to span, c1 is cut into N steps.
    span : float
        Half the grid's width, > 0; 4 in the paper.
    batch_size : int, optional
        Images decoded and compared at a time, at least 2; by default 32, or fewer if large.

    Returns
    -------
    numpy.ndarray
        (A,) float64, >= 0.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or ``decode`` returns something other than N finite
        images.
    """
    if not isinstance(base_code, Tensor) or base_code.ndim != 1:
        raise ValueError(f"base_code must be a Tensor (d,), got {_shape(base_code)}")
    code = check_codes_tensor(base_code[None], "base_code")[0]
    first, second = _check_dimensions(dimensions, len(code))
    turns = np.radians(np.asarray(angles, dtype=np.float64))
    if turns.ndim != 1 or not turns.size or not np.isfinite(turns).all():
        raise ValueError(f"angles must be one finite number or more, got {angles!r}")
    check_counts(size=size)
    if not 0 < span < float("inf"):
        raise ValueError(f"span must be finite and above 0, got {span}")
    measure = check_distance(distance, squared=False)
    along = torch.linspace(-span, span, size + 1, dtype=torch.float64)
    across = torch.linspace(-span, span, size, dtype=torch.float64)
    cosine, sine = torch.from_numpy(np.cos(turns)), torch.from_numpy(np.sin(turns))

    def path(start: int, stop: int) -> Tensor:
        number = torch.arange(start, stop)
        line, point = number // len(along), number % len(along)
        turn, x, y = line // size, along[point], across[line % size]
        rows = code.repeat(len(number), 1)
        rows[:, first] = (cosine[turn] * x - sine[turn] * y).to(rows)
        rows[:, second] = (sine[turn] * x + cosine[turn] * y).to(rows)
        return rows

    steps = path_steps(decode, path, len(turns) * size, len(along), measure, batch_size)
    return steps.view(len(turns), -1).sum(1).numpy()


def _check_dimensions(dimensions: tuple[int, int], count: int) -> tuple[int, int]:
    accepted = f"two different integers in [0, {count})"
    if len(dimensions) != 2 or dimensions[0] == dimensions[1]:
        raise ValueError(f"dimensions must be {accepted}, got {dimensions}")
    for value in dimensions:
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"dimensions must be {accepted}, got {value!r}")
        if not 0 <= value < count:
            raise ValueError(f"dimensions must be {accepted}, got {dimensions}")
    return int(dimensions[0]), int(dimensions[1])


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
