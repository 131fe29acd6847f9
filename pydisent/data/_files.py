"""Checks shared by the readers of files that the user has."""

from __future__ import annotations

import os
from pathlib import Path


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
