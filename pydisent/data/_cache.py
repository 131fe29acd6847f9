"""Expensive arrays, stored as files in the user's cache."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pydisent._atomic import replacing
from pydisent._user_cache import cache_folder
from pydisent.data._files import DAMAGED_NPY

LOG = logging.getLogger(__name__)
MAX_HEADER = 4096  # bytes


def cached_array(
    name: str,
    made_from: tuple[Any, Sequence[Path]],
    shape: tuple[int, ...],
    fill: Callable[[np.ndarray], None],
) -> np.ndarray | None:
    """Return a read-only array from the cache, made on first use; None if there is no cache.

    Parameters
    ----------
    name : str
        Prefix of the file's name.
    made_from : object and sequence of Path
        The settings and files that the array is made from. The array is made again if the settings
        or a file's path, size or modification time change, or if the cached file is damaged.
    shape : tuple of int
        Shape of the array, which is uint8.
    fill : callable
        Fills the array; called at most once. Its exceptions propagate, and nothing is cached.
    """
    folder = cache_folder()
    if folder is None:
        return None
    file = folder / f"{name}-{_digest(*made_from)}.npy"
    array = _open(file, shape)
    if array is None:
        LOG.warning(
            "%s: making %d images once in %s (%.0f MB); PYDISENT_CACHE=off to do without",
            name, shape[0], file, np.prod(shape, dtype=float) / 1e6,
        )  # fmt: skip
        try:
            _make(file, shape, fill)
        except OSError as error:  # no space or permission: slower, with the same result
            LOG.warning("%s: nothing kept in %s: %s", name, folder, error)
            return None
        array = _open(file, shape)
    return array


def _open(file: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the array in the file; None unless it is complete and of this shape."""
    try:
        if not file.is_file() or file.stat().st_size > math.prod(shape) + MAX_HEADER:
            return None
        array = np.lib.format.open_memmap(file, mode="r")
    except (OSError, OverflowError, *DAMAGED_NPY):
        return None
    return array if array.shape == shape and array.dtype == np.uint8 else None


def _make(file: Path, shape: tuple[int, ...], fill: Callable[[np.ndarray], None]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file, concurrent=True) as temporary:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        with temporary.open("r+b") as reserved:
            # Detect a full disk now: writing to a mapped file without space is fatal.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(reserved.fileno(), 0, temporary.stat().st_size)
            fill(array)
            array.flush()
            os.fsync(reserved.fileno())


def _digest(settings: Any, files: Sequence[Path]) -> str:
    digest = hashlib.sha256(repr(settings).encode())
    for file in files:
        about = file.stat()
        digest.update(b"\0" + os.fsencode(file.absolute()))  # names need not be UTF-8
        digest.update(f"\0{about.st_size}\0{about.st_mtime_ns}".encode())
    return digest.hexdigest()[:20]
