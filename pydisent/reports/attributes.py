"""Attributes set on images one at a time: rows of faces, columns of attributes (Lezama, Fig. 5)."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pydisent.evaluation.codes import decode
from pydisent.reports.files import write_files
from pydisent.reports.style import figure, figure_png
from pydisent.training.run import Run


def flipped_images(
    run: Run, numbers: Sequence[int], columns: Sequence[int], *, alpha: float
) -> Tensor:
    """Return held-out images, their reconstructions, and these with single attributes flipped.

    Parameters
    ----------
    run : Run
        A run of a system with attributes in its code; held-out images are used, or all if there
        are none.
    numbers : sequence of int
        Indices of the images.
    columns : sequence of int
        The attributes' coordinates in the code; y becomes −alpha sign(y).
    alpha : float
        Magnitude of a flipped coordinate.

    Returns
    -------
    Tensor
        (images, 2 + attributes, C, H, W) in [0, 1].
    """
    source = run.held_out or run.dataset
    images = source.images(list(numbers))
    with torch.no_grad():
        codes = run.system.encode(images.to(run.system.device))
        rows = [images, decode(run.system, codes)]
        for column in columns:
            changed = codes.clone()
            changed[:, column] = torch.where(codes[:, column] < 0, alpha, -alpha)
            rows.append(decode(run.system, changed))
    return torch.stack(rows, dim=1)


def write_attributes(
    run: Run, path: Path, *, alpha: float, faces: int = 6, columns: Sequence[int] | None = None
) -> Path:
    """Draw images with attributes flipped one at a time, and return the PNG file.

    Parameters
    ----------
    run, alpha, columns
        As for `flipped_images`; all attributes by default.
    path : Path
        The PNG to write.
    faces : int
        Number of images.
    """
    chosen = list(run.system.factor_columns if columns is None else columns)
    pictures = flipped_images(run, range(faces), chosen, alpha=alpha)
    names = ["image", "decoded", *(run.system.code_names[c] for c in chosen)]
    size, across = 72, 12
    bands = [
        range(start, min(start + across, len(names))) for start in range(0, len(names), across)
    ]
    with figure(size * across, (52 * faces + 50) * len(bands)) as drawn:
        axes = drawn.subplots(len(bands), across, squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for row, band in zip(axes, bands, strict=True):
            for axis, column in zip(row, band):
                tall = pictures[:, column].permute(0, 2, 3, 1).flatten(0, 1)
                axis.imshow(tall.squeeze(-1), cmap="gray", vmin=0, vmax=1)
                title = textwrap.fill(names[column].replace("_", " "), 11)
                axis.set_title(title, fontsize=6.5, fontweight="normal", loc="center")
        return write_files(path.parent, {path.name: figure_png(drawn)})[0]
