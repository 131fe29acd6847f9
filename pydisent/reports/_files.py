"""Where pictures and pages go."""

from collections.abc import Mapping
from pathlib import Path


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write each named file whole or not at all, and return their paths.

    Raises
    ------
    ValueError
        If `folder` is something else than a folder.
    """
    from pydisent.training._files import write_atomic

    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out is {folder}, which is a file; accepted: a folder, new or there")
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_atomic(folder / name, data)
    return [folder / name for name in files]
