"""Writing pictures and pages."""

from collections.abc import Mapping
from pathlib import Path

from pydisent._atomic import write_atomic


def check_folder(folder: Path) -> None:
    """Raise ValueError if `folder` exists and is not a folder."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder or absent, got the file {folder}")


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write files atomically by name, and return their paths.

    Raises
    ------
    ValueError
        If `folder` exists and is not a folder.
    """
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_atomic(folder / name, data)
    return [folder / name for name in files]
