"""Traversals: one coordinate of a code varies, the others stay fixed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pydisent._checks import check_counts, check_one_of
from pydisent.evaluation.alignment import leading, penalty_weight
from pydisent.evaluation.codes import Split, base_codes, decode, encoded_images
from pydisent.evaluation.lengths import Lengths, known_lengths, measured_lengths
from pydisent.evaluation.masks import code_masks
from pydisent.evaluation.subject import Subject
from pydisent.reports._grid import ImageGrid, animate, image_grid
from pydisent.reports._section import Picture, Section, described, section_of
from pydisent.reports.files import figures_folder, write_files
from pydisent.reports.masks import NOTE, overlay
from pydisent.reports.style import SCALE, image_png
from pydisent.training.run import Run

Origin = Literal["prior", "data"]
Sort = Literal["auto", "tpl", "code"]
_SHOWN = 16  # coordinates by default, unless more are aligned
_CELL, _SMALL_CELL = 56 * SCALE, 40 * SCALE
_WIDE = 12  # columns; images are smaller beyond that


def write_traversals(
    run: Run,
    out: Path | None = None,
    *,
    coordinates: Sequence[int | str] | None = None,
    sort: Sort = "auto",
    span: float = 2.0,
    steps: int = 11,
    bases: int = 4,
    seed: int = 0,
    origin: Origin = "prior",
    split: Split = "auto",
) -> list[Path]:
    """Draw images along coordinates of the code, still and moving, and return the files.

    If the system has a mask for each code, a first column shows it on the image of the row's
    code (Zhu et al., Fig. 7).

    Parameters
    ----------
    run : Run
        The run.
    out : Path, optional
        Folder for the pictures; RUN/figures by default.
    coordinates : sequence of int or str, optional
        Coordinates to vary, as numbers from 0 or names; by default the first 16, or k if larger.
    sort : str
        "tpl": by the perceptual length of the traversals, longest first, measured if not among the
        run's scores. "code": in the order of the code or `coordinates`. "auto": by length if it is
        among the scores, `coordinates` is None, and no penalty aligns the first ones.
    span : float
        The coordinate goes from −span to span, span > 0.
    steps : int
        Number of values, >= 2.
    bases : int
        Number of codes, >= 1; with one, one picture fewer is drawn.
    seed : int
        Seed of the codes.
    origin : str
        "prior": codes drawn from the prior; "data": codes of images from the data set.
    split : str
        With `origin` "data": training images for "train" and "auto", or "test" images.

    Raises
    ------
    ValueError
        If an argument is out of range or a name unknown.
    """
    folder = figures_folder(run, out)
    files = draw_traversals(
        run,
        coordinates=coordinates,
        sort=sort,
        span=span,
        steps=steps,
        bases=bases,
        seed=seed,
        origin=origin,
        split=split,
    )
    return write_files(folder, files)


def draw_traversals(
    run: Run,
    *,
    coordinates: Sequence[int | str] | None = None,
    sort: Sort = "auto",
    span: float = 2.0,
    steps: int = 11,
    bases: int = 4,
    seed: int = 0,
    origin: Origin = "prior",
    split: Split = "auto",
) -> dict[str, bytes]:
    """Return the files that `write_traversals` writes, by name."""
    _check_values(span, steps)
    chosen, lengths = ordered_coordinates(run, coordinates, sort)
    check_one_of("origin", origin, ("prior", "data"))
    check_counts(bases=bases)
    if origin == "prior":
        base = base_codes(run.system, bases, seed)
    else:
        base = encoded_images(run, bases, seed, split)[1]
    names = [run.system.code_names[i] for i in chosen]
    coarse, fine = (torch.linspace(-span, span, n) for n in (steps, 2 * steps - 1))
    images = decode(run.system, _traversal_codes(base, chosen, coarse)).movedim(2, 1)
    title = f"{run.system.name}: each coordinate varied"
    table = _Table(run, base, chosen, lengths, [_signed(v) for v in coarse.tolist()])
    first = table.draw(images[:, :1], title=title, groups=_groups(run, chosen))
    files = {"traversals.png": first}
    if bases > 1:
        files["traversals-bases.png"] = table.draw(
            images,
            title=f"{title}, from {bases} codes",
            groups=[bases] * len(chosen),
            cell=_SMALL_CELL,
        )
    frames = decode(run.system, _traversal_codes(base, chosen, fine)).permute(1, 2, 0, 3, 4, 5)
    counts, cell = (bases, len(chosen)), _CELL if len(chosen) <= _WIDE else _SMALL_CELL
    grid = ImageGrid(counts, frames.shape[3:], title=title, columns=names, cell=cell)
    files["traversals.gif"] = animate(grid, frames, [_signed(v) for v in fine.tolist()])
    return files


class _Table:
    """Labels of traversals: names, lengths, and any masks."""

    def __init__(
        self,
        run: Run,
        base: Tensor,
        chosen: list[int],
        lengths: Lengths | None,
        columns: list[str],
    ) -> None:
        self._names = [run.system.code_names[i] for i in chosen]
        self._lengths = [f"tpl {lengths.values[i]:.3f}" if lengths else "" for i in chosen]
        self._columns, self._notes = columns, [lengths.note] if lengths else []
        masks = code_masks(run.system, base)
        self._masks = self._overlays = None
        if masks is not None:
            self._masks = masks[:, chosen].transpose(0, 1)  # (rows, bases, H, W)
            images = decode(run.system, base)
            self._overlays = overlay(images.expand(len(chosen), *images.shape), self._masks)
            self._columns, self._notes = ["mask", *columns], [NOTE, *self._notes]

    def draw(self, images: Tensor, **layout: Any) -> bytes:
        """Return the PNG of images (rows, bases, values, C, H, W)."""
        bases = images.shape[1]
        if self._overlays is not None:
            coloured = images.expand(-1, -1, -1, 3, -1, -1)
            images = torch.cat([self._overlays[:, :bases, None], coloured], 2)
            layout["column_groups"] = [1, len(self._columns) - 1]
        rows = [self._row(r, b) for r in range(len(images)) for b in range(bases)]
        note = " ".join(self._notes)
        picture = image_grid(
            images.flatten(0, 1), rows=rows, columns=self._columns, note=note, **layout
        )
        return image_png(picture)

    def _row(self, row: int, base: int) -> str:
        about = [self._lengths[row]] if base == 0 else []
        if self._masks is not None:
            about.append(f"max {float(self._masks[row, base].max()):.3f}")
        first, second = self._names[row] if base == 0 else "", " · ".join(filter(None, about))
        return f"{first}\n{second}" if second else first


def ordered_coordinates(
    run: Run, coordinates: Sequence[int | str] | None, sort: Sort = "auto"
) -> tuple[list[int], Lengths | None]:
    """Return the coordinates to vary, in order, and the lengths of all if known.

    Raises
    ------
    ValueError
        If a coordinate is unknown, there are none, or `sort` is unknown.
    """
    check_one_of("sort", sort, ("auto", "tpl", "code"))
    chosen = chosen_coordinates(run, coordinates)
    lengths = measured_lengths(run) if sort == "tpl" else known_lengths(run)
    own_order = coordinates is not None or penalty_weight(run) > 0
    if lengths is None or sort == "code" or (sort == "auto" and own_order):
        return chosen, lengths
    among = range(len(run.system.code_names)) if coordinates is None else chosen
    return [i for i in lengths.order if i in among][: len(chosen)], lengths


def chosen_coordinates(run: Run, coordinates: Sequence[int | str] | None) -> list[int]:
    """Return the coordinates to vary, counted from 0.

    Raises
    ------
    ValueError
        If one is unknown, or there are none.
    """
    names = list(run.system.code_names)
    if coordinates is None:
        return list(range(min(len(names), max(_SHOWN, leading(run) or 0))))
    if not len(coordinates):
        raise ValueError("coordinates must be at least one, or None, got none")
    return [_coordinate(c, names) for c in coordinates]


def _coordinate(asked: int | str, names: list[str]) -> int:
    if asked in names:
        return names.index(str(asked))
    if isinstance(asked, int) and not isinstance(asked, bool) and 0 <= asked < len(names):
        return asked
    raise ValueError(
        f"coordinates must be integers from 0 to {len(names) - 1}, or names from {names[0]} to "
        f"{names[-1]}, got {asked!r}"
    )


def _check_values(span: float, steps: int) -> None:
    if not 0 < span < math.inf:
        raise ValueError(f"span must be finite and > 0, got {span}")
    if steps < 2:
        raise ValueError(f"steps must be an integer >= 2, got {steps}")


def _traversal_codes(base: Tensor, coordinates: list[int], values: Tensor) -> Tensor:
    """Return codes (coordinates, values, bases, d)."""
    codes = base.repeat(len(coordinates), len(values), 1, 1)
    for row, coordinate in enumerate(coordinates):
        codes[row, :, :, coordinate] = values.to(base)[:, None]
    return codes


def _groups(run: Run, chosen: list[int]) -> list[int]:
    """Return the sizes of the groups of rows: those that the penalty aligns, then the rest."""
    k = leading(run) or 0
    aligned = penalty_weight(run) > 0 and chosen == list(range(len(chosen))) and k < len(chosen)
    return [k, len(chosen) - k] if aligned else [len(chosen)]


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−") if abs(value) > 1e-6 else "0"


def section(subjects: Sequence[Subject]) -> Section:
    """Return the section of traversals."""
    intro = (
        "Along a row one coordinate of the code goes from −2 to 2 (two standard deviations of "
        "the prior to either side) and the others stay fixed. In a disentangled "
        "code a row changes one thing."
    )
    if any(penalty_weight(s.run) > 0 for s in subjects):
        intro += (
            " A gap separates the coordinates that the penalty aligns from the rest, which should "
            "have little effect."
        )
    if any(known_lengths(s.run) for s in subjects):
        intro += (
            " tpl is the perceptual length of a row's traversal from −4 to 4 (Zhu et al., "
            "Eq. 11): how much the coordinate matters. The longest comes first, unless a penalty "
            "gives the order."
        )
    return section_of("Traversals", intro, subjects, _pictures)


def _pictures(subject: Subject) -> list[Picture]:
    order, _ = ordered_coordinates(subject.run, None)
    shown, size = len(order), len(subject.run.system.code_names)
    some = "the first" if order == list(range(shown)) else "the longest"
    which = f"all {size}" if shown == size else f"{some} {shown} of {size}"
    files = draw_traversals(subject.run, seed=subject.seed)
    about = {
        "traversals.png": (
            f"Images of {subject.label} in {shown} rows, one per coordinate, which varies from "
            "−2 on the left to 2 on the right.",
            f"{subject.label}: {which} coordinates, from one code.",
        ),
        "traversals.gif": (
            f"Animation of {subject.label}: one column per coordinate, which moves from −2 to 2 "
            "and back; one row per code.",
            f"{subject.label}: the same in motion, one row per code.",
        ),
        "traversals-bases.png": (
            f"Images of {subject.label} in groups of rows, one group per coordinate, one row per "
            "code.",
            f"{subject.label}: the same from several codes.",
        ),
    }
    return described(files, about)
