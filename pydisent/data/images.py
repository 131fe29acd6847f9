"""Any folder of pictures, optionally with a table of factors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pydisent._checks import check
from pydisent.data._base import ImageDataset
from pydisent.data._factor_table import BINS, FactorTable, read_factors
from pydisent.data._files import require_path
from pydisent.data._observed import ObservedFactorDataset
from pydisent.data._pictures import (
    MAX_PIXELS,
    MODES,
    PictureDataset,
    Pictures,
    Preparation,
    decode_picture,
    side_of,
)

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
EXPECTED = f"a folder with pictures ({', '.join(SUFFIXES)}), in it or in folders below"


class Images(PictureDataset):
    """The pictures in a folder and its subfolders, ordered by path, 3 x side x side.

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
        If the folder is missing or has no pictures; reading a damaged picture raises a ValueError
        that names it.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, *, image_size: int | None = None
    ) -> None:
        preparation = Preparation(side_of(image_size))
        files = pictures_below(require_path(path, EXPECTED), EXPECTED)
        super().__init__(Pictures("images", files, preparation))


def load_images(
    path: str | os.PathLike[str] | None,
    *,
    image_size: int | None = None,
    factors: str | os.PathLike[str] | None = None,
    bins: int | None = None,
    partial: bool = False,
) -> ImageDataset:
    """Open a folder of pictures as `Images`, or with factors from a table.

    Parameters
    ----------
    path, image_size
        As for `Images`.
    factors : path, optional
        A CSV file with one row per picture, which gives an `ObservedFactorDataset`. Its first line
        names the columns. The column ``file`` or ``image``, or else the first, has the pictures'
        paths relative to the folder, or their names if these are unique; every other column is a
        factor. Integers and words keep their values. Numbers, at least one with a decimal point,
        are a quantity: if it has more than ``bins`` values, it is cut at its quantiles into
        ``bins`` equal-count bins, or fewer if values are equal.
    bins : int, optional
        Number of bins of a quantity, 10 by default.
    partial : bool
        Accept pictures without a row and rows without a picture, and leave them out.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        As for `Images`; if the table is malformed; or, unless ``partial``, if a picture has no row
        or a row no picture; the message names the file, the line and the column.
    """
    if factors is None:
        for name, value, unset in (("bins", bins, None), ("partial", partial, False)):
            check(value is unset, name, f"{unset} for 'images'; it goes with factors", value)
        return Images(path, image_size=image_size)
    side, folder = side_of(image_size), require_path(path, EXPECTED)
    table = read_factors(factors, BINS if bins is None else bins)
    files = pictures_below(folder, EXPECTED)
    rows = _rows_of(files, folder, table, partial)
    kept = [file for file, row in zip(files, rows) if row >= 0]
    order = rows[rows >= 0]
    return ObservedFactorDataset(
        PictureDataset(Pictures("images", kept, Preparation(side))),
        np.stack([factor.values[order] for factor in table.factors], 1),
        [factor.name for factor in table.factors],
        [factor.meanings for factor in table.factors],
        classes=[factor.name for factor in table.factors if factor.words],
        note=_note(table),
    )


def picture_of(
    stored: bytes, channels: int, image_size: int, *, name: str = "stored", most: int = MAX_PIXELS
) -> Tensor:
    """Decode a picture file's bytes as data sets do, to (channels, side, side) in [0, 1].

    It is composited on white where transparent, cropped to its largest centred square and resized
    to the side `image_size`. Only picture formats are read, and none that run programs.

    Parameters
    ----------
    stored : bytes
        The contents of the file.
    channels : int
        3, or 1 for shades of grey.
    image_size : int
        Side in pixels.
    name : str
        The picture's name in error messages.
    most : int
        Maximum number of pixels, checked before decoding.

    Raises
    ------
    ValueError
        If it is damaged, not in an accepted format, or too large.
    """
    modes = {count: mode for mode, count in MODES.items()}
    check(channels in modes, "channels", "1 or 3", channels)
    picture = decode_picture(name, stored, modes[channels], most)
    pixels = Preparation(side_of(image_size), modes[channels]).prepare(picture)
    return torch.from_numpy(pixels.copy()).float().div_(255)


def _rows_of(files: list[Path], folder: Path, table: FactorTable, partial: bool) -> np.ndarray:
    """Return the row of each picture, -1 for those without one."""
    paths = {file.relative_to(folder).as_posix(): number for number, file in enumerate(files)}
    names = {file.name: number for number, file in enumerate(files)}
    unique = len(names) == len(files)
    rows = np.full(len(files), -1)
    for row, (picture, line) in enumerate(table.lines.items()):
        number = paths.get(picture, names.get(picture) if unique else None)
        if number is None and not partial:
            raise ValueError(
                f"{str(table.file)!r} line {line}: {picture!r} must be a picture in {str(folder)!r}"
                f", unless partial=True (--partial)"
            )
        if number is not None:
            if rows[number] >= 0:
                raise ValueError(
                    f"{str(table.file)!r} line {line} names {str(files[number])!r} again, as "
                    f"{picture!r}"
                )
            rows[number] = row
    lacking = np.flatnonzero(rows < 0)
    if len(lacking) and (not partial or len(lacking) == len(files)):
        raise ValueError(
            f"{str(table.file)!r} must have a row for {str(files[lacking[0]])!r}"
            + ("" if partial else "; partial=True (--partial) leaves out pictures without one")
        )
    return rows


def _note(table: FactorTable) -> str:
    """Return a note on which factors are binned, and into how many bins."""
    binned = [f"{f.name} in {len(f.meanings)} bins" for f in table.factors if f.binned]
    return ", ".join(binned)


def pictures_below(folder: Path, expected: str) -> list[Path]:
    """Return the picture files in ``folder`` and its subfolders, sorted, without hidden ones.

    A folder that links lead back to is not entered twice.

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
