"""CelebA, aligned and cropped, with its 40 attributes."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from pydisent._checks import check
from pydisent.data._files import check_split, part_of, require_path
from pydisent.data._pictures import PictureDataset, Pictures, Preparation, side_of

LOG = logging.getLogger(__name__)
IMAGES, ATTRIBUTES, PARTITION = (
    "img_align_celeba",
    "list_attr_celeba.txt",
    "list_eval_partition.txt",
)
EXPECTED = (
    f"a folder with CelebA's {IMAGES}/*.jpg (or .png) and {ATTRIBUTES}, and {PARTITION} if there "
    "is one (each also in the archive's own folders Img, Anno and Eval; the lists also as .csv)"
)
PARTIAL = "partial=True (--partial) takes what is there"
COUNT = re.compile(r"[0-9]{1,9}")
FIRST_COLUMN = "image_id"  # of the .csv
MAX_LINE = 100_000
SOURCE = (178, 218)
# Squares of these sides: the face without hair and neck, as is common for autoencoders; the centre
# (Zhu et al., 2021); and all columns (Lezama, 2019).
BOXES = {148: (15, 40, 163, 188), 128: (25, 57, 153, 185), 178: (0, 20, 178, 198)}
CROP = 148
PARTS = {"train": "0", "validation": "1", "test": "2"}
TRAINED = 0.9  # of the images (Kumar et al., 2018, sec. 4)


class CelebA(PictureDataset):
    """Faces of celebrities, 3 x side x side in [0, 1], with ``attributes`` (N, 40) bool.

    A square is cropped from each official picture (178x218) and resized.

    Parameters
    ----------
    path : path
        The folder with img_align_celeba, list_attr_celeba.txt and, optionally,
        list_eval_partition.txt. The lists may be .csv, as on Kaggle.
    image_size : int, optional
        Side in pixels of the images returned, 64 by default.
    split : {"train", "validation", "test", "all"}, optional
        The images to use; the training images by default. Splits follow the official partition
        file. Without it, the first 90 % are for training (Kumar et al., 2018), the rest for
        testing, and there is no validation split.
    crop : {148, 128, 178}, optional
        Side of the square in pixels: 148, columns 15 to 162 and rows 40 to 187, as is common for
        autoencoders; 128, columns 25 to 152 and rows 57 to 184 (Zhu et al., 2021); or 178, all
        columns and rows 20 to 197 (Lezama, 2019).
    partial : bool
        Accept incomplete data, using the lines whose pictures exist. A warning says how many.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing or one of its lines malformed: the message names the file, the line and
        what was expected. Reading a damaged picture raises a ValueError that names it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        image_size: int | None = None,
        split: str | None = None,
        crop: int | None = None,
        partial: bool = False,
    ) -> None:
        check_split(split, (*PARTS, "all"))
        rule = f"one of {', '.join(map(str, BOXES))} or None"
        check(crop is None or crop in BOXES, "crop", rule, crop)
        box = BOXES[CROP if crop is None else crop]
        preparation = Preparation(side_of(image_size), box=box, source=SOURCE)
        folder = require_path(path, EXPECTED)
        table = _require(folder, ATTRIBUTES, "Anno")
        names, lines, attributes = read_attributes(table, partial=partial)
        files = find_pictures(_require(folder, IMAGES, "Img"), lines, table, partial=partial)
        attributes = attributes[[stem in files for stem in lines]]
        stems = list(files)
        if partial:
            LOG.warning("celeba: %d pictures of %d lines in %s", len(stems), len(lines), table)
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
            Pictures("celeba", [files[stems[row]] for row in rows], preparation),
            attributes=torch.from_numpy(attributes[rows]),
            attribute_names=names,
        )


