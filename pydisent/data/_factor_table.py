"""Factor tables: CSV files with one row per picture."""

from __future__ import annotations

import csv
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from pydisent._checks import check_integer
from pydisent.data._files import require_path

EXPECTED = (
    "a CSV file whose first line names its columns: one with the pictures (named file or image, or "
    "else the first), and one column per factor"
)
PICTURE = ("file", "image")  # names of the column with the pictures
BINS = 10
MAX_LINE = 100_000
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
INTEGER = re.compile(r"[+-]?\d+")
LEADING_ZERO = re.compile(r"[+-]?0[0-9]")
NOT_FINITE = re.compile(r"[+-]?(nan|inf(inity)?)", re.IGNORECASE)


@dataclass(frozen=True)
class Factor:
    """A column of a table, encoded as values from 0.

    Attributes
    ----------
    name : str
        Name of the column.
    values : numpy.ndarray
        (N,) int64.
    meanings : tuple of str
        The meaning of each value.
    binned : bool
        Whether the values are bins of a quantity.
    words : bool
        Whether they are words, not numbers.
    """

    name: str
    values: np.ndarray
    meanings: tuple[str, ...]
    binned: bool = False
    words: bool = False


@dataclass(frozen=True)
class FactorTable:
    """The rows of a table: picture names with their line numbers, and factors."""

    file: Path
    lines: dict[str, int]
    factors: tuple[Factor, ...]


def read_factors(path: str | os.PathLike[str], bins: int = BINS) -> FactorTable:
    """Read a table of factors.

    Columns of integers or words (categories) become factors whose values are those that occur, in
    increasing order. Columns of numbers, at least one with a decimal point, are quantities: their
    values are grouped into at most ``bins`` equal-count bins, cut at quantiles and never between
    equal values; a quantity with at most that many distinct values keeps them.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If the file is missing or malformed; the message names it, the line and the column.
    """
    check_integer("bins", bins, at_least=2)
    file = require_path(path, EXPECTED, folder=False)
    rows = _rows(file)
    _, header = next(rows, (1, []))
    place = _picture_column(file, header)
    lines: dict[str, int] = {}
    columns: list[list[str]] = [[] for _ in header]
    for number, cells in rows:
        if len(cells) != len(header):
            raise ValueError(
                f"{str(file)!r} line {number} must have {len(header)} cells, one per column, got "
                f"{len(cells)}"
            )
        for name, cell, column in zip(header, cells, columns):
            if not cell:
                raise ValueError(f"{_where(file, number, name)} must not be empty")
            column.append(cell)
        picture = posixpath.normpath(cells[place])  # ./a.png is a.png
        before = lines.setdefault(picture, number)
        if before != number:
            raise ValueError(
                f"{_where(file, number, header[place])} lists {cells[place]!r} again, after line "
                f"{before}; expected each picture once"
            )
    if not lines:
        raise ValueError(f"{str(file)!r} must have at least 1 picture, got none")
    at = list(lines.values())
    factors = (
        _factor(file, name, column, at, bins)
        for position, (name, column) in enumerate(zip(header, columns))
        if position != place
    )
    return FactorTable(file, lines, tuple(factors))


def _picture_column(file: Path, header: Sequence[str]) -> int:
    """Return the position of the pictures' column; ValueError if the header is not one."""
    said, got = f"{str(file)!r} line 1 must name the columns", list(header)[:12]
    if len(header) < 2:
        raise ValueError(f"{said}, at least 2, separated by commas, got {got}; expected {EXPECTED}")
    if "" in header:
        raise ValueError(f"{said}, got no name for column {header.index('') + 1} of {got}")
    if len(set(header)) < len(header):
        raise ValueError(f"{said} by different names, got {got}")
    for name in header:
        if NUMBER.fullmatch(name):
            raise ValueError(f"{said}, got the number {name}; expected {EXPECTED}")
    named = [position for position, name in enumerate(header) if name.lower() in PICTURE]
    if len(named) > 1:
        raise ValueError(f"{said}, one of them {' or '.join(PICTURE)}, got {list(header)[:12]}")
    return named[0] if named else 0


