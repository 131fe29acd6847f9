"""Arrays in .npz archives, read in pieces or memory-mapped."""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

# zipfile raises these as well: for unsupported methods, for encryption, and while unpacking.
DAMAGED_ZIP = (
    zipfile.BadZipFile, RuntimeError, zlib.error, lzma.LZMAError, OSError, struct.error,
    OverflowError, TypeError,
)  # fmt: skip
MAX_HEADER = 10_000  # bytes; numpy's own limit, which it checks only after reading them
LOCAL_HEADER = 30  # bytes of an entry's header, before its name and extra field


def read_header(entry: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the .npy header at the start of ``entry``: shape, Fortran order, dtype.

    Raises
    ------
    DAMAGED_NPY
        If it is not a .npy header.
    """
    first = np.lib.format.read_magic(entry) == (1, 0)
    size = entry.read(2 if first else 4)
    if int.from_bytes(size, "little") > MAX_HEADER:
        raise ValueError(f"its .npy header claims {int.from_bytes(size, 'little')} bytes")
    header = io.BytesIO(size + entry.read(int.from_bytes(size, "little")))
    if first:
        return np.lib.format.read_array_header_1_0(header)
    return np.lib.format.read_array_header_2_0(header)


def map_stored(
    file: Path, about: zipfile.ZipInfo, start: int, shape: tuple[int, ...]
) -> np.ndarray:
    """Memory-map the bytes of an uncompressed entry of the archive, read-only.

    Parameters
    ----------
    file : Path
        The archive.
    about : zipfile.ZipInfo
        The entry.
    start : int
        Offset of the array in the entry.
    shape : tuple of int
        Shape of the array, which is uint8.
    """
    with file.open("rb") as opened:
        opened.seek(about.header_offset)
        header = opened.read(LOCAL_HEADER)
    lengths = struct.unpack("<HH", header[-4:])
    return np.memmap(
        file, np.uint8, "r", about.header_offset + LOCAL_HEADER + sum(lengths) + start, shape
    )
