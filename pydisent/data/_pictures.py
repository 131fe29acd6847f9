"""Pictures in files: decoded, cropped and resized once, then read from one array."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pydisent._extras import optional
from pydisent.data._base import FactorDataset, ImageDataset, check_image_size
from pydisent.data._cache import cached_array
from pydisent.data._files import kind_of

if TYPE_CHECKING:
    from PIL.Image import Image

DEFAULT_SIDE = 64
MODES = {"L": 1, "RGB": 3}
CHUNK = 1024
WHITE = 255
# Those of the file names that are read; of Pillow's others some start programs (EPS).
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MOST_BYTES = 2**30  # of a file
MOST_PIXELS = 178_956_970  # where Pillow, too, refuses, unless it is told not to


@dataclass(frozen=True)
class Preparation:
    """What is done to a picture before it is handed out.

    Attributes
    ----------
    side : int
        Pixels a side: smaller ones are area averages, larger ones bilinear.
    mode : {"RGB", "L"}
        Colour or grey; where a picture is transparent, it is put on white.
    box : tuple of 4 int, optional
        Left, upper, right and lower edge of the part that is kept; the largest centred square by
        default.
    source : tuple of 2 int, optional
        The only width and height accepted.
    mask : bool
        Whether grey becomes 1 where there is something and 0 where there is white paper.
    """

    side: int
    mode: str = "RGB"
    box: tuple[int, int, int, int] | None = None
    source: tuple[int, int] | None = None
    mask: bool = False

    def read(self, file: Path) -> np.ndarray:
        """Return a picture as (C, side, side) uint8.

        Raises
        ------
        ValueError
            If the file is damaged, is no picture, or has another size than `source`.
        """
        if not file.is_file():  # to open a pipe would hang
            there = kind_of(file) if file.exists() else "nothing there"
            raise ValueError(f"{str(file)!r} must be a whole picture: it is {there}")
        try:
            with _open(file) as opened:
                size = opened.size
                # What is declared is looked at before there is memory for it.
                whole = size[0] * size[1] <= self._most_pixels()
                if whole:
                    opened.load()
                    picture = _plain(opened, self.mode)
                    size = picture.size
        except MemoryError:
            raise
        except Exception as error:  # of such a file Pillow raises many kinds
            raise ValueError(f"{str(file)!r} must be a whole picture: {error}") from error
        if not whole or self.source not in (None, size):
            accepted = f"of at most {MOST_PIXELS}"
            if self.source is not None:
                accepted = f"{self.source[0]}x{self.source[1]}"
            raise ValueError(f"{str(file)!r} must be {accepted} pixels, got {size[0]}x{size[1]}")
        return self._pixels(picture)

    def _most_pixels(self) -> int:
        return MOST_PIXELS if self.source is None else math.prod(self.source)

    def _pixels(self, picture: Image) -> np.ndarray:
        with optional():
            from PIL import Image

        if self.mask:
            picture = picture.point(lambda value: WHITE * (value < WHITE))
        box = self.box or _centred_square(*picture.size)
        shrinks = self.side <= box[2] - box[0]
        method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
        resized = picture.crop(box).resize((self.side, self.side), method)
        if self.mask:
            resized = resized.point(lambda value: WHITE * (value > WHITE // 2))
        pixels = np.asarray(resized).reshape(self.side, self.side, -1)
        return pixels.transpose(2, 0, 1)


class Pictures:
    """The prepared pictures of some files, decoded once into the user's cache, or at each use.

    Parameters
    ----------
    name : str
        Of the data set; begins the name of the cached array.
    files : sequence of Path
        Where they are.
    preparation : Preparation
        What is done to each.
    """

    def __init__(self, name: str, files: Sequence[Path], preparation: Preparation) -> None:
        self.name, self.files, self.preparation = name, tuple(files), preparation
        self.shape = (MODES[preparation.mode], preparation.side, preparation.side)
        self._decoded: np.ndarray | None = None
        self._looked = False

    def __len__(self) -> int:
        return len(self.files)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the decoded pictures behind: a copy finds them in the cache."""
        return {**self.__dict__, "_decoded": None, "_looked": False}

    def read(self, indices: np.ndarray) -> Tensor:
        """Return pictures (N, C, side, side), float32 in [0, 1].

        Raises
        ------
        ValueError
            If a file is damaged; the message names it.
        """
        if not self._looked and len(indices):
            self._decoded = cached_array(
                self.name, (self.preparation, self.files), (len(self), *self.shape), self._decode
            )
            self._looked = True
        if self._decoded is not None:
            pixels = self._decoded[indices]
        else:
            pixels = np.empty((len(indices), *self.shape), np.uint8)
            self._read_into(pixels, [self.files[i] for i in indices])
        return torch.from_numpy(pixels).to(torch.float32).div_(255)

    def _decode(self, out: np.ndarray) -> None:
        for start in range(0, len(self), CHUNK):
            self._read_into(out[start : start + CHUNK], self.files[start : start + CHUNK])

    def _read_into(self, out: np.ndarray, files: Sequence[Path]) -> None:
        with ThreadPoolExecutor() as pool:
            for place, pixels in zip(out, pool.map(self.preparation.read, files)):
                place[:] = pixels


