"""Samples, reconstructions and small steps in latent space."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pydisent._extras import optional
from pydisent.evaluation.alignment import alignment_summary
from pydisent.evaluation.codes import base_codes, dataset_images, decode
from pydisent.evaluation.subject import Subject
from pydisent.jacobian import eigenvectors
from pydisent.reports._grid import image_grid
from pydisent.reports._section import Picture, Section, labelled, section_of
from pydisent.reports.figures import spectra
from pydisent.reports.files import figures_folder, write_files
from pydisent.reports.style import SCALE, image_png
from pydisent.training.run import Run

with optional():
    from PIL import Image


_SMALL_CELL = 40 * SCALE
_WALL = 64  # images on a wall


def image_wall(images: Tensor, title: str, columns: int = 8) -> Image.Image:
    """Draw images (N, C, H, W) in full rows of `columns`; a remainder is left out."""
    columns = min(columns, len(images))
    rows = len(images) // columns
    wall = images[: rows * columns].unflatten(0, (rows, columns))
    return image_grid(wall, title=title, cell=_SMALL_CELL)


def write_wall(images: Tensor, title: str, path: Path) -> Path:
    """Write `image_wall` to a PNG file, and return its path."""
    return write_files(path.parent, {path.name: image_png(image_wall(images, title))})[0]


def reconstruction_pairs(
    images: Tensor, again: Tensor, title: str, columns: int = 12
) -> Image.Image:
    """Draw images (N, C, H, W) above their reconstructions, in rows of `columns`."""
    columns = min(columns, len(images))
    rows = len(images) // columns
    pairs = torch.stack([images, again], 1)[: rows * columns]
    pairs = pairs.unflatten(0, (rows, columns)).transpose(1, 2).flatten(0, 1)
    labels = ["image", "decoded"] * rows
    return image_grid(pairs, title=title, rows=labels, groups=[2] * rows)


def local_svd(
    run: Run,
    *,
    bases: int = 2,
    directions: int = 8,
    distance: float = 0.8,
    seed: int = 0,
) -> Image.Image:
    """Draw steps of one length from codes, along eigenvectors of M and at random (Fig. 13).

    Parameters
    ----------
    run : Run
        The run.
    bases : int
        Number of codes to step from, >= 1.
    directions : int
        Number of leading eigenvectors and of random directions, >= 1; at most m are drawn.
    distance : float
        The length ε > 0 of every step.
    seed : int
        Seed of codes and random directions.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    if directions < 1:
        raise ValueError(f"directions must be an integer >= 1, got {directions}")
    if not distance > 0:
        raise ValueError(f"distance must be > 0, got {distance}")
    z = base_codes(run.system, bases, seed)
    directions = min(directions, z.shape[1])
    steps = distance * _directions(run, z, directions, seed)
    here = torch.zeros_like(steps[:, :, :1])
    images = decode(run.system, z[:, None, None] + torch.cat([here, steps], 2))
    change = (images[:, :, 1:] - images[:, :, :1]).square().flatten(3).mean(-1).sqrt().amax(-1)
    kinds = ("+ eigenvector", "− eigenvector", "+ random", "− random")
    rows = [
        f"{kind}\nchange ≤ {amount:.3f}"
        for amounts in change.tolist()
        for kind, amount in zip(kinds, amounts)
    ]
    return image_grid(
        images.flatten(0, 1),
        title=f"{run.system.name}: steps of length {distance:g}",
        rows=rows,
        columns=["here", *(str(i + 1) for i in range(directions))],
        groups=[2, 2] * bases,
    )


