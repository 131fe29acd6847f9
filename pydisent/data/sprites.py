"""Rendered sprites: the factor grid of dSprites, drawn from geometry.

The geometry was calibrated on 320 frames of the official data: a pixel is white if its centre lies
inside the outline (no anti-aliasing); lengths are in pixels of the 64x64 image at scale 1; x runs
to the right and y down, and an outline's origin is its centre of rotation.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from pydisent.data._base import FactorDataset
from pydisent.data._bits import ROW, unpack_rows

FACTOR_NAMES = ("shape", "scale", "orientation", "x", "y")
FACTOR_SIZES = (3, 6, 40, 32, 32)
SIDE = 64
SCALES = np.linspace(0.5, 1.0, 6)
# Both ends are included, so the last orientation repeats the first, as in the official data.
ORIENTATIONS = np.linspace(0.0, 2.0 * np.pi, 40)
# Positions divide [16, 48] pixels; only the ends are whole pixels: 31 distinct sub-pixel shifts.
FIRST_CENTRE, TRAVEL, STEPS = 16, 32, 31

SQUARE_HALF_SIDE = 9.599
ELLIPSE_SEMI_AXES = (12.78, 7.22)
ELLIPSE_VERTICES = 64
# The right half of the heart: degrees from straight up, and distance from the origin.
HEART_ANGLES = (0, 3, *range(6, 169, 6), 172, 174, 176, 178, 180)
# fmt: off
HEART_RADII = (
    5.14, 6.03, 7.06, 8.38, 9.44, 10.23, 10.75, 11.07, 11.24, 11.26, 11.15, 10.90,
    10.54, 10.00, 9.42, 8.77, 8.15, 7.56, 7.09, 6.70, 6.39, 6.17, 6.01, 5.92,
    5.91, 5.95, 6.09, 6.30, 6.61, 7.14, 7.62, 7.96, 8.28, 8.79, 9.67,
)
# fmt: on

# A patch holds any sprite at any sub-pixel shift: the longest radius, the square's, is 13.58, and
# the nearest pixel centre outside the patch is 14.5 from the sprite's centre.
PATCH = 29


class Sprites(FactorDataset):
    """White squares, ellipses and hearts on black over the dSprites factor grid, 1x64x64 binary.

    Factors: shape (square, ellipse, heart), scale (0.5 to 1), orientation (0 to 2 pi, turning
    counter-clockwise, both ends included), x (left to right), y (top to bottom). Each of the 720
    shapes is drawn once at each of its 31x31 sub-pixel shifts, on first use, and kept as bits: 80
    MB when all are drawn.

    Parameters
    ----------
    image_size : int, optional
        Side in pixels of the images returned; smaller ones are area averages of 64x64.
    """

    def __init__(self, *, image_size: int | None = None) -> None:
        super().__init__(
            "sprites", (1, SIDE, SIDE), FACTOR_NAMES, FACTOR_SIZES, image_size=image_size
        )
        kinds = int(np.prod(FACTOR_SIZES[:3]))
        self._patches = np.zeros((kinds, STEPS, STEPS, PATCH), np.uint32)
        self._drawn = np.zeros(kinds, bool)

    def _read(self, indices: np.ndarray) -> Tensor:
        kind, position = np.divmod(indices, FACTOR_SIZES[3] * FACTOR_SIZES[4])
        for missing in np.unique(kind[~self._drawn[kind]]):
            shape, scale, orientation = np.unravel_index(missing, FACTOR_SIZES[:3])
            outline = SCALES[scale] * turn(outline_of(int(shape)), float(ORIENTATIONS[orientation]))
            self._patches[missing] = draw_patches(outline)
            self._drawn[missing] = True
        x, y = np.divmod(position, FACTOR_SIZES[4])
        (left, shift_x), (top, shift_y) = (np.divmod(TRAVEL * p, STEPS) for p in (x, y))
        first = FIRST_CENTRE - PATCH // 2
        rows = np.zeros((len(indices), SIDE), ROW)
        patch = self._patches[kind, shift_y, shift_x].astype(ROW)
        patch <<= (first + left).astype(ROW)[:, None]
        within = first + top[:, None] + np.arange(PATCH)
        np.put_along_axis(rows, within, patch, axis=1)
        return unpack_rows(rows)


def outline_of(shape: int) -> np.ndarray:
    """Return vertices (E, 2), as x and y, of square (0), ellipse (1) or heart (2) at scale 1."""
    if shape == 0:
        return SQUARE_HALF_SIDE * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
    if shape == 1:
        angle = 2 * np.pi * np.arange(ELLIPSE_VERTICES) / ELLIPSE_VERTICES
        return np.stack([np.cos(angle), np.sin(angle)], 1) * ELLIPSE_SEMI_AXES
    angle, radius = np.radians(HEART_ANGLES), np.array(HEART_RADII)
    right = np.stack([radius * np.sin(angle), -radius * np.cos(angle)], 1)
    return np.concatenate([right, right[-2:0:-1] * (-1, 1)])


def turn(outline: np.ndarray, angle: float) -> np.ndarray:
    """Turn an outline (E, 2) counter-clockwise as seen (y points down) by ``angle`` radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return outline @ np.array([[cosine, -sine], [sine, cosine]])


def draw_patches(outline: np.ndarray) -> np.ndarray:
    """Fill an outline (E, 2) at all sub-pixel shifts: (shift y, shift x, row) words of column bits.

    An edge that crosses a line of pixel centres flips all pixels left of the crossing; after all
    edges, the pixels inside are set (even-odd rule).
    """
    shifts = np.arange(STEPS) / STEPS
    first = 0.5 - PATCH // 2
    lines = (np.arange(PATCH) + first - shifts[:, None]).ravel()
    start, end = outline, np.roll(outline, -1, axis=0)
    below = lines[:, None] >= start[:, 1]
    line, edge = np.nonzero(below != np.roll(below, -1, axis=1))
    slope = (end - start)[edge, 0] / (end - start)[edge, 1]
    crossing = start[edge, 0] + (lines[line] - start[edge, 1]) * slope
    count = np.clip(np.ceil(crossing[:, None] - first + shifts), 0, PATCH).astype(np.uint32)
    flips = (np.uint32(1) << count) - np.uint32(1)
    patches = np.zeros((len(lines), STEPS), np.uint32)
    crossed, begin = np.unique(line, return_index=True)
    patches[crossed] = np.bitwise_xor.reduceat(flips, begin, axis=0)
    return patches.reshape(STEPS, PATCH, STEPS).transpose(0, 2, 1)
