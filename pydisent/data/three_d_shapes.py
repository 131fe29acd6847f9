"""The official 3D Shapes file."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pydisent._extras import optional
from pydisent.data import shapes3d
from pydisent.data._base import FactorDataset
from pydisent.data._cache import cached_array
from pydisent.data._files import require_path

if TYPE_CHECKING:
    from h5py import Dataset, File

EXPECTED = "the official 3D Shapes file (3dshapes.h5)"
# Errors that h5py raises for damaged files.
DAMAGED_HDF5 = (OSError, RuntimeError, KeyError, ValueError, TypeError)
LARGEST_CHUNK = 2**28  # bytes; reading any value unpacks its whole chunk
MAX_UNPACKED = 16384  # images unpacked at a time, 200 MB


class ThreeDShapes(FactorDataset):
    """The official 3D Shapes images, 3x64x64 in [0, 1], read from the .h5 file batch by batch.

    A file with chunked images, as the official one, is unpacked once into the user's cache (5.9 GB
    for all 480 000): an image spans many chunks, and a chunk many images. Without a cache every
    batch incurs that cost.

    Parameters
    ----------
    path : path
        The .h5 file, with ``images`` (N, 64, 64, 3) uint8 and ``labels`` (N, 6) float64, whose
        columns run through the values of `factor_names`, with the last one fastest.
    image_size : int, optional
        Side in pixels of the images returned; smaller ones are area averages of 64x64.
    factor_sizes : sequence of 6 int
        The grid; the official one by default.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, not a complete HDF5 file, or its arrays are not as above.
    ImportError
        If h5py is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        image_size: int | None = None,
        factor_sizes: Sequence[int] = shapes3d.FACTOR_SIZES,
    ) -> None:
        self.file = require_path(path, EXPECTED, folder=False)
        super().__init__(
            "3dshapes",
            (3, shapes3d.SIDE, shapes3d.SIDE),
            shapes3d.FACTOR_NAMES,
            factor_sizes,
            image_size=image_size,
        )
        self._stored_shape = (len(self), shapes3d.SIDE, shapes3d.SIDE, 3)
        self._unpacked: np.ndarray | None = None
        h5py = _h5py()
        try:
            with h5py.File(self.file, "r") as opened:
                images = self._array(opened, "images", self._stored_shape, np.uint8)
                labels = self._array(opened, "labels", (len(self), 6), np.float64)
                self._check_labels(labels[:])
                self._to_unpack = images.chunks is not None
        except DAMAGED_HDF5 as error:
            raise ValueError(f"path {str(self.file)!r} is not {EXPECTED}: {error}") from error

    def _array(self, opened: File, key: str, shape: tuple[int, ...], dtype: type) -> Dataset:
        found = opened.get(key)
        if not isinstance(found, _h5py().Dataset):
            raise ValueError(f"it lacks {key!r} and has {sorted(opened)}")
        if found.shape != shape or found.dtype != dtype:
            raise ValueError(
                f"{key} must be {shape} {np.dtype(dtype)}, got {found.shape} {found.dtype}"
            )
        if math.prod(found.chunks or ()) * found.dtype.itemsize > LARGEST_CHUNK:
            raise ValueError(f"{key} must have chunks of at most 256 MiB, got {found.chunks}")
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Omit the unpacked images: a copy finds them in the cache."""
        packed = self._to_unpack or self._unpacked is not None
        return {**self.__dict__, "_unpacked": None, "_to_unpack": packed}

    def _check_labels(self, labels: np.ndarray) -> None:
        """Raise unless the labels form a grid: each factor increasing, the last one fastest."""
        grid = labels.reshape(*self.factor_sizes, len(self.factor_sizes))
        for axis, name in enumerate(self.factor_names):
            column = np.moveaxis(grid[..., axis], axis, -1)
            values = column.reshape(-1, column.shape[-1])[0]
            if not (np.diff(values) > 0).all() or not (column == values).all():
                raise ValueError(
                    f"labels must run through the grid {self.factor_sizes} with the last factor "
                    f"fastest; those of {name} do not"
                )

    def _read(self, indices: np.ndarray) -> Tensor:
        if self._to_unpack and len(indices):
            made_from = (len(self), (self.file,))
            self._unpacked = cached_array(self.name, made_from, self._stored_shape, self._unpack)
            self._to_unpack = False
        if self._unpacked is not None:
            pixels = self._unpacked[indices]
        else:
            pixels = self._read_packed(indices)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32).div_(255)

    def _read_packed(self, indices: np.ndarray) -> np.ndarray:
        """Read from the file, which requires unique, sorted indices."""
        wanted, place = np.unique(indices, return_inverse=True)
        return self._slice(wanted)[place] if len(wanted) else np.empty((0, 64, 64, 3), np.uint8)

    def _unpack(self, out: np.ndarray) -> None:
        with _h5py().File(self.file, "r") as opened:
            step = min(opened["images"].chunks[0], MAX_UNPACKED)
        for start in range(0, len(self), step):
            out[start : start + step] = self._slice(slice(start, start + step))

    def _slice(self, rows: slice | np.ndarray) -> np.ndarray:
        try:
            with _h5py().File(self.file, "r") as opened:
                return opened["images"][rows]
        except DAMAGED_HDF5 as error:
            raise ValueError(f"path {str(self.file)!r} is damaged: {error}") from error


def _h5py() -> ModuleType:
    with optional("the data set 3dshapes"):
        import h5py
    return h5py
