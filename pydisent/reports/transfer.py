"""Attribute transfer: some dimensions of a code copied into others (Zhu et al., Fig. 10)."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pydisent._checks import check_one_of
from pydisent.evaluation.codes import Split, base_codes, decode, encoded_images
from pydisent.evaluation.lengths import METRIC, known_lengths, measured_lengths
from pydisent.evaluation.scoring import why_missing
from pydisent.evaluation.subject import Subject
from pydisent.reports._grid import image_grid
from pydisent.reports._section import Picture, Section, section_of
from pydisent.reports.files import figures_folder, write_files
from pydisent.reports.style import image_png
from pydisent.reports.traversals import Origin, chosen_coordinates, ordered_coordinates
from pydisent.training.run import Run

Group = int | str | Sequence[int | str]
_PICTURES = 3  # by default


def copied(sources: Tensor, attributes: Tensor, coordinates: Sequence[int]) -> Tensor:
    """Return each source code with some coordinates copied from each attribute code.

    Parameters
    ----------
    sources : Tensor
        (S, d) codes.
    attributes : Tensor
        (A, d) codes.
    coordinates : sequence of int
        The coordinates to copy.

    Returns
    -------
    Tensor
        (A, S, d).
    """
    mixed = sources.expand(len(attributes), *sources.shape).clone()
    mixed[:, :, list(coordinates)] = attributes[:, None, list(coordinates)]
    return mixed


def write_transfer(
    run: Run,
    out: Path | None = None,
    *,
    coordinates: Sequence[Group] | None = None,
    origin: Origin = "prior",
    sources: int = 7,
    attributes: int = 4,
    seed: int = 0,
    split: Split = "auto",
) -> list[Path]:
    """Draw images with coordinates of other images' codes, and return the files.

    The top row holds the sources, the left column the images that provide the attributes.

    Parameters
    ----------
    run : Run
        The run; with `origin` "data", its system also encodes.
    out : Path, optional
        Folder for the pictures; RUN/figures by default.
    coordinates : sequence, optional
        For each picture one coordinate or several, counted from 0 or by name; by default the three
        with the longest traversals, one per picture, measured if not among the scores.
    origin : str
        "prior": generated images. "data": encoded images from the data set, shown beside their
        reconstructions.
    sources, attributes : int
        Number of each, >= 1.
    seed : int
        Seed of the images.
    split : str
        With `origin` "data": training images for "train" and "auto", or "test" images.

    Raises
    ------
    ValueError
        If an argument is out of range, a name unknown, or the data has too few images.
    NotTrainedError
        If images are to be encoded and the encoder is not trained yet.
    """
    folder = figures_folder(run, out)
    files = draw_transfer(
        run,
        coordinates=coordinates,
        origin=origin,
        sources=sources,
        attributes=attributes,
        seed=seed,
        split=split,
    )
    return write_files(folder, files)


def draw_transfer(
    run: Run,
    *,
    coordinates: Sequence[Group] | None = None,
    origin: Origin = "prior",
    sources: int = 7,
    attributes: int = 4,
    seed: int = 0,
    split: Split = "auto",
) -> dict[str, bytes]:
    """Return the files that `write_transfer` writes, by name."""
    groups = _groups(run, coordinates)
    for name, count in (("sources", sources), ("attributes", attributes)):
        if count < 1:
            raise ValueError(f"{name} must be an integer >= 1, got {count}")
    shown, codes = _originals(run, origin, sources + attributes, seed, split)
    files = {}
    for group in groups:
        names = [run.system.code_names[i] for i in group]
        mixed = decode(run.system, copied(codes[:sources], codes[sources:], group))
        name = re.sub(r"[^\w.+-]", "_", "-".join(names))
        title = f"{run.system.name}: {', '.join(names)} copied from the images at the left"
        files[f"transfer-{name}.png"] = _draw(shown, mixed, title)
    return files


def _groups(run: Run, coordinates: Sequence[Group] | None) -> list[list[int]]:
    if coordinates is None:
        return [[i] for i in measured_lengths(run).order[:_PICTURES]]
    if not len(coordinates):
        raise ValueError("coordinates must be at least one, or None, got none")
    groups = [[g] if isinstance(g, (int, str)) else g for g in coordinates]
    return [list(dict.fromkeys(chosen_coordinates(run, group))) for group in groups]


def _originals(
    run: Run, origin: Origin, count: int, seed: int, split: Split
) -> tuple[Tensor, Tensor]:
    """Return the images shown unchanged (kinds, N, C, H, W), and their codes (N, d)."""
    if origin == "prior":
        codes = base_codes(run.system, count, seed)
        return decode(run.system, codes)[None], codes
    check_one_of("origin", origin, ("prior", "data"))
    images, codes = encoded_images(run, count, seed, split)
    return torch.stack([images, decode(run.system, codes)]), codes


def _draw(shown: Tensor, mixed: Tensor, title: str) -> bytes:
    """Draw sources above, and attributes beside, the mixed images (A, S, C, H, W).

    `shown` (kinds, S + A, C, H, W) holds generated images, or images and their reconstructions.
    """
    kinds, (attributes, sources) = len(shown), mixed.shape[:2]
    grid = mixed.new_zeros(kinds + attributes, kinds + sources, *mixed.shape[2:])
    grid[:kinds, kinds:], grid[kinds:, kinds:] = shown[:, :sources], mixed
    grid[kinds:, :kinds] = shown[:, sources:].transpose(0, 1)
    words = ["source", "attribute"] if kinds == 1 else ["image", "decoded"]
    rows = [*(words[:1] if kinds == 1 else words), *[""] * attributes]
    columns = [*(words[1:] if kinds == 1 else words), *[""] * sources]
    picture = image_grid(
        grid,
        title=title,
        rows=rows,
        columns=columns,
        groups=[kinds, attributes],
        column_groups=[kinds, sources],
        corner=(kinds, kinds),
    )
    return image_png(picture)


def section(subjects: Sequence[Subject]) -> Section | None:
    """Return the section of attribute transfer; None if no run has lengths of traversals."""
    if not any(known_lengths(s.run) for s in subjects):
        return None
    return section_of(
        "Attribute transfer",
        "The code of each image in the top row, with one coordinate copied from the code of each "
        "image in the left column (Zhu et al., Fig. 10). In a disentangled code one attribute is "
        "transferred, and the rest of the image above stays the same. The coordinates are those "
        "with the longest traversals.",
        subjects,
        _pictures,
    )


def _pictures(subject: Subject) -> list[Picture]:
    if known_lengths(subject.run) is None:
        raise LookupError(f"its traversals are {why_missing(subject.run, METRIC)} ({METRIC})")
    names = subject.run.system.code_names
    order, _ = ordered_coordinates(subject.run, None, "tpl")
    return [
        Picture(
            file,
            data,
            f"Grid of images of {subject.label}: those in the top row with {names[i]} from those "
            "in the left column.",
            f"{subject.label}: {names[i]} copied.",
        )
        for i, (file, data) in zip(order, draw_transfer(subject.run, seed=subject.seed).items())
    ]