class PictureDataset(ImageDataset):
    """Images that are files, in the order of `files`.

    Parameters
    ----------
    pictures : Pictures
        The images.
    attributes, attribute_names
        As for `ImageDataset`.
    """

    def __init__(
        self,
        pictures: Pictures,
        *,
        attributes: Tensor | None = None,
        attribute_names: Sequence[str] = (),
    ) -> None:
        super().__init__(
            pictures.name,
            pictures.shape,
            len(pictures),
            attributes=attributes,
            attribute_names=attribute_names,
        )
        self._pictures = pictures

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the images' files."""
        return self._pictures.files

    def _read(self, indices: np.ndarray) -> Tensor:
        return self._pictures.read(indices)


class PictureGrid(FactorDataset):
    """Images that are files, one for every combination of some factors, last factor fastest.

    Parameters
    ----------
    pictures : Pictures
        The images.
    factor_names, factor_sizes
        As for `FactorDataset`.
    """

    def __init__(
        self, pictures: Pictures, factor_names: Sequence[str], factor_sizes: Sequence[int]
    ) -> None:
        super().__init__(pictures.name, pictures.shape, factor_names, factor_sizes)
        self._pictures = pictures

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the images' files."""
        return self._pictures.files

    def _read(self, indices: np.ndarray) -> Tensor:
        return self._pictures.read(indices)


def side_of(image_size: int | None) -> int:
    """Return the pixels a side that are meant: 64 by default."""
    return DEFAULT_SIDE if image_size is None else check_image_size(image_size)


def _open(file: Path) -> Image:
    with optional():
        from PIL import Image, UnidentifiedImageError

    size = file.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"it has {size} bytes; at most {MOST_BYTES} are read")
    # Of a file Pillow asks for as much as a part of it claims; of bytes it gets what is there.
    stored = io.BytesIO(file.read_bytes())
    Image.init()
    try:
        return Image.open(stored, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        raise ValueError(f"it is of none of the formats {', '.join(FORMATS)}") from None


def _plain(picture: Image, mode: str) -> Image:
    """Return a picture upright, opaque and in `mode`."""
    with optional():
        from PIL import Image, ImageOps

    if picture.mode[0] in "IF":
        raise ValueError(f"pixels must be bytes, got mode {picture.mode!r}")
    upright = ImageOps.exif_transpose(picture)
    if upright.has_transparency_data:
        paper = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(paper, upright.convert("RGBA"))
    return upright.convert(mode)


def _centred_square(width: int, height: int) -> tuple[int, int, int, int]:
    side = min(width, height)
    left, upper = (width - side) // 2, (height - side) // 2
    return left, upper, left + side, upper + side
