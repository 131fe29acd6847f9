"""Pictures of given codes: as a table, and as an animation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pydisent._checks import check
from pydisent.evaluation.codes import decode
from pydisent.reports._grid import ImageGrid, animate, image_grid, one_line
from pydisent.reports._labels import labels_of
from pydisent.reports.style import image_png
from pydisent.training.run import Run

__all__ = ["animate_codes", "draw_codes", "labels_of"]


def draw_codes(runs: Sequence[Run], codes: Tensor, names: Sequence[str]) -> bytes:
    """Return a PNG of the codes' images, one row per code and one column per run.

    Parameters
    ----------
    runs : sequence of Run
        Runs with images of one shape and codes of one size.
    codes : Tensor
        (N, d), N >= 1.
    names : sequence of str
        Names of the N codes, printed beside them.

    Raises
    ------
    ValueError
        If the numbers of codes and names differ, or the shapes do.
    """
    images, labels = _images(runs, codes, names), labels_of(runs)
    title = f"{' and '.join(labels)}: {len(codes)} {'codes' if len(codes) > 1 else 'code'}"
    columns = labels if len(runs) > 1 else None
    return image_png(
        image_grid(images, title=title, rows=list(map(one_line, names)), columns=columns)
    )


def animate_codes(runs: Sequence[Run], codes: Tensor, names: Sequence[str], title: str) -> bytes:
    """Return a GIF that shows the codes' images forwards and backwards, one column per run.

    Parameters
    ----------
    runs, codes
        As for `draw_codes`.
    names : sequence of str
        Names of the N codes, shown one at a time.
    title : str
        Printed above.

    Raises
    ------
    ValueError
        If the numbers of codes and names differ, or the shapes do.
    """
    frames = _images(runs, codes, names)[:, None]  # (N, 1, runs, C, H, W)
    columns = labels_of(runs) if len(runs) > 1 else None
    grid = ImageGrid((1, len(runs)), frames.shape[3:], title=title, columns=columns)
    return animate(grid, frames, list(map(one_line, names)))


def _images(runs: Sequence[Run], codes: Tensor, names: Sequence[str]) -> Tensor:
    """Return the images (N, runs, C, H, W)."""
    check(len(codes) > 0, "codes", "at least one", "none")
    check(len(names) == len(codes), "names", f"one for each of {len(codes)} codes", len(names))
    shapes = {tuple(run.system.image_shape) for run in runs}
    check(len(shapes) == 1, "runs", "of images of one shape", sorted(shapes))
    return torch.stack([decode(run.system, codes.to(run.system.device)) for run in runs], 1)
