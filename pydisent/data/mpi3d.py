"""MPI3D: a robot arm that holds objects, rendered and photographed."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pydisent.data._base import FactorDataset
from pydisent.data._cache import cached_array
from pydisent.data._files import DAMAGED_NPY, require_path
from pydisent.data._npz import DAMAGED_ZIP, map_stored, read_header

EXPECTED = (
    "an official MPI3D file (mpi3d_toy.npz, mpi3d_realistic.npz, mpi3d_real.npz or "
    "real3d_complicated_shapes_ordered.npz)"
)
FACTOR_NAMES = (
    "object_color",
    "object_shape",
    "object_size",
    "camera_height",
    "background_color",
    "horizontal_axis",
    "vertical_axis",
)
SIMPLE = (6, 6, 2, 3, 3, 40, 40)  # toy, realistic and real
COMPLEX = (4, 4, 2, 3, 3, 40, 40)  # real objects of complex shapes, and the earliest toy file
SIDE = 64
PIECE = 4096


class MPI3D(FactorDataset):
    """A robot arm with an object in its hand, 3x64x64 in [0, 1], from an official .npz file.

    Gondal et al. (2019): the toy, realistic and real sets have 6 object colours and 6 shapes, 1 036
    800 images; the set of complex shapes has 4 and 4, 460 800 images. The number of images
    determines which.

    Batches are read in place from an uncompressed archive. A compressed one is unpacked once into
    the user's cache (12.7 GB, or 5.7 GB).

    Parameters
    ----------
    path : path
        The .npz file, with ``images`` (N, 64, 64, 3) uint8, in the order of the factors, with the
        last one fastest.
    image_size : int, optional
        Side in pixels of the images returned; smaller ones are area averages of 64x64.
    factor_sizes : sequence of 7 int, optional
        The grid; by default whichever of the two has as many images.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, not a .npz file, or truncated, or its images are not as above; or,
        on first use, if it is compressed and there is no cache.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        image_size: int | None = None,
        factor_sizes: Sequence[int] | None = None,
    ) -> None:
        self.file = require_path(path, EXPECTED, folder=False)
        accepted = (SIMPLE, COMPLEX) if factor_sizes is None else (tuple(factor_sizes),)
        with self._archive() as archive:
            found = {name.removesuffix(".npy") for name in archive.namelist()}
            if "images" not in found:
                raise ValueError(f"it lacks ['images'] and has {sorted(found)}")
            self._about = archive.getinfo("images.npy")
            with archive.open(self._about) as entry:
                self._shape, fortran, dtype = read_header(entry)
                self._start = entry.tell()
            shapes = {(math.prod(sizes), SIDE, SIDE, 3): sizes for sizes in accepted}
            if self._shape not in shapes or dtype != np.uint8 or fortran:
                raise ValueError(
                    f"images must be {' or '.join(map(str, shapes))} uint8 in C order; got "
                    f"{self._shape} {dtype}{' in Fortran order' if fortran else ''}"
                )
            length = self._start + math.prod(self._shape)
            if self._about.file_size != length:
                raise EOFError(f"images must have {length} bytes, got {self._about.file_size}")
        sizes = shapes[self._shape]
        super().__init__("mpi3d", (3, SIDE, SIDE), FACTOR_NAMES, sizes, image_size=image_size)
        self._images: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Omit the images: a copy reopens them."""
        return {**self.__dict__, "_images": None}

    def _archive(self) -> _Archive:
        return _Archive(self.file)

    def _read(self, indices: np.ndarray) -> Tensor:
        if self._images is None:
            self._images = self._open()
        pixels = torch.from_numpy(self._images[indices])
        return pixels.permute(0, 3, 1, 2).to(torch.float32).div_(255)

    def _open(self) -> np.ndarray:
        if self._about.compress_type == zipfile.ZIP_STORED:
            return map_stored(self.file, self._about, self._start, self._shape)
        unpacked = cached_array(self.name, (self._shape, (self.file,)), self._shape, self._unpack)
        if unpacked is None:
            raise ValueError(
                f"path {str(self.file)!r} is compressed, and there is no cache with room for "
                f"{math.prod(self._shape)} bytes: set PYDISENT_CACHE to a folder that has it"
            )
        return unpacked

    def _unpack(self, out: np.ndarray) -> None:
        with self._archive() as archive, archive.open(self._about) as entry:
            entry.read(self._start)
            for start in range(0, len(out), PIECE):
                block = out[start : start + PIECE]
                data = entry.read(block.size)
                if len(data) != block.size:
                    raise EOFError(f"images ends within images {start} to {start + len(block)}")
                block[:] = np.frombuffer(data, np.uint8).reshape(block.shape)


class _Archive:
    """An open archive whose errors name the file."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> zipfile.ZipFile:
        try:
            self._opened = zipfile.ZipFile(self._file)
        except (*DAMAGED_ZIP, *DAMAGED_NPY) as error:
            raise self._named(error) from error
        return self._opened

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._opened.close()
        if isinstance(error, (*DAMAGED_ZIP, *DAMAGED_NPY)):
            raise self._named(error) from error

    def _named(self, error: BaseException) -> ValueError:
        return ValueError(f"path {str(self._file)!r} is not {EXPECTED}: {error}")