def write_local_svd(
    run: Run,
    out: Path | None = None,
    *,
    distances: Sequence[float],
    bases: int = 2,
    directions: int = 13,
    seed: int = 0,
) -> list[Path]:
    """Draw `local_svd` for steps of several lengths, and the spectra (Ramesh et al., Fig. 13).

    Parameters
    ----------
    run, bases, directions, seed
        As for `local_svd`.
    out : Path, optional
        Folder for the pictures; RUN/figures by default.
    distances : sequence of float
        The lengths ε > 0, one picture for each.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    folder = figures_folder(run, out)
    options = {"bases": bases, "directions": directions, "seed": seed}
    files = {
        f"steps-{distance:g}.png": image_png(local_svd(run, distance=distance, **options))
        for distance in distances
    }
    files["spectra.png"] = spectra({run.system.name: alignment_summary(run, seed=seed)})
    return write_files(folder, files)


def _directions(run: Run, z: Tensor, count: int, seed: int) -> Tensor:
    """Return unit vectors (B, 4, count, m): ± leading eigenvectors, ± random ones."""
    _, vectors = eigenvectors(run.system.decode, z)
    leading = vectors[:, :, :count].mT.to(z)
    drawn = torch.randn(leading.shape, generator=torch.Generator().manual_seed(seed)).to(z)
    drawn = drawn / drawn.norm(dim=-1, keepdim=True)
    return torch.stack([leading, -leading, drawn, -drawn], 1)


def samples_section(subjects: Sequence[Subject]) -> Section:
    """Return the section of images of the data and generated images."""
    section = Section(
        "Samples",
        "Images from the data set beside images generated from random codes. Nothing is "
        "cherry-picked: blank or broken images are as frequent in general as here.",
    )
    seen = []
    for subject in subjects:
        if subject.data_key not in seen:
            seen.append(subject.data_key)
            section.attempt("images of the data", _real, subject, len(seen))
        section.attempt(subject.label, labelled, subjects, subject, _generated)
    return section


def _real(subject: Subject, number: int) -> Picture:
    data = subject.run.plan.data
    wall = image_wall(dataset_images(subject.run.dataset, _WALL, subject.seed), data)
    file = "real.png" if number == 1 else f"real-{number}.png"
    return Picture(
        file, image_png(wall), f"A grid of images drawn at random from {data}.", f"Real: {data}."
    )


def _generated(subject: Subject) -> Picture:
    system = subject.run.system
    images = decode(system, base_codes(system, _WALL, subject.seed))
    return Picture(
        "samples.png",
        image_png(image_wall(images, f"{subject.label}: samples")),
        f"A grid of {len(images)} images generated by {subject.label} from random codes.",
        f"Generated: {subject.label}.",
    )


def steps_section(subjects: Sequence[Subject]) -> Section:
    """Return the section of small steps in latent space."""
    return section_of(
        "Small steps in latent space",
        "From a code (left), steps of one length along the leading eigenvectors of M, either way, "
        "and, below, along random directions. An eigenvector should change one thing, the first "
        "ones most; a random direction mixes all of them. The figures are the row's largest "
        "root-mean-square change of a pixel.",
        subjects,
        _steps,
    )


def _steps(subject: Subject) -> Picture:
    return Picture(
        "steps.png",
        image_png(local_svd(subject.run, seed=subject.seed)),
        f"Images of {subject.label} after steps along eigenvectors and along random directions, "
        "from two codes.",
        f"{subject.label}: two codes, steps of length 0.8.",
    )


def reconstructions_section(subjects: Sequence[Subject]) -> Section:
    """Return the section of reconstructions."""
    return section_of(
        "Reconstructions",
        "Images from the data set above their reconstructions: encoded, then decoded.",
        subjects,
        _reconstructions,
    )


def _reconstructions(subject: Subject) -> Picture:
    images, again = subject.reconstructions
    title = f"{subject.label}: reconstructions"
    return Picture(
        "reconstructions.png",
        image_png(reconstruction_pairs(images[:24], again[:24], title)),
        f"Pairs of rows: images from the data set above their reconstructions by {subject.label}.",
        f"{subject.label}: mean squared error of a pixel {subject.reconstruction_error:.4f}, over "
        f"{len(images)} images.",
    )
