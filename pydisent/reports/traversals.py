"""Traversals: one coordinate of a code varied, the others held."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pydisent.reports._codes import base_codes, decode
from pydisent.reports._files import write_files
from pydisent.reports._grid import ImageGrid, animate, image_grid
from pydisent.reports._style import SCALE, image_png
from pydisent.reports.alignment import leading, penalty_weight

if TYPE_CHECKING:
    from pydisent.training import Run

_SHOWN = 16  # coordinates, unless more are aligned or asked for
_CELL, _SMALL_CELL = 56 * SCALE, 40 * SCALE
_WIDE = 12  # more columns than these have smaller images


def write_traversals(
    run: "Run",
    out: Path | None = None,
    *,
    coordinates: Sequence[int | str] | None = None,
    span: float = 2.0,
    steps: int = 11,
    bases: int = 4,
    seed: int = 0,
) -> list[Path]:
    """Draw images along coordinates of the code, still and moving, and return the files.

    Parameters
    ----------
    run : Run
        Its system decodes.
    out : Path, optional
        Folder of the pictures; RUN/figures by default.
    coordinates : sequence of int or str, optional
        Which, counted from 0 or by name; by default the first 16, or k if that is more.
    span : float
        The coordinate goes from −span to span; > 0.
    steps : int
        Values it takes, >= 2.
    bases : int
        Codes to start from, drawn from the prior, >= 1; with one, a picture less is drawn.
    seed : int
        Of the draw.

    Raises
    ------
    ValueError
        If an argument is out of range or a name unknown.
    """
    files = draw_traversals(
        run, coordinates=coordinates, span=span, steps=steps, bases=bases, seed=seed
    )
    return write_files(out or run.path / "figures", files)


def draw_traversals(
    run: "Run",
    *,
    coordinates: Sequence[int | str] | None = None,
    span: float = 2.0,
    steps: int = 11,
    bases: int = 4,
    seed: int = 0,
) -> dict[str, bytes]:
    """Return the files that `write_traversals` writes, by name."""
    _check_values(span, steps)
    chosen = chosen_coordinates(run, coordinates)
    base = base_codes(run.system, bases, seed)
    names = [run.system.code_names[i] for i in chosen]
    coarse, fine = (torch.linspace(-span, span, n) for n in (steps, 2 * steps - 1))
    images = decode(run.system, _traversal_codes(base, chosen, coarse))
    title = f"{run.system.name}: each coordinate varied"
    columns = [_signed(v) for v in coarse.tolist()]
    first = image_grid(
        images[:, :, 0], title=title, rows=names, columns=columns, groups=_groups(run, chosen)
    )
    files = {"traversals.png": image_png(first)}
    if bases > 1:
        rows = [name if b == 0 else "" for name in names for b in range(bases)]
        several = image_grid(
            images.movedim(2, 1).flatten(0, 1),
            title=f"{title}, from {bases} codes",
            rows=rows,
            columns=columns,
            groups=[bases] * len(chosen),
            cell=_SMALL_CELL,
        )
        files["traversals-bases.png"] = image_png(several)
    frames = decode(run.system, _traversal_codes(base, chosen, fine)).permute(1, 2, 0, 3, 4, 5)
    counts, cell = (bases, len(chosen)), _CELL if len(chosen) <= _WIDE else _SMALL_CELL
    grid = ImageGrid(counts, frames.shape[3:], title=title, columns=names, cell=cell)
    files["traversals.gif"] = animate(grid, frames, [_signed(v) for v in fine.tolist()])
    return files


def chosen_coordinates(run: "Run", coordinates: Sequence[int | str] | None) -> list[int]:
    """Return the coordinates to vary, counted from 0.

    Raises
    ------
    ValueError
        If one is not among the code's, or none is asked for.
    """
    names = list(run.system.code_names)
    if coordinates is None:
        return list(range(min(len(names), max(_SHOWN, leading(run) or 0))))
    if not len(coordinates):
        raise ValueError("coordinates is empty; accepted: at least one, or None")
    return [_coordinate(c, names) for c in coordinates]


def _coordinate(asked: int | str, names: list[str]) -> int:
    if asked in names:
        return names.index(str(asked))
    if isinstance(asked, int) and not isinstance(asked, bool) and 0 <= asked < len(names):
        return asked
    raise ValueError(
        f"coordinates has {asked!r}; accepted: integers from 0 to {len(names) - 1}, or names "
        f"from {names[0]} to {names[-1]}"
    )


def _check_values(span: float, steps: int) -> None:
    if not 0 < span < math.inf:
        raise ValueError(f"span is {span}; accepted: a finite number > 0")
    if steps < 2:
        raise ValueError(f"steps is {steps}; accepted: an integer >= 2")


def _traversal_codes(base: Tensor, coordinates: list[int], values: Tensor) -> Tensor:
    """Return codes (coordinates, values, bases, d)."""
    codes = base.repeat(len(coordinates), len(values), 1, 1)
    for row, coordinate in enumerate(coordinates):
        codes[row, :, :, coordinate] = values.to(base)[:, None]
    return codes


def _groups(run: "Run", chosen: list[int]) -> list[int]:
    """Return how many rows belong together: those that the penalty aligns, then the others."""
    k = leading(run) or 0
    aligned = penalty_weight(run) > 0 and chosen == list(range(len(chosen))) and k < len(chosen)
    return [k, len(chosen) - k] if aligned else [len(chosen)]


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−") if abs(value) > 1e-6 else "0"
