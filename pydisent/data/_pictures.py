"""Picture files, decoded, cropped and resized once, then read from a single array."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
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
# Accepted formats; some others of Pillow's run programs (EPS).
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_BYTES = 2**30  # per file
MAX_PIXELS = 178_956_970  # Pillow's own limit, which can be changed


@dataclass(frozen=True)
class Preparation:
    """How a picture is prepared.

    Attributes
    ----------
    side : int
        Side in pixels: area averages if smaller, bilinear if larger.
    mode : {"RGB", "L"}
        Colour or grey; transparent pictures are composited on white.
    box : tuple of 4 int, optional
        Left, upper, right and lower edge of the crop; the largest centred square by default.
    source : tuple of 2 int, optional
        The only accepted width and height.
    mask : bool
        Whether to return a mask that is 0 where the picture is white and 1 elsewhere.
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
            If the file is damaged, not a picture, or not of the size `source`.
        """
        return self.prepare(open_picture(file, self.mode, self.source))

    def prepare(self, picture: Image) -> np.ndarray:
        """Return a decoded picture as (C, side, side) uint8."""
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
    """Prepared pictures, decoded once into the user's cache, or on each use without one.

    Parameters
    ----------
    name : str
        The data set's name, a prefix of the cached array's name.
    files : sequence of Path
        The pictures' files.
    preparation : Preparation
        How to prepare each picture.
    """

    def __init__(self, name: str, files: Sequence[Path], preparation: Preparation) -> None:
        self.name, self.files, self.preparation = name, tuple(files), preparation
        self.shape = (MODES[preparation.mode], preparation.side, preparation.side)
        self._decoded: np.ndarray | None = None
        self._looked = False

    def __len__(self) -> int:
        return len(self.files)

    def __getstate__(self) -> dict[str, Any]:
        """Omit the decoded pictures: a copy finds them in the cache."""
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
    """Images in files, in the order of `files`.

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
    """Images in files, one for each combination of factors, the last factor fastest.

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


class _DepthError(ValueError):
    """A picture has more than 8 bits per channel."""


def open_picture(file: Path, mode: str, source: tuple[int, int] | None = None) -> Image:
    """Return a decoded picture, upright, opaque and in `mode`; see `Preparation`.

    Raises
    ------
    ValueError
        If the file is damaged, not a picture, or not of the size `source`.
    """
    if not file.is_file():  # opening a pipe would hang
        there = kind_of(file) if file.exists() else "nothing there"
        raise ValueError(f"{str(file)!r} must be a whole picture: it is {there}")
    return _decoded(repr(str(file)), lambda: _stored(file), mode, source)


def decode_picture(name: str, stored: bytes, mode: str, most: int = MAX_PIXELS) -> Image:
    """Decode a picture from its file's bytes, of at most ``most`` pixels, like `open_picture`.

    Error messages begin with `name`.
    """
    return _decoded(name, lambda: stored, mode, None, most)


def _decoded(
    name: str,
    read: Callable[[], bytes],
    mode: str,
    source: tuple[int, int] | None,
    most: int = MAX_PIXELS,
) -> Image:
    try:
        with _open(read()) as opened:
            size = opened.size
            # The declared size is checked before memory is allocated.
            whole = size[0] * size[1] <= (most if source is None else math.prod(source))
            if whole:
                opened.load()
                picture = _plain(opened, mode)
                size = picture.size
    except MemoryError:
        raise
    except _DepthError as error:
        raise ValueError(f"{name} must be a picture of 8 bits a channel, got {error}") from None
    except Exception as error:  # Pillow raises many kinds of errors
        raise ValueError(f"{name} must be a whole picture: {error}") from error
    if not whole or source not in (None, size):
        accepted = f"of at most {most}" if source is None else f"{source[0]}x{source[1]}"
        raise ValueError(f"{name} must be {accepted} pixels, got {size[0]}x{size[1]}")
    return picture


def side_of(image_size: int | None) -> int:
    """Return the side in pixels, 64 by default."""
    return DEFAULT_SIDE if image_size is None else check_image_size(image_size)


def _stored(file: Path) -> bytes:
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"it has {size} bytes; at most {MAX_BYTES} are read")
    return file.read_bytes()


def _open(data: bytes) -> Image:
    with optional():
        from PIL import Image, UnidentifiedImageError

    # From a file, Pillow would read as much as a header claims; from bytes, only what exists.
    stored = io.BytesIO(data)
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
        raise _DepthError(f"mode {picture.mode!r}")
    upright = ImageOps.exif_transpose(picture)
    if upright.has_transparency_data:
        paper = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(paper, upright.convert("RGBA"))
    return upright.convert(mode)


def _centred_square(width: int, height: int) -> tuple[int, int, int, int]:
    side = min(width, height)
    left, upper = (width - side) // 2, (height - side) // 2
    return left, upper, left + side, upper + side
