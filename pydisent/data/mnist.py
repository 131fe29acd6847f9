"""MNIST and other data in idx files."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pydisent.data._base import ArrayDataset
from pydisent.data._files import check_split, require_path

PREFIXES = {"train": "train", "test": "t10k"}
EXPECTED = (
    "a folder with MNIST's idx files, gzip or plain: train-images-idx3-ubyte[.gz] and "
    "train-labels-idx1-ubyte[.gz], or t10k-images-idx3-ubyte[.gz] and t10k-labels-idx1-ubyte[.gz], "
    "in it or in its folder MNIST/raw"
)
BELOW = ("MNIST/raw", "raw")  # where torchvision puts them
SIDE, PADDED = 28, 32
MAX_UNPACKED = 2**30  # bytes; larger than any published data in this format
PIECE = 2**20


class MNIST(ArrayDataset):
    """Handwritten digits, 1x28x28 in [0, 1], with labels 0 to 9, from idx files in a folder.

    Parameters
    ----------
    path : path
        The folder with the training files, the test files (t10k-) or both, gzip or plain; or a
        folder with torchvision's MNIST/raw.
    split : {"train", "test"}, optional
        The set to open; by default the training set if it exists, else the test set.
    image_size : int, optional
        32 pads two black pixels on each side; any other size resizes, by area averages if smaller,
        bilinear if larger.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing, has a wrong magic number or shape, no images, or the wrong length,
        the numbers of images and labels differ, or a label is above 9.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        split: str | None = None,
        image_size: int | None = None,
    ) -> None:
        check_split(split, tuple(PREFIXES))
        folder = require_path(path, EXPECTED)
        self.split = split or ("train" if find(folder, "train", "images", 3) else "test")
        files = []
        for kind, axes in (("images", 3), ("labels", 1)):
            file = find(folder, PREFIXES[self.split], kind, axes)
            if file is None:
                raise FileNotFoundError(
                    f"path {str(folder)!r} lacks the {self.split} {kind}; expected {EXPECTED}"
                )
            files.append(file)
        images, labels = read_idx(files[0], 3), read_idx(files[1], 1)
        if images.shape[1:] != (SIDE, SIDE):
            raise ValueError(
                f"{str(files[0])!r}: images must be {SIDE}x{SIDE}, got {images.shape[1:]}"
            )
        if not len(images):
            raise ValueError(f"{str(files[0])!r} must have at least 1 image, got none")
        if len(images) != len(labels):
            raise ValueError(
                f"path {str(folder)!r} has {len(images)} {self.split} images but "
                f"{len(labels)} labels"
            )
        if labels.max(initial=0) > 9:
            raise ValueError(f"{str(files[1])!r}: labels must be 0 to 9, got {labels.max()}")
        super().__init__(
            "mnist",
            images[:, None],
            labels=torch.from_numpy(labels.astype(np.int64)),
            image_size=image_size,
        )

    def _fit(self, images: Tensor) -> Tensor:
        if self._size == (PADDED, PADDED):
            return F.pad(images, 4 * ((PADDED - SIDE) // 2,))
        return super()._fit(images)


def find(folder: Path, prefix: str, kind: str, axes: int) -> Path | None:
    """Find the idx file of this kind in ``folder`` or its MNIST/raw, preferring plain, else None.

    Names are those of the published files, with either "-" or "." before "idx".
    """
    for place in (folder, *(folder / below for below in BELOW)):
        for separator in "-.":
            for suffix in ("", ".gz"):
                file = place / f"{prefix}-{kind}{separator}idx{axes}-ubyte{suffix}"
                if file.is_file():
                    return file
    return None


def read_idx(file: Path, axes: int) -> np.ndarray:
    """Read an idx file of unsigned bytes with the given number of axes, gzip or plain.

    Raises
    ------
    ValueError
        If its magic number is wrong, its length does not match its header, or it is compressed and
        claims more than `MAX_UNPACKED` bytes.
    """
    with file.open("rb") as stored:
        packed = stored.read(2) == b"\x1f\x8b"
        stored.seek(0)
        if not packed:
            return _read_idx(stored, file, axes, os.fstat(stored.fileno()).st_size)
        try:
            with gzip.GzipFile(fileobj=stored) as unpacked:
                return _read_idx(unpacked, file, axes, None)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{str(file)!r} is not a whole gzip file: {error}") from error


def _read_idx(
    stored: IO[bytes] | gzip.GzipFile, file: Path, axes: int, length: int | None
) -> np.ndarray:
    """Read an idx file of ``length`` bytes, or None if its length is not known in advance."""
    magic, size = 0x800 + axes, 4 + 4 * axes
    header = stored.read(size)
    if len(header) < size or int.from_bytes(header[:4], "big") != magic:
        raise ValueError(
            f"{str(file)!r} must start with the magic number {magic} and {axes} sizes, got "
            f"{int.from_bytes(header[:4], 'big')}{' and no more' * (len(header) < size)}"
        )
    shape = tuple(int(side) for side in np.frombuffer(header, ">u4", axes, offset=4))
    expected = math.prod(shape)
    if length is None and expected > MAX_UNPACKED:
        raise ValueError(
            f"{str(file)!r} claims {expected} bytes for its shape {shape}; at most {MAX_UNPACKED} "
            "are unpacked: gunzip it if it is yours"
        )
    data = bytearray()
    # In pieces, so that memory grows with the actual data, not with the header's claim.
    while length in (None, size + expected) and len(data) <= expected:
        piece = stored.read(min(PIECE, expected + 1 - len(data)))
        if not piece:
            break
        data += piece
    found = size + len(data) if length is None else length
    if found != size + expected:
        more = " or more" if found > size + expected and length is None else ""
        raise ValueError(
            f"{str(file)!r} must have {size + expected} bytes for its shape {shape}, got "
            f"{found}{more}"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)
