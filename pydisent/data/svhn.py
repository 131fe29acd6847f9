"""Street View House Numbers: the official cropped digits."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from pydisent.data._base import ArrayDataset
from pydisent.data._files import check_split, require_path
from pydisent.data._mat import read_arrays

SPLITS = ("train", "test", "extra")
EXPECTED = "a folder with SVHN's cropped digits: train_32x32.mat, test_32x32.mat or extra_32x32.mat"
SIDE = 32
MAX_IMAGES = 1_000_000  # more than all official ones together


class SVHN(ArrayDataset):
    """Digits of house numbers, 3x32x32 in [0, 1], with labels 0 to 9, from the official .mat files.

    Parameters
    ----------
    path : path
        The folder with train_32x32.mat, test_32x32.mat, extra_32x32.mat or some of them (MATLAB
        version 5, with ``X`` (32, 32, 3, N) uint8 and ``y`` (N, 1) from 1 to 10, which is digit 0).
    split : {"train", "test", "extra"}, optional
        The set to open, the training set by default.
    image_size : int, optional
        Side in pixels of the images returned: area averages if smaller, bilinear if larger.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, not a complete MATLAB file, or its arrays are not as above.
    ImportError
        If scipy is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        split: str | None = None,
        image_size: int | None = None,
    ) -> None:
        check_split(split, SPLITS)
        folder = require_path(path, EXPECTED)
        self.split = split or "train"
        file = folder / f"{self.split}_32x32.mat"
        if not file.is_file():
            raise FileNotFoundError(f"path {str(folder)!r} lacks {file.name}; expected {EXPECTED}")
        images, labels = read_digits(file)
        super().__init__("svhn", images, labels=torch.from_numpy(labels), image_size=image_size)


def read_digits(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read images (N, 3, 32, 32) uint8 and labels (N,) int64 from 0 to 9.

    Raises
    ------
    ValueError
        If the file is not a complete MATLAB file, or its arrays are not those of SVHN.
    """
    found = read_arrays(file, {"X": MAX_IMAGES * 3 * SIDE**2, "y": 8 * MAX_IMAGES}, "svhn")
    images, labels = found["X"], found["y"]
    if images.ndim == 3:  # MATLAB drops a last axis of 1
        images = images[..., None]
    if images.dtype != np.uint8 or images.shape[:3] != (SIDE, SIDE, 3) or images.ndim != 4:
        raise ValueError(
            f"{str(file)!r}: X must be ({SIDE}, {SIDE}, 3, N) uint8, got {found['X'].shape} "
            f"{images.dtype}"
        )
    count = images.shape[3]
    if not count:
        raise ValueError(f"{str(file)!r} must have at least 1 image; X is {images.shape}")
    if labels.shape != (count, 1):
        raise ValueError(f"{str(file)!r}: y must be ({count}, 1), as X, got {labels.shape}")
    if labels.dtype.kind not in "iuf" or not np.isin(labels, np.arange(1, 11)).all():
        raise ValueError(
            f"{str(file)!r}: y must be whole numbers from 1 to 10, got {labels.dtype} "
            f"{np.unique(labels)[:12].tolist()}"
        )
    digits = labels[:, 0].astype(np.int64) % 10
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), digits
