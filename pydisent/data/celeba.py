"""CelebA, aligned and cropped, with its 40 attributes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ._files import part_of, require_path
from ._pictures import PictureDataset, Pictures, Preparation, side_of

IMAGES, ATTRIBUTES, PARTITION = (
    "img_align_celeba",
    "list_attr_celeba.txt",
    "list_eval_partition.txt",
)
EXPECTED = (
    f"a folder with CelebA's {IMAGES}/*.jpg (or .png) and {ATTRIBUTES}, and {PARTITION} if there "
    "is one (each also in the archive's own folders Img, Anno and Eval)"
)
SOURCE = (178, 218)
# The middle 148 columns, and the 148 rows from 40 on: face without hair and neck.
BOX = (15, 40, 163, 188)
PARTS = {"train": "0", "validation": "1", "test": "2"}
TRAINED = 0.9  # of the images (Kumar et al., 2018, sec. 4)


class CelebA(PictureDataset):
    """Faces of celebrities, 3 x side x side in [0, 1], with ``attributes`` (N, 40) bool.

    From each official picture (178x218) the square of columns 15 to 162 and rows 40 to 187 is
    kept, the crop in wide use with autoencoders, and resized.

    Parameters
    ----------
    path : path
        The folder with img_align_celeba, list_attr_celeba.txt and, if there is one,
        list_eval_partition.txt.
    image_size : int, optional
        Side in pixels of the images handed out, 64 by default.
    split : {"train", "validation", "test", "all"}, optional
        Which images; the training images by default. They are those of the official partition
        file; without it the first 90 % (Kumar et al., 2018), the rest are for test and there is
        no validation.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing, or a line of one is not as it must be: the message names the file,
        the line and what was expected. Reading a damaged picture is a ValueError that names it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        image_size: int | None = None,
        split: str | None = None,
    ) -> None:
        if split not in (None, "all", *PARTS):
            raise ValueError(f"split must be one of {', '.join(PARTS)}, all or None; got {split!r}")
        preparation = Preparation(side_of(image_size), box=BOX, source=SOURCE)
        folder = require_path(path, EXPECTED)
        table = _require(folder, ATTRIBUTES, "Anno")
        names, stems, attributes = read_attributes(table)
        files = find_pictures(_require(folder, IMAGES, "Img"), stems, table)
        partition = _find(folder, PARTITION, "Eval")
        if partition is None and split == "validation":
            raise FileNotFoundError(
                f"split 'validation' needs {PARTITION}; {str(folder)!r} has none"
            )
        if partition is None or split == "all":
            rows = np.array(
                part_of(range(len(stems)), split, TRAINED, f"pictures and no {PARTITION}")
            )
        else:
            rows = _rows_of(partition, stems, split or "train")
        super().__init__(
            Pictures("celeba", [files[row] for row in rows], preparation),
            attributes=torch.from_numpy(attributes[rows]),
            attribute_names=names,
        )


def read_attributes(file: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Read the attribute file: names of attributes, stems of pictures, and (N, A) bool.

    Raises
    ------
    ValueError
        If a line is not as it must be, a picture is listed twice, or lines are missing.
    """
    lines = _lines(file)
    count = next(lines, (1, "nothing"))[1]
    if not count.isdigit():
        raise ValueError(f"{str(file)!r} line 1 must be the number of pictures; got {count[:40]!r}")
    names = next(lines, (2, ""))[1].split()
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{str(file)!r} line 2 must be the attributes' names; got {names}")
    first: dict[str, int] = {}
    rows = []
    for number, line in lines:
        stem, *values = line.split() or [""]
        if len(values) != len(names):
            raise ValueError(
                f"{str(file)!r} line {number} must have a picture and {len(names)} values; got "
                f"{len(values)} values"
            )
        wrong = set(values) - {"1", "-1"}
        if wrong:
            raise ValueError(
                f"{str(file)!r} line {number}: values must be 1 or -1; got {min(wrong)!r} for "
                f"{names[values.index(min(wrong))]}"
            )
        _note_line(first, file, number, stem)
        rows.append([value == "1" for value in values])
    if len(rows) != int(count):
        raise ValueError(
            f"{str(file)!r} must have {count} pictures by its line 1; it ends after {len(rows)}"
        )
    return names, list(first), np.array(rows, bool).reshape(len(rows), len(names))


def read_partition(file: Path, stems: list[str]) -> np.ndarray:
    """Read the partition file: "0", "1" or "2" for each of these pictures, in their order.

    Raises
    ------
    ValueError
        If a line is not as it must be, or a picture is listed twice or missing.
    """
    parts: dict[str, str] = {}
    first: dict[str, int] = {}
    for number, line in _lines(file):
        words = line.split()
        if len(words) != 2 or words[1] not in PARTS.values():
            raise ValueError(
                f"{str(file)!r} line {number} must be a picture and 0, 1 or 2; got {line[:80]!r}"
            )
        _note_line(first, file, number, words[0])
        parts[Path(words[0]).stem] = words[1]
    missing = next((stem for stem in stems if stem not in parts), None)
    if missing is not None:
        raise ValueError(f"{str(file)!r} must have a line for picture {missing!r}; it has none")
    return np.array([parts[stem] for stem in stems])


def find_pictures(folder: Path, stems: list[str], table: Path) -> list[Path]:
    """Return the files of these pictures.

    Raises
    ------
    FileNotFoundError
        If one is not there.
    """
    there = {p.stem: p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png")}
    for line, stem in enumerate(stems, 3):
        if stem not in there:
            raise FileNotFoundError(
                f"{str(folder)!r} lacks picture {stem!r} of {str(table)!r} line {line}; expected "
                f"{EXPECTED}"
            )
    return [there[stem] for stem in stems]


def _rows_of(partition: Path, stems: list[str], split: str) -> np.ndarray:
    rows = np.flatnonzero(read_partition(partition, stems) == PARTS[split])
    if not rows.size:
        raise ValueError(
            f"{str(partition)!r} has no picture of split {split!r}; expected lines that end in "
            f"{PARTS[split]}"
        )
    return rows


def _note_line(first: dict[str, int], file: Path, number: int, picture: str) -> None:
    """Note the line of a picture, by its stem; ValueError if it had one before."""
    before = first.setdefault(Path(picture).stem, number)
    if before != number:
        raise ValueError(
            f"{str(file)!r} line {number} lists {picture!r} again, after line {before}; expected "
            "each picture once"
        )


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    with file.open(encoding="ascii", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            yield number, line.strip()


def _find(folder: Path, name: str, archive_folder: str) -> Path | None:
    places = (folder / name, folder / archive_folder / name)
    found = next((place for place in places if place.exists()), None)
    return found and require_path(found, EXPECTED, folder=name == IMAGES)


def _require(folder: Path, name: str, archive_folder: str) -> Path:
    found = _find(folder, name, archive_folder)
    if found is None:
        raise FileNotFoundError(f"path {str(folder)!r} lacks {name}; expected {EXPECTED}")
    return found
