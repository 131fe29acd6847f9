"""The official dSprites file."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from pydisent.data import sprites
from pydisent.data._base import FactorDataset
from pydisent.data._bits import ROW, WIDTH, pack_rows, unpack_rows
from pydisent.data._files import DAMAGED_NPY, require_path
from pydisent.data._npz import DAMAGED_ZIP, read_header

EXPECTED = "the official dSprites file (dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz)"
CHUNK = 4096


class DSprites(FactorDataset):
    """The official dSprites images, 1x64x64 binary, read from their .npz file.

    Images are streamed from the archive and kept as bits (377 MB for all 737 280, instead of 3 GB).
    The file's ``metadata`` entry is a pickled object and is never opened.

    Parameters
    ----------
    path : path
        The .npz file, with ``imgs`` (N, 64, 64) uint8 zeros and ones, and ``latents_classes``
        (N, 6) integers: colour (always 0), then the five factors, with the last one fastest.
    image_size : int, optional
        Side in pixels of the images returned; smaller ones are area averages of 64x64.
    factor_sizes : sequence of 5 int
        The grid; the official one by default.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, not a .npz file, truncated, or its arrays are not as above.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        image_size: int | None = None,
        factor_sizes: Sequence[int] = sprites.FACTOR_SIZES,
    ) -> None:
        file = require_path(path, EXPECTED, folder=False)
        super().__init__(
            "dsprites",
            (1, sprites.SIDE, WIDTH),
            sprites.FACTOR_NAMES,
            factor_sizes,
            image_size=image_size,
        )
        try:
            with zipfile.ZipFile(file) as archive:
                self._check_keys(archive)
                self._check_classes(archive)
                self._rows = self._read_images(archive)
        except (*DAMAGED_ZIP, *DAMAGED_NPY) as error:
            raise ValueError(f"path {str(file)!r} is not {EXPECTED}: {error}") from error

    def _read(self, indices: np.ndarray) -> Tensor:
        return unpack_rows(self._rows[indices])

    def _check_keys(self, archive: zipfile.ZipFile) -> None:
        found = {name.removesuffix(".npy") for name in archive.namelist()}
        missing = {"imgs", "latents_classes"} - found
        if missing:
            raise ValueError(f"it lacks {sorted(missing)} and has {sorted(found)}")

    def _check_classes(self, archive: zipfile.ZipFile) -> None:
        shape = (len(self), 1 + len(self.factor_sizes))
        with archive.open("latents_classes.npy") as entry:
            found, fortran, dtype = read_header(entry)
            if found != shape or not np.issubdtype(dtype, np.integer):
                raise ValueError(f"latents_classes must be {shape} integers, got {found} {dtype}")
            data = entry.read(math.prod(shape) * dtype.itemsize)
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise EOFError(f"latents_classes ends after {len(data)} bytes")
        classes = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
        grid = np.indices((1, *self.factor_sizes), dtype=classes.dtype).reshape(shape[1], -1).T
        if not np.array_equal(classes, grid):
            raise ValueError(
                f"latents_classes must run through the grid "
                f"{(1, *self.factor_sizes)} with the last factor fastest"
            )

    def _read_images(self, archive: zipfile.ZipFile) -> np.ndarray:
        with archive.open("imgs.npy") as entry:
            shape, fortran, dtype = read_header(entry)
            expected = (len(self), sprites.SIDE, WIDTH)
            if shape != expected or dtype != np.uint8 or fortran:
                raise ValueError(
                    f"imgs must be {expected} uint8 in C order; "
                    f"got {shape} {dtype}{' in Fortran order' if fortran else ''}"
                )
            rows = np.empty(shape[:2], ROW)
            for start in range(0, shape[0], CHUNK):
                block = rows[start : start + CHUNK]
                data = entry.read(len(block) * sprites.SIDE * WIDTH)
                pixels = np.frombuffer(data, np.uint8)
                if pixels.size != len(block) * sprites.SIDE * WIDTH:
                    raise EOFError(f"imgs ends within images {start} to {start + len(block)}")
                if pixels.max(initial=0) > 1:
                    raise ValueError(f"imgs must be zeros and ones, got {pixels.max()}")
                block[:] = pack_rows(pixels.reshape(-1, sprites.SIDE, WIDTH))
        return rows
