"""LSUN: photographs of one category, from the official LMDB or a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pydisent._checks import check
from pydisent._extras import optional
from pydisent.data._base import ImageDataset
from pydisent.data._cache import cached_array
from pydisent.data._files import require_path
from pydisent.data._pictures import (
    CHUNK,
    PictureDataset,
    Pictures,
    Preparation,
    decode_picture,
    side_of,
)
from pydisent.data.images import pictures_below

EXPECTED = (
    "the LMDB folder of a category of LSUN, such as bedroom_train_lmdb with data.mdb, or a folder "
    "with pictures, in it or in folders below"
)
FILE = "data.mdb"
MAGIC = (0xBEEFC0DE).to_bytes(4, "little")
MAGIC_AT = 16  # bytes, after the header of the first page

# An LMDB may be opened only once per process.
_environments: dict[tuple[int, str], Any] = {}


def load_lsun(
    path: str | os.PathLike[str] | None, *, image_size: int | None = None
) -> ImageDataset:
    """Open a category of LSUN, 3 x side x side in [0, 1].

    Each picture is cropped to its largest centred square and resized. Pictures of an LMDB are
    ordered by the bytes of their keys, those of a folder by path, as in `Images`. They are decoded
    once into the user's cache if it has room (37 GB for the three million bedrooms at 64), else on
    each use.

    Parameters
    ----------
    path : path
        The LMDB's folder, or a folder of pictures.
    image_size : int, optional
        Side in pixels of the images returned, 64 by default: smaller ones are area averages,
        larger ones bilinear.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder is missing, has no pictures, or its data.mdb is not an LMDB or is truncated;
        reading a damaged picture raises a ValueError that names it.
    ImportError
        If the folder has a data.mdb and lmdb is not installed.
    """
    preparation = Preparation(side_of(image_size))
    folder = require_path(path, EXPECTED)
    if (folder / FILE).exists():
        return LSUN(folder, preparation)
    return PictureDataset(Pictures("lsun", pictures_below(folder, EXPECTED), preparation))


class LSUN(ImageDataset):
    """The pictures of an LMDB, ordered by key; see `load_lsun`."""

    def __init__(self, folder: Path, preparation: Preparation) -> None:
        self.folder, self._preparation = folder, preparation
        with _reading(folder) as transaction:
            self.keys = tuple(transaction.cursor().iternext(values=False))
        check(bool(self.keys), repr(str(folder / FILE)), "of at least 1 picture", "none")
        side = preparation.side
        super().__init__("lsun", (3, side, side), len(self.keys))
        self._decoded: np.ndarray | None = None
        self._looked = False

    def __getstate__(self) -> dict[str, Any]:
        """Omit the decoded pictures: a copy finds them in the cache."""
        return {**self.__dict__, "_decoded": None, "_looked": False}

    def _read(self, indices: np.ndarray) -> Tensor:
        if not self._looked and len(indices):
            made_from = (self._preparation, [self.folder / FILE])
            shape = (len(self), *self.image_shape)
            self._decoded = cached_array(self.name, made_from, shape, self._decode)
            self._looked = True
        if self._decoded is not None:
            pixels = self._decoded[indices]
        else:
            pixels = np.empty((len(indices), *self.image_shape), np.uint8)
            self._read_into(pixels, indices)
        return torch.from_numpy(pixels).to(torch.float32).div_(255)

    def _decode(self, out: np.ndarray) -> None:
        for start in range(0, len(self), CHUNK):
            part = out[start : start + CHUNK]
            self._read_into(part, np.arange(start, start + len(part)))

    def _read_into(self, out: np.ndarray, indices: np.ndarray) -> None:
        with _reading(self.folder) as transaction, ThreadPoolExecutor() as pool:
            stored = [(self.keys[i], transaction.get(self.keys[i])) for i in indices]
            for place, pixels in zip(out, pool.map(self._pixels, stored)):
                place[:] = pixels

    def _pixels(self, entry: tuple[bytes, bytes | None]) -> np.ndarray:
        key, stored = entry
        name = f"{str(self.folder / FILE)!r} key {key.decode(errors='replace')!r}"
        return self._preparation.prepare(decode_picture(name, stored or b"", "RGB"))


@contextmanager
def _reading(folder: Path) -> Iterator[Any]:
    """Yield a transaction; lmdb's errors become a ValueError that names the file."""
    try:
        with _open(folder).begin() as transaction:
            yield transaction
    except _lmdb().Error as error:
        raise ValueError(f"{str(folder / FILE)!r} is not a whole LMDB: {error}") from error


def _lmdb() -> ModuleType:
    with optional("the data set lsun"):
        import lmdb
    return lmdb


def _open(folder: Path) -> Any:
    """Open the LMDB in a folder, read-only.

    Raises
    ------
    ValueError
        If it is not an LMDB or is truncated: reading a missing page would kill the process.
    """
    lmdb = _lmdb()
    key = os.getpid(), os.path.realpath(folder)
    if key in _environments:
        return _environments[key]
    file = require_path(folder / FILE, EXPECTED, folder=False)
    with file.open("rb") as opened:
        header = opened.read(MAGIC_AT + len(MAGIC))
    right = header[MAGIC_AT:] == MAGIC
    check(right, repr(str(file)), "an LMDB of a 64-bit machine", "another file")
    found = lmdb.open(str(folder), readonly=True, lock=False, create=False, readahead=False)
    needed = (found.info()["last_pgno"] + 1) * found.stat()["psize"]
    size = file.stat().st_size
    if size < needed:
        found.close()
        raise ValueError(f"{str(file)!r} is cut short: it must have {needed} bytes, got {size}")
    _environments[key] = found
    return found
