"""Checks shared by the readers of files that the user has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def require_path(path: str | os.PathLike[str] | None, expected: str) -> Path:
    """Return ``path`` if it exists.

    Raises
    ------
    ValueError
        If it is None.
    FileNotFoundError
        If nothing is there. Both messages say which files are ``expected``.
    """
    if path is None:
        raise ValueError(f"path must be given: {expected}; nothing is downloaded")
    found = Path(path)
    if not found.exists():
        raise FileNotFoundError(f"path {str(path)!r} does not exist; expected {expected}")
    return found


def part_of(items: Sequence[T], split: str | None, trained: float, what: str) -> Sequence[T]:
    """Return the first share of ``items`` ("train", None), the rest ("test"), or "all".

    Raises
    ------
    ValueError
        If there is no such split, or nothing in it.
    """
    if split not in (None, "train", "test", "all"):
        raise ValueError(f"split must be 'train', 'test', 'all' or None; got {split!r}")
    count = int(trained * len(items))
    part = {"test": items[count:], "all": items}.get(split or "train", items[:count])
    if not part:
        raise ValueError(f"split {split or 'train'!r} is empty: there are {len(items)} {what}")
    return part
