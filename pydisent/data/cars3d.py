"""The rendered cars of Reed et al. (2015)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pydisent._checks import check
from pydisent.data._base import FactorDataset, resize
from pydisent.data._files import require_path
from pydisent.data._mat import read_arrays
from pydisent.data._pictures import side_of

EXPECTED = (
    "the folder cars of nips2015-analogy-data, with car_NNN_mesh.mat for each of 183 cars (or a "
    "folder with that folder cars or data/cars)"
)
FACTOR_NAMES = ("elevation", "azimuth", "car")
ELEVATIONS, AZIMUTHS, CARS = 4, 24, 183
SIDE = 128
SHAPE = (SIDE, SIDE, 3, AZIMUTHS, ELEVATIONS)


class Cars3D(FactorDataset):
    """Rendered cars in the order elevation, azimuth, car, 3 x side x side in [0, 1].

    The 17 568 official images of 128x128 are read at once and kept as bytes at the requested side,
    216 MB at 64. They are resized by area averages, where disentanglement_lib resizes to 64 with a
    Lanczos filter. Cars are ordered by file name.

    Parameters
    ----------
    path : path
        The folder with the .mat files (MATLAB version 5), each with ``im`` (128, 128, 3, 24, 4)
        uint8: rows, columns, channels, azimuths, elevations.
    image_size : int, optional
        Side in pixels of the images returned, 64 by default; smaller ones are area averages of
        128x128, larger ones bilinear.
    cars : int
        Required number of cars in the folder.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder has a different number of cars, or a file is not a complete MATLAB file, or
        its array is not as above; the message names it.
    ImportError
        If scipy is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        image_size: int | None = None,
        cars: int = CARS,
    ) -> None:
        side = side_of(image_size)
        files = find_cars(require_path(path, EXPECTED), cars)
        stored = min(side, SIDE)
        sizes = (ELEVATIONS, AZIMUTHS, cars)
        views = np.empty((*sizes, 3, stored, stored), np.uint8)
        super().__init__("cars3d", (3, stored, stored), FACTOR_NAMES, sizes, image_size=side)
        for number, file in enumerate(files):
            views[:, :, number] = _read_car(file, stored)
        self._array = views.reshape(len(self), 3, stored, stored)

    def _read(self, indices: np.ndarray) -> Tensor:
        return torch.from_numpy(self._array[indices]).to(torch.float32).div_(255)


def find_cars(folder: Path, count: int) -> list[Path]:
    """Return the files of ``count`` cars, ordered by name.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are none, or a different number.
    """
    places = (folder, folder / "cars", folder / "data" / "cars")
    found = next((f for place in places if (f := sorted(place.glob("car_*_mesh.mat")))), None)
    if found is None:
        raise FileNotFoundError(f"path {str(folder)!r} lacks car_NNN_mesh.mat; expected {EXPECTED}")
    if len(found) != count:
        raise ValueError(
            f"path {str(folder)!r} must have {count} files car_NNN_mesh.mat, got {len(found)}, the "
            f"last {found[-1].name!r}; expected {EXPECTED}"
        )
    return found


def _read_car(file: Path, side: int) -> np.ndarray:
    """Return the views of one car, (elevations, azimuths, 3, side, side) uint8."""
    array = read_arrays(file, {"im": int(np.prod(SHAPE))}, "cars3d")["im"]
    whole = array.shape == SHAPE and array.dtype == np.uint8
    check(whole, f"{str(file)!r}: im", f"{SHAPE} uint8", f"{array.shape} {array.dtype}")
    images = torch.from_numpy(np.ascontiguousarray(array.transpose(4, 3, 2, 0, 1)))
    if side < SIDE:
        small = resize(images.reshape(-1, *images.shape[2:]).float(), (side, side))
        images = small.round().to(torch.uint8).reshape(*images.shape[:3], side, side)
    return images.numpy()