def read_attributes(
    file: Path, *, partial: bool = False
) -> tuple[list[str], dict[str, int], np.ndarray]:
    """Read the attribute file: attribute names, line numbers by picture stem, and (N, A) bool.

    Parameters
    ----------
    file : Path
        The official .txt, or the .csv, which has no count and names its first column.
    partial : bool
        Whether there may be fewer lines than the file declares.

    Raises
    ------
    ValueError
        If a line is malformed, a picture is listed twice, or lines are missing.
    """
    lines = _lines(file)
    line = next(lines, (1, "nothing"))[1]
    first_word, *names = line.split() or [""]
    count = int(first_word) if COUNT.fullmatch(line) else None
    if count is not None:
        names = next(lines, (2, ""))[1].split()
    elif first_word != FIRST_COLUMN:
        raise ValueError(f"{str(file)!r} line 1 must be the number of pictures, got {line[:40]!r}")
    if not names or len(set(names)) < len(names):
        where = "line 1" if count is None else "line 2"
        raise ValueError(f"{str(file)!r} {where} must be the attributes' names, got {names[:50]}")
    first: dict[str, int] = {}
    rows = bytearray()
    for number, line in lines:
        stem, *values = line.split() or [""]
        if len(values) != len(names):
            raise ValueError(
                f"{str(file)!r} line {number} must have a picture and {len(names)} values, got "
                f"{len(values)} values"
            )
        wrong = set(values) - {"1", "-1"}
        if wrong:
            raise ValueError(
                f"{str(file)!r} line {number}: values must be 1 or -1, got {min(wrong)!r} for "
                f"{names[values.index(min(wrong))]}"
            )
        _note_line(first, file, number, stem)
        rows += bytes(value == "1" for value in values)
    if count is not None and (len(first) > count or (len(first) < count and not partial)):
        raise ValueError(
            f"{str(file)!r} must have {count} pictures by its line 1; it ends after {len(first)}"
            + (f"; {PARTIAL}" if len(first) < count else "")
        )
    if not first:
        raise ValueError(f"{str(file)!r} must have at least 1 picture, got none")
    return names, first, np.frombuffer(rows, bool).reshape(len(first), len(names))


def read_partition(file: Path, stems: list[str]) -> np.ndarray:
    """Read the partition file: "0", "1" or "2" for each of the given pictures, in order.

    Raises
    ------
    ValueError
        If a line is malformed, or a picture is listed twice or missing.
    """
    parts: dict[str, str] = {}
    first: dict[str, int] = {}
    for number, line in _lines(file):
        words = line.split()
        if number == 1 and words == [FIRST_COLUMN, "partition"]:
            continue
        if len(words) != 2 or words[1] not in PARTS.values():
            raise ValueError(
                f"{str(file)!r} line {number} must be a picture and 0, 1 or 2, got {line[:80]!r}"
            )
        _note_line(first, file, number, words[0])
        parts[Path(words[0]).stem] = words[1]
    missing = next((stem for stem in stems if stem not in parts), None)
    if missing is not None:
        raise ValueError(f"{str(file)!r} must have a line for picture {missing!r}, got none")
    return np.array([parts[stem] for stem in stems])


def find_pictures(
    folder: Path, lines: dict[str, int], table: Path, *, partial: bool = False
) -> dict[str, Path]:
    """Return the files of the given pictures by stem; if ``partial``, only those that exist.

    Raises
    ------
    FileNotFoundError
        If one is missing, or all are.
    """
    there = {p.stem: p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png")}
    found = {stem: there[stem] for stem in lines if stem in there}
    if len(found) < len(lines) and not (partial and found):
        stem = next(stem for stem in lines if stem not in there)
        raise FileNotFoundError(
            f"{str(folder)!r} lacks picture {stem!r} of {str(table)!r} line {lines[stem]}; "
            f"expected {EXPECTED}" + (f"; {PARTIAL}" if found else "")
        )
    return found


def _rows_of(partition: Path, stems: list[str], split: str) -> np.ndarray:
    rows = np.flatnonzero(read_partition(partition, stems) == PARTS[split])
    if not rows.size:
        raise ValueError(
            f"{str(partition)!r} has no picture of split {split!r}; expected lines that end in "
            f"{PARTS[split]}"
        )
    return rows


def _note_line(first: dict[str, int], file: Path, number: int, picture: str) -> None:
    """Record the line of a picture by its stem; ValueError if it already has one."""
    before = first.setdefault(Path(picture).stem, number)
    if before != number:
        raise ValueError(
            f"{str(file)!r} line {number} lists {picture!r} again, after line {before}; expected "
            "each picture once"
        )


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered lines, with commas replaced by spaces, without trailing blank lines.

    Raises
    ------
    ValueError
        If a line has `MAX_LINE` characters or more.
    """
    blank = []
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE), ""), 1):
            if len(line) == MAX_LINE:
                raise ValueError(
                    f"{str(file)!r} line {number} must be shorter; expected {EXPECTED}"
                )
            words = line.replace(",", " ").strip()
            if not words:
                blank.append(number)
                continue
            yield from ((before, "") for before in blank)
            blank.clear()
            yield number, words


def _find(folder: Path, name: str, archive_folder: str) -> Path | None:
    names = (name,) if name == IMAGES else (name, f"{name.removesuffix('.txt')}.csv")
    places = [place / name for place in (folder, folder / archive_folder) for name in names]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        return None
    if name == IMAGES and (found / name).is_dir():  # an archive unpacked into its own folder
        found /= name
    return require_path(found, EXPECTED, folder=name == IMAGES)


def _require(folder: Path, name: str, archive_folder: str) -> Path:
    found = _find(folder, name, archive_folder)
    if found is None:
        raise FileNotFoundError(f"path {str(folder)!r} lacks {name}; expected {EXPECTED}")
    return found
