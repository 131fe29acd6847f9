"""Checks shared by readers of user files."""

from __future__ import annotations

import os
import tokenize
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydisent._checks import check

T = TypeVar("T")
# What numpy raises for a damaged .npy file.
DAMAGED_NPY = (ValueError, EOFError, KeyError, SyntaxError, tokenize.TokenError)
MAX_INFLATION = 1032  # bytes per byte of deflate, which gzip, zip and MATLAB files use


def require_path(
    path: str | os.PathLike[str] | None, expected: str, *, folder: bool = True
) -> Path:
    """Return ``path`` if it is a folder, or, if ``folder`` is false, a regular file.

    Raises
    ------
    ValueError
        If it is None or something else.
    FileNotFoundError
        If it does not exist. Messages say which files are ``expected``.
    """
    if path is None:
        raise ValueError(f"path must be given: {expected}; nothing is downloaded")
    found = Path(path)
    if not found.exists():
        raise FileNotFoundError(f"path {str(path)!r} does not exist; expected {expected}")
    if not (found.is_dir() if folder else found.is_file()):
        raise ValueError(f"path {str(path)!r} is {kind_of(found)}; expected {expected}")
    return found


def kind_of(path: Path) -> str:
    """Describe what is at ``path``, without reading, as a pipe or device might never end."""
    if path.is_dir():
        return "a folder"
    return "a file" if path.is_file() else "neither a file nor a folder"


def check_split(split: str | None, names: Sequence[str]) -> None:
    """Raise ValueError unless ``split`` is None or one of the names."""
    rule = f"one of {', '.join(map(repr, names))} or None"
    check(split is None or split in names, "split", rule, repr(split))


def part_of(items: Sequence[T], split: str | None, trained: float, what: str) -> Sequence[T]:
    """Return the first fraction ``trained`` of items ("train", None), the rest ("test"), or "all".

    Raises
    ------
    ValueError
        If there is no such split, or it is empty.
    """
    check_split(split, ("train", "test", "all"))
    count = int(trained * len(items))
    part = {"test": items[count:], "all": items}.get(split or "train", items[:count])
    if not part:
        raise ValueError(f"split {split or 'train'!r} is empty: there are {len(items)} {what}")
    return part
