"""smallNORB: photographs of toys by LeCun et al. (2004)."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch.nn import functional as F

from pydisent._checks import check
from pydisent.data._base import ArrayDataset
from pydisent.data._files import check_split, require_path
from pydisent.data._observed import ObservedFactorDataset
from pydisent.data._pictures import side_of

PARTS = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}
EXPECTED = "a folder with smallNORB's files, gzip or plain: " + " and ".join(
    f"{part}-{{dat,cat,info}}.mat[.gz]" for part in PARTS.values()
)
SIDE, CAMERAS = 96, 2
BYTES, INTEGERS = 0x1E3D4C55, 0x1E3D4C54  # magic numbers of the two kinds of matrices
CATEGORIES = ("animal", "human", "airplane", "truck", "car")
# Instances per category and part, elevations, azimuths, lightings: each combination once.
SIZES = (len(CATEGORIES), 5, 9, 18, 6)
FACTOR_NAMES = ("category", "elevation", "azimuth", "lighting")
PIECE = 256


class SmallNORB(ObservedFactorDataset):
    """Grey photographs of toys, 1 x side x side in [0, 1], with the factors of each.

    Images are those of the left of two cameras. Their factors are category, elevation, azimuth and
    lighting, as in disentanglement_lib. The toy within a category, one of five in each part, is not
    a factor: metrics that fix a factor draw it at random.

    Parameters
    ----------
    path : path
        The folder with the official files (binary matrices, not MATLAB's format, despite their
        names), gzip or plain.
    split : {"train", "test", "all"}, optional
        The official parts, each with 24 300 images and five toys per category; by default all, as
        in disentanglement_lib.
    image_size : int, optional
        Side in pixels of the images returned, 64 by default; smaller ones are area averages of
        96x96, larger ones bilinear. (disentanglement_lib resizes with a Lanczos filter.)
    sizes : tuple of int
        Categories, toys per category, elevations, azimuths and lightings in a part.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing, has an unexpected magic number, type or shape, or is truncated, or the
        parts' labels are not all combinations, once each; the message names it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        split: str | None = None,
        image_size: int | None = None,
        sizes: tuple[int, int, int, int, int] = SIZES,
    ) -> None:
        check_split(split, (*PARTS, "all"))
        side, folder = side_of(image_size), require_path(path, EXPECTED)
        self.split = split or "all"
        chosen = PARTS.values() if self.split == "all" else (PARTS[self.split],)
        parts = [_read_part(folder, part, sizes, min(side, SIDE)) for part in chosen]
        images = np.concatenate([images for images, _ in parts])
        values = np.concatenate([values for _, values in parts])
        meanings = [[str(value) for value in range(sizes[axis])] for axis in (0, 2, 3, 4)]
        meanings[0] = list(CATEGORIES[: sizes[0]])
        super().__init__(
            ArrayDataset("smallnorb", images[:, None], image_size=side),
            values,
            FACTOR_NAMES,
            meanings,
            classes=FACTOR_NAMES[:1],
            note="the toy is drawn at random",
        )


def _read_part(
    folder: Path, part: str, sizes: tuple[int, ...], side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, side, side) uint8 and factors (N, 4) of one part."""
    files = {kind: _find(folder, f"{part}-{kind}.mat") for kind in ("dat", "cat", "info")}
    count = math.prod(sizes)
    category = _read_matrix(files["cat"], INTEGERS, (count,))
    info = _read_matrix(files["info"], INTEGERS, (count, 4))
    # Azimuths are numbered 0, 2, ..., 34.
    factors = np.column_stack([category, info[:, 1], info[:, 2] // 2, info[:, 3]]).astype(np.int64)
    odd = info[:, 2] % 2 > 0
    for name, column, size in zip(FACTOR_NAMES, factors.T, (sizes[0], *sizes[2:])):
        file = files["cat" if name == "category" else "info"]
        fits = bool(((column >= 0) & (column < size)).all())
        fits = fits and not (name == "azimuth" and odd.any())
        steps = f"even and at most {2 * size - 2}" if name == "azimuth" else f"in [0, {size})"
        check(fits, f"{str(file)!r}: {name}", steps, "others")
    views = np.column_stack([factors, info[:, 0]])
    whole = len(np.unique(views, axis=0)) == count and len(np.unique(info[:, 0])) == sizes[1]
    rule = f"all combinations of {sizes[1]} toys with the categories and views, once each"
    check(whole, f"{str(files['info'])!r}: rows", rule, "others")
    return _read_images(files["dat"], count, side), factors


def _find(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.exists():
            return file
    raise FileNotFoundError(f"path {str(folder)!r} lacks {name}; expected {EXPECTED}")


def _read_images(file: Path, count: int, side: int) -> np.ndarray:
    """Return the left camera's images (N, side, side) uint8, read in pieces."""
    shape = (count, CAMERAS, SIDE, SIDE)
    images = np.empty((0, side, side), np.uint8)
    with _Matrix(file, BYTES, shape) as stored:
        pieces = []
        for start in range(0, count, PIECE):
            part = (min(PIECE, count - start), *shape[1:])
            pixels = np.frombuffer(stored.read(math.prod(part)), np.uint8).reshape(part)
            left = torch.from_numpy(pixels[:, :1].copy())
            if side < SIDE:
                left = F.interpolate(left.float(), (side, side), mode="area").round().byte()
            pieces.append(left[:, 0].numpy())
        images = np.concatenate([images, *pieces])
    return images


def _read_matrix(file: Path, magic: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return a matrix of 32-bit integers."""
    with _Matrix(file, magic, shape) as stored:
        return np.frombuffer(stored.read(4 * math.prod(shape)), "<i4").reshape(shape)


class _Matrix:
    """An open file, gzip or plain, with a checked header.

    Parameters
    ----------
    file : Path
        The file.
    magic : int
        The required magic number.
    shape : tuple of int
        The required shape.
    """

    def __init__(self, file: Path, magic: int, shape: tuple[int, ...]) -> None:
        self.file, self.magic, self.shape = require_path(file, EXPECTED, folder=False), magic, shape

    def __enter__(self) -> _Matrix:
        with self.file.open("rb") as beginning:
            packed = beginning.read(2) == b"\x1f\x8b"
        self._stored: IO[bytes] = gzip.open(self.file, "rb") if packed else self.file.open("rb")  # type: ignore[assignment]
        try:
            self._check_header()
        except BaseException:
            self._stored.close()
            raise
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if error is None:
                more = bool(self._read(1))
                check(not more, repr(str(self.file)), f"of no more than {self.shape}", "more bytes")
        finally:
            self._stored.close()

    def _check_header(self) -> None:
        words = np.frombuffer(self.read(8), "<u4")
        axes = len(self.shape)
        given = f"{words[0]:#x} with {words[1]} axes"
        fits = (int(words[0]), int(words[1])) == (self.magic, axes)
        check(fits, repr(str(self.file)), f"a matrix {self.magic:#x} with {axes} axes", given)
        # There are at least three sizes; those beyond the axes are ignored.
        shape = tuple(np.frombuffer(self.read(4 * max(3, axes)), "<u4")[:axes].tolist())
        check(shape == self.shape, repr(str(self.file)), f"of shape {self.shape}", shape)

    def read(self, count: int) -> bytes:
        """Read ``count`` bytes; ValueError, with the file's name, if there are fewer."""
        data = self._read(count)
        if len(data) != count:
            raise ValueError(f"{str(self.file)!r} is cut short: it ends within its {self.shape}")
        return data

    def _read(self, count: int) -> bytes:
        try:
            return self._stored.read(count)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{str(self.file)!r} is not a whole gzip file: {error}") from error
