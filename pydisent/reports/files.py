"""Writing pictures and pages."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydisent._atomic import write_atomic

if TYPE_CHECKING:
    from pydisent.training.run import Run


def check_folder(folder: Path) -> None:
    """Raise ValueError if `folder` exists and is not a folder."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder or absent, got the file {folder}")


def figures_folder(run: "Run", out: Path | None) -> Path:
    """Return the folder of a run's pictures, RUN/figures by default; checked before they are drawn.

    Raises
    ------
    ValueError
        If it exists and is not a folder.
    """
    folder = out or run.path / "figures"
    check_folder(folder)
    return folder


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
