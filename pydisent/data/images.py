"""Any folder of pictures."""

from __future__ import annotations

import os
from pathlib import Path

from pydisent.data._files import require_path
from pydisent.data._pictures import PictureDataset, Pictures, Preparation, side_of

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
EXPECTED = f"a folder with pictures ({', '.join(SUFFIXES)}), in it or in folders below"


class Images(PictureDataset):
    """The pictures in a folder and those below it, in the order of their paths, 3 x side x side.

    Each is cropped to its largest centred square. Hidden files and folders are ignored.

    Parameters
    ----------
    path : path
        The folder.
    image_size : int, optional
        Side in pixels of the images returned, 64 by default: smaller ones are area averages,
        larger ones bilinear.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder is missing or has no pictures; reading a damaged picture is a ValueError that
        names it.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, *, image_size: int | None = None
    ) -> None:
        preparation = Preparation(side_of(image_size))
        files = pictures_below(require_path(path, EXPECTED), EXPECTED)
        super().__init__(Pictures("images", files, preparation))


def pictures_below(folder: Path, expected: str) -> list[Path]:
    """Return the picture files in ``folder`` and below it, sorted, without hidden ones.

    A folder that a link leads to again is not entered twice.

    Raises
    ------
    ValueError
        If there are none; the message says what is ``expected``.
    """
    found, seen = [], {os.path.realpath(folder)}
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = _unseen(place, folders, seen)
        found += [
            Path(place, name)
            for name in files
            if name[0] != "." and name.lower().endswith(SUFFIXES)
        ]
    if not found:
        raise ValueError(f"path {str(folder)!r} has no pictures; expected {expected}")
    return sorted(found)


def _unseen(place: str, folders: list[str], seen: set[str]) -> list[str]:
    """Return the folders in ``place`` to enter, real ones before links; add them to `seen`."""
    kept = []
    for name in sorted(folders, key=lambda name: (os.path.islink(Path(place, name)), name)):
        real = os.path.realpath(Path(place, name))
        if name[0] != "." and real not in seen:
            seen.add(real)
            kept.append(name)
    return kept
