"""Arrays in MATLAB version 5 files, with headers checked before memory is allocated."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import IO

import numpy as np

from pydisent._extras import optional
from pydisent.data._files import MAX_INFLATION, require_path

MATRIX, COMPRESSED = 14, 15
# Bytes per number, by storage type.
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
NUMBERS = range(6, 16)  # the classes double to uint64
COMPLEX = 0x800
HEAD = 4096  # bytes that contain an array's flags, shape and name


def read_arrays(file: Path, most: dict[str, int], name: str) -> dict[str, np.ndarray]:
    """Read arrays from a file.

    Parameters
    ----------
    file : Path
        The file.
    most : dict of str to int
        The arrays to read, and the maximum bytes of each.
    name : str
        The data set's name, for messages.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is not a complete version 5 file, or lacks one of the arrays; the message names it.
    ImportError
        If scipy is not installed.
    """
    io = _scipy_io()
    require_path(file, f"a MATLAB file of {name}", folder=False)  # opening a pipe would hang
    try:
        length = MAX_INFLATION * file.stat().st_size
        check_arrays(file, {key: min(length, size) for key, size in most.items()})
        found = io.loadmat(file, variable_names=list(most))
    except MemoryError:
        raise
    except Exception as error:  # scipy raises many kinds of errors
        raise ValueError(
            f"{str(file)!r} is not a whole MATLAB version 5 file with {' and '.join(most)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    for key in most:
        if not isinstance(found.get(key), np.ndarray):
            there = sorted(other for other in found if not other.startswith("__"))
            raise ValueError(f"{str(file)!r} lacks the array {key!r} and has {there}")
    return {key: found[key] for key in most}


def _scipy_io() -> ModuleType:
    with optional("the data set cars3d or svhn"):
        import scipy.io
    return scipy.io


def check_arrays(file: Path, most: dict[str, int]) -> None:
    """Raise unless the file is of version 5 and its arrays are within their limits.

    Parameters
    ----------
    file : Path
        The file.
    most : dict of str to int
        The arrays to read, and the maximum bytes of each.

    Raises
    ------
    ValueError
        If it is truncated, or an array is not of real numbers, is too large, or has a size that
        does not match its shape.
    """
    with file.open("rb") as stored:
        header = stored.read(128)
        order = {b"IM": "<", b"MI": ">"}.get(header[126:])
        # scipy interprets a zero in the first word as a version 4 file.
        if order is None or header[124:126] != struct.pack(f"{order}H", 0x100) or 0 in header[:4]:
            raise ValueError("its header is not that of version 5")
        for head in _heads(stored, order):
            flags, name, dims, data = _read_head(head, order)
            if name not in most:
                continue
            if flags & 0xFF not in NUMBERS or flags & COMPLEX:
                raise ValueError(f"{name} is not an array of real numbers")
            kind, size = struct.unpack(f"{order}II", head[data : data + 8])
            if kind >> 16:  # a small element: type and size share a word
                kind, size = kind & 0xFFFF, kind >> 16
            count = 1
            for length in dims:
                count *= max(0, length)
            if size != count * WIDTHS.get(kind, 0) or size > most[name]:
                raise ValueError(
                    f"{name} {dims} declares {size} bytes; they must fit its shape, and be at most "
                    f"{most[name]}"
                )


def _heads(stored: IO[bytes], order: str) -> Iterator[bytes]:
    """Yield the decompressed beginning of each array."""
    length = os.fstat(stored.fileno()).st_size
    while tag := stored.read(8):
        kind, size = struct.unpack(f"{order}II", tag)
        start = stored.tell()
        if start + size > length:
            raise ValueError(f"it ends within the {size} bytes from {start} on")
        if kind == COMPRESSED:
            yield zlib.decompressobj().decompress(stored.read(min(size, HEAD)), HEAD)[8:]
        elif kind == MATRIX:
            yield stored.read(min(size, HEAD))
        else:
            raise ValueError(f"no array is at byte {start}")
        stored.seek(start + size)


def _read_head(head: bytes, order: str) -> tuple[int, str, tuple[int, ...], int]:
    """Return an array's flags, name and shape, and the offset of its first data element."""
    place = 0
    parts = []
    for _ in range(3):  # flags, shape, name
        word, size = struct.unpack(f"{order}II", head[place : place + 8])
        if word >> 16:
            parts.append(head[place + 4 : place + 4 + (word >> 16)])
            place += 8
        else:
            parts.append(head[place + 8 : place + 8 + size])
            place += 8 + (size + 7) // 8 * 8
        if place > len(head):
            raise ValueError("an array has an incomplete header")
    dims = struct.unpack(f"{order}{len(parts[1]) // 4}i", parts[1])
    (flags,) = struct.unpack(f"{order}I", parts[0][:4])
    return flags, parts[2].decode("latin-1"), dims, place
