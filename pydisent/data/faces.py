"""Rendered cartoon faces with 32 binary attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pydisent._checks import check, check_integer, check_one_of
from pydisent.data._base import ImageDataset
from pydisent.data._face_drawing import ATTRIBUTES, NUISANCE, paint
from pydisent.data._files import check_split
from pydisent.data._pictures import side_of
from pydisent.data._uniform import draw_uniform
from pydisent.data.indices import plain_array

# Each attribute's probability, independent of the others; hair has one of four colours.
DEFAULT_PROBABILITY = 0.25
PROBABILITIES = {
    "Bald": 0.2,
    "Bangs": 0.35,
    "Curly_Hair": 0.35,
    "Eyeglasses": 0.3,
    "Long_Hair": 0.4,
    "Mouth_Open": 0.4,
    "Smiling": 0.5,
}
HAIR_COLOURS = ("Black_Hair", "Blond_Hair", "Gray_Hair")
# Mutually exclusive attributes.
EXCLUSIVE = (HAIR_COLOURS, ("Bald", "Bangs"))
SPLITS = {"train": (0, 90), "validation": (90, 95), "test": (95, 100), "all": (0, 100)}  # percent
MAX_CACHED = 2**30  # bytes


class Faces(ImageDataset):
    """Cartoon faces, 3 x side x side in [0, 1], with ``attributes`` (N, 32) bool.

    The attributes follow CelebA's, and most have its names. A face is a function of only the seed
    and its number. Attributes are drawn independently of each other and of pose, light, colours and
    proportions, with probabilities from 0.2 to 0.5, with two exceptions: hair is black, blond, gray
    or of a colour without an attribute, with equal probability, and a bald head has no bangs. Each
    attribute is visible regardless of the others. Edges are anti-aliased by the fraction of a pixel
    that a straight edge covers.

    Faces are drawn on first use, and kept as bytes if all of them take less than 1 GB (246 MB for
    20 000 of 64x64).

    Parameters
    ----------
    length : int
        Number of faces in all splits together.
    seed : int
        Different seeds give different faces.
    image_size : int, optional
        Side in pixels at which faces are drawn, 64 by default.
    split : {"train", "validation", "test", "all"}, optional
        The first 90 % of the numbers (by default), the next 5 %, the last 5 %, or all.

    Attributes
    ----------
    nuisance_names : tuple of str
        Names of the 32 further values drawn for each face, uniform in [-1, 1].

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or range, or the split is empty.
    """

    nuisance_names = NUISANCE

    def __init__(
        self,
        *,
        length: int = 20_000,
        seed: int = 0,
        image_size: int | None = None,
        split: str | None = None,
    ) -> None:
        check_integer("length", length, at_least=1)
        check_integer("seed", seed, at_least=0)
        check_split(split, tuple(SPLITS))
        self.seed, self.side = int(seed), side_of(image_size)
        start, end = (share * int(length) // 100 for share in SPLITS[split or "train"])
        if start == end:
            raise ValueError(f"split {split or 'train'!r} is empty: length is {length}")
        self._first = start
        super().__init__(
            "faces",
            (3, self.side, self.side),
            end - start,
            attributes=torch.from_numpy(draw_attributes(self.seed, np.arange(start, end))),
            attribute_names=ATTRIBUTES,
        )
        self._kept = np.zeros((0, *self.image_shape), np.uint8)
        self._drawn: np.ndarray | None = None

    def nuisance(self, indices: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """Return pose, light, colours and proportions of given faces, (N, 32) float32 in [-1, 1].

        Raises
        ------
        TypeError, ValueError
            If ``indices`` are not integers, not one-dimensional, or outside [0, len).
        """
        numbers = self._first + self._check_indices(indices)
        return torch.from_numpy(draw_nuisance(self.seed, numbers))

    def render(self, attributes: Tensor | np.ndarray, nuisance: Tensor | np.ndarray) -> Tensor:
        """Render faces with given attributes and nuisance, (N, 3, side, side) float32 in [0, 1].

        ``render(ds.attributes[i], ds.nuisance(i))`` is ``ds.images(i)`` before rounding to bytes.
        `flip` changes attributes consistently, so that they can be rendered.

        Parameters
        ----------
        attributes : Tensor
            (N, 32) bool, columns as `attribute_names`.
        nuisance : Tensor
            (N, 32) floating point in [-1, 1], columns as `nuisance_names`.

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type, shape or range, or a face has mutually exclusive
            attributes.
        """
        wanted, values = _checked_attributes(attributes), _checked_nuisance(nuisance)
        rule = f"of {len(wanted)} rows, as attributes"
        check(len(wanted) == len(values), "nuisance", rule, len(values))
        return torch.from_numpy(paint(wanted, values, self.side))

    def flip(self, attributes: Tensor | np.ndarray, name: str) -> Tensor:
        """Return attributes (N, 32) with one attribute flipped in each row.

        Attributes that the new one excludes (a second hair colour; bangs on a bald head) are
        removed.

        Raises
        ------
        TypeError, ValueError
            If ``attributes`` are not (N, 32) bool without contradictions, or there is no such name.
        """
        check_one_of("name", name, ATTRIBUTES)
        flipped = _checked_attributes(attributes).copy()
        column = ATTRIBUTES.index(name)
        flipped[:, column] ^= True
        for group in EXCLUSIVE:
            for other in group if name in group else ():
                if other != name:
                    flipped[:, ATTRIBUTES.index(other)] &= ~flipped[:, column]
        return torch.from_numpy(flipped)

    def _read(self, indices: np.ndarray) -> Tensor:
        if self._drawn is None and len(self) * 3 * self.side**2 <= MAX_CACHED:
            self._kept = np.zeros((len(self), *self.image_shape), np.uint8)
            self._drawn = np.zeros(len(self), bool)
        if self._drawn is None:
            pixels = self._draw(indices)
        else:
            missing = np.unique(indices[~self._drawn[indices]])
            if missing.size:
                self._kept[missing] = self._draw(missing)
                self._drawn[missing] = True
            pixels = self._kept[indices]
        return torch.from_numpy(pixels).to(torch.float32).div_(255)

    def _draw(self, indices: np.ndarray) -> np.ndarray:
        numbers = self._first + indices
        attributes = draw_attributes(self.seed, numbers)
        pictures = paint(attributes, draw_nuisance(self.seed, numbers), self.side)
        pictures *= 255
        return np.rint(pictures, out=pictures).astype(np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        """Omit the drawn faces: a copy can draw them again."""
        return {**self.__dict__, "_kept": self._kept[:0], "_drawn": None}


def draw_attributes(seed: int, numbers: np.ndarray) -> np.ndarray:
    """Return the attributes (N, 32) bool of the faces with the given numbers."""
    uniform = draw_uniform(seed, numbers, np.arange(len(ATTRIBUTES)))
    chance = np.array([PROBABILITIES.get(name, DEFAULT_PROBABILITY) for name in ATTRIBUTES])
    drawn = uniform < chance
    place = {name: column for column, name in enumerate(ATTRIBUTES)}
    colour = np.floor(uniform[:, place[HAIR_COLOURS[0]]] * (len(HAIR_COLOURS) + 1))
    for number, name in enumerate(HAIR_COLOURS):
        drawn[:, place[name]] = colour == number
    drawn[:, place["Bangs"]] &= ~drawn[:, place["Bald"]]
    return drawn


def draw_nuisance(seed: int, numbers: np.ndarray) -> np.ndarray:
    """Return the nuisance values (N, 32) float32 in [-1, 1] of the faces with the given numbers."""
    columns = len(ATTRIBUTES) + np.arange(len(NUISANCE))
    return (2 * draw_uniform(seed, numbers, columns) - 1).astype(np.float32)


def _table(name: str, values: Tensor | np.ndarray, columns: int) -> np.ndarray:
    array = plain_array(values, name)
    if array.ndim != 2 or array.shape[1] != columns:
        raise ValueError(f"{name} must have shape (N, {columns}), got {array.shape}")
    return array


def _checked_attributes(attributes: Tensor | np.ndarray) -> np.ndarray:
    array = _table("attributes", attributes, len(ATTRIBUTES))
    if array.dtype != bool:
        raise TypeError(f"attributes must be bool, got {array.dtype}")
    for group in EXCLUSIVE:
        both = array[:, [ATTRIBUTES.index(name) for name in group]].sum(1) > 1
        if both.any():
            raise ValueError(
                f"attributes must be at most one of {', '.join(group)}, got more in row "
                f"{int(both.argmax())}"
            )
    return array


def _checked_nuisance(nuisance: Tensor | np.ndarray) -> np.ndarray:
    array = _table("nuisance", nuisance, len(NUISANCE))
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"nuisance must be floating point, got {array.dtype}")
    within = bool((np.abs(array) <= 1).all())
    check(within, "nuisance", "in [-1, 1]", "a value outside, or not finite")
    return array.astype(np.float32)
