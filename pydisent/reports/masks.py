"""Masks of codes: where in the image each acts (Zhu et al., Fig. 7)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pydisent._extras import optional
from pydisent.evaluation.codes import base_codes, decode, prior_codes
from pydisent.evaluation.lengths import known_lengths
from pydisent.evaluation.masks import SAMPLES, has_masks, mask_summary, masks_of
from pydisent.evaluation.subject import Subject
from pydisent.reports._grid import image_grid
from pydisent.reports._section import Picture, Section, section_of
from pydisent.reports.files import figures_folder, write_files
from pydisent.reports.style import SCALE, image_png
from pydisent.training.run import Run

with optional():
    import matplotlib


NOTE = (
    "Masks: the image is dim and blue where the mask is 0 and clear where it is largest; each mask "
    "is divided by its maximum, printed as max."
)
_CELL = 40 * SCALE
_DIM, _TINT = 0.3, (0.1, 0.25, 0.5)


def overlay(images: Tensor, masks: Tensor) -> Tensor:
    """Fade images to a dim blue where a mask is small.

    Parameters
    ----------
    images : Tensor
        (*N, C, H, W) in [0, 1], C = 1 or 3.
    masks : Tensor
        (*N, H, W), each divided by its own maximum; an empty mask fades the image everywhere.

    Returns
    -------
    Tensor
        (*N, 3, H, W) in [0, 1].
    """
    clear = _scaled(masks).unsqueeze(-3)
    grey = images.mean(-3, keepdim=True)
    # Not to black, or a mask would be invisible on a dark background.
    faded = _DIM * grey + (1 - _DIM) * images.new_tensor(_TINT)[:, None, None]
    return clear * images + (1 - clear) * faded


def _scaled(masks: Tensor) -> Tensor:
    most = masks.amax((-2, -1), keepdim=True)
    return torch.where(most > 0, masks / most, torch.zeros_like(masks))


def write_masks(run: Run, out: Path | None = None, *, bases: int = 5, seed: int = 0) -> Path:
    """Draw each code's mask, averaged and on some images, into masks.png; return its path.

    Parameters
    ----------
    run : Run
        A run of a system with masks.
    out : Path, optional
        Folder for the picture; RUN/figures by default.
    bases : int
        Number of images, generated from codes of the prior, >= 1.
    seed : int
        Seed of the codes.

    Raises
    ------
    ValueError
        If the system has no masks, or `bases` is out of range.
    """
    folder = figures_folder(run, out)
    files = draw_masks(run, bases=bases, seed=seed)
    return write_files(folder, files)[0]


def draw_masks(run: Run, *, bases: int = 5, seed: int = 0) -> dict[str, bytes]:
    """Return the file that `write_masks` writes, by name."""
    base = base_codes(run.system, bases, seed)
    masks, images = masks_of(run, base), decode(run.system, base)
    mean = masks_of(run, prior_codes(run.system, SAMPLES, seed)).mean(0)
    found, lengths = mask_summary(run, seed=seed), known_lengths(run)
    order = lengths.order if lengths else list(range(len(mean)))
    rows = []
    for i in order:
        about = f"max {found.details['peak'][i]:.3f}"
        about = f"tpl {lengths.values[i]:.3f} · {about}" if lengths else about
        rows.append(f"{run.system.code_names[i]}\n{about}")
    tiles = [torch.cat([_shades(mean[i])[None], overlay(images, masks[:, i])]) for i in order]
    note = (
        f"The mean is over {SAMPLES} codes, dark where 0 and yellow where largest. {NOTE} "
        f"{lengths.note if lengths else ''}"
    )
    picture = image_grid(
        torch.stack(tiles),
        title=f"{run.system.name}: where each code acts (overlap {found.score:.2f})",
        rows=rows,
        columns=["mean", *(str(i + 1) for i in range(bases))],
        column_groups=[1, bases],
        note=note,
        cell=_CELL,
    )
    return {"masks.png": image_png(picture)}


def _shades(mask: Tensor) -> Tensor:
    """Return a mask (H, W) as colours (3, H, W) that are safe for colour-blind readers."""
    shades = matplotlib.colormaps["cividis"](_scaled(mask).numpy())
    return torch.from_numpy(shades[..., :3]).float().movedim(-1, 0)


def section(subjects: Sequence[Subject]) -> Section | None:
    """Return the section of masks; None if no run has any."""
    if not any(has_masks(s.run) for s in subjects):
        return None
    return section_of(
        "Masks",
        "Each code acts inside a learned mask (Zhu et al., Fig. 7). The overlap is "
        "the mean over pairs of codes of sum min(m, n) / sum max(m, n), each mask divided by its "
        "own maximum: 0 if all cover distinct regions, 1 if all are alike.",
        subjects,
        _picture,
    )


def _picture(subject: Subject) -> Picture:
    drawn = draw_masks(subject.run, seed=subject.seed)["masks.png"]
    places = "; ".join(
        f"{name} {height:.0%} × {width:.0%} about ({x:.0%}, {y:.0%})"
        for name, (height, width), (y, x) in zip(
            subject.run.system.code_names,
            subject.masks.details["extent"],
            subject.masks.details["centre"],
        )
    )
    return Picture(
        "masks.png",
        drawn,
        f"Masks of {subject.label}, one row per code: the mean, then on images. Height × width "
        f"about the centre (x, y), as fractions of the image: {places}.",
        f"{subject.label}: overlap {subject.masks.score:.3f}.",
    )