def _factor(file: Path, name: str, cells: Sequence[str], lines: Sequence[int], bins: int) -> Factor:
    """Return a column as a factor."""
    numeric = [bool(NUMBER.fullmatch(cell) or NOT_FINITE.fullmatch(cell)) for cell in cells]
    if all(numeric) and any(LEADING_ZERO.match(cell) for cell in cells):
        numeric = [False] * len(cells)  # treat as names, such as 007
    if any(numeric) and not all(numeric):
        word, number = numeric.index(False), numeric.index(True)
        raise ValueError(
            f"{_where(file, lines[word], name)} must be a number, as in line {lines[number]}, got "
            f"{cells[word][:80]!r}; a column holds either numbers or words"
        )
    if not any(numeric):
        meanings, values = np.unique(np.array(cells), return_inverse=True)
    elif all(INTEGER.fullmatch(cell) for cell in cells):
        by_value = sorted({int(cell) for cell in cells})
        place = {value: number for number, value in enumerate(by_value)}
        values = np.array([place[int(cell)] for cell in cells])
        meanings = np.array([str(value) for value in by_value])
    else:
        return _quantity(file, name, cells, lines, bins)
    _check_varying(file, name, meanings, cells)
    if 2 * len(meanings) > max(len(cells), 4):  # more likely a name than a factor
        raise ValueError(
            f"{str(file)!r} column {name!r} must have values that several pictures share, got "
            f"{len(meanings)} values in {len(cells)} rows; leave it out, or write a quantity with "
            "a decimal point to have it put in bins"
        )
    made = tuple(map(str, meanings))
    return Factor(name, values.astype(np.int64), made, words=not any(numeric))


def _quantity(
    file: Path, name: str, cells: Sequence[str], lines: Sequence[int], bins: int
) -> Factor:
    numbers = np.array([float(cell) for cell in cells])
    finite = np.isfinite(numbers)
    if not finite.all():
        first = int(np.argmin(finite))
        raise ValueError(f"{_where(file, lines[first], name)} must be finite, got {cells[first]}")
    known, values = np.unique(numbers, return_inverse=True)
    _check_varying(file, name, known, cells)
    if len(known) <= bins:
        return Factor(name, values.astype(np.int64), _written(known.tolist()))
    edges = np.unique(np.quantile(numbers, np.arange(1, bins) / bins, method="lower"))
    _, values = np.unique(np.searchsorted(edges, numbers), return_inverse=True)
    parts = [numbers[values == part] for part in range(values.max() + 1)]
    ends = _written([end(part) for part in parts for end in (np.min, np.max)])
    ranges = zip(ends[::2], ends[1::2])
    meanings = tuple(low if low == high else f"{low} to {high}" for low, high in ranges)
    return Factor(name, values.astype(np.int64), meanings, binned=True)


def _written(numbers: Sequence[float]) -> tuple[str, ...]:
    """Return numbers as text, with 6 digits or as many as tell different numbers apart."""
    different = len(set(numbers))
    for digits in range(6, 17):
        written = tuple(f"{number + 0.0:.{digits}g}" for number in numbers)  # -0.0 + 0.0 is 0.0
        if len(set(written)) == different:
            return written
    return tuple(map(repr, map(float, numbers)))


def _check_varying(file: Path, name: str, values: np.ndarray, cells: Sequence[str]) -> None:
    if len(values) < 2:
        raise ValueError(
            f"{str(file)!r} column {name!r} must have at least 2 values, got {cells[0]!r} in all "
            f"{len(cells)} rows; leave it out"
        )


def _where(file: Path, line: int, column: str) -> str:
    return f"{str(file)!r} line {line}, column {column!r},"


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield numbered rows with stripped cells, skipping blank lines."""
    with file.open(encoding="utf-8-sig", newline="") as opened:
        try:
            reader = csv.reader(_bounded(file, opened), skipinitialspace=True, strict=True)
            for cells in reader:
                if cells:
                    yield reader.line_num, [cell.strip() for cell in cells]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{str(file)!r} must be CSV in UTF-8, as it is up to line {reader.line_num}, got: "
                f"{error}; expected {EXPECTED}"
            ) from error


def _bounded(file: Path, opened: TextIO) -> Iterator[str]:
    for number, line in enumerate(iter(lambda: opened.readline(MAX_LINE), ""), 1):
        if len(line) == MAX_LINE:
            raise ValueError(f"{str(file)!r} line {number} must be shorter; expected {EXPECTED}")
        yield line
