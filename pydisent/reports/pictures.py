"""Grids of samples, reconstructions and small steps in latent space."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pydisent._extras import optional
from pydisent.jacobian import eigenvectors
from pydisent.reports._codes import base_codes, decode
from pydisent.reports._grid import image_grid
from pydisent.reports._style import SCALE

with optional():
    from PIL import Image


if TYPE_CHECKING:
    from pydisent.training import Run

_SMALL_CELL = 40 * SCALE


def image_wall(images: Tensor, title: str, columns: int = 8) -> Image.Image:
    """Draw images (N, C, H, W) in rows of `columns`; the last row is left out unless full."""
    columns = min(columns, len(images))
    rows = len(images) // columns
    wall = images[: rows * columns].unflatten(0, (rows, columns))
    return image_grid(wall, title=title, cell=_SMALL_CELL)


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
    run: "Run",
    *,
    bases: int = 2,
    directions: int = 8,
    distance: float = 0.8,
    seed: int = 0,
) -> Image.Image:
    """Draw steps of one length from a code, along eigenvectors of M and at random (Fig. 13).

    Parameters
    ----------
    run : Run
        Its system decodes.
    bases : int
        Codes to step from, >= 1.
    directions : int
        Leading eigenvectors, and random directions, >= 1; at most m are drawn.
    distance : float
        ε > 0, the length of every step.
    seed : int
        Of codes and random directions.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    if directions < 1:
        raise ValueError(f"directions is {directions}; accepted: an integer >= 1")
    if not distance > 0:
        raise ValueError(f"distance is {distance}; accepted: a number > 0")
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


def _directions(run: "Run", z: Tensor, count: int, seed: int) -> Tensor:
    """Return unit vectors (B, 4, count, m): ± leading eigenvectors, ± random ones."""
    _, vectors = eigenvectors(run.system.decode, z)
    leading = vectors[:, :, :count].mT.to(z)
    drawn = torch.randn(leading.shape, generator=torch.Generator().manual_seed(seed)).to(z)
    drawn = drawn / drawn.norm(dim=-1, keepdim=True)
    return torch.stack([leading, -leading, drawn, -drawn], 1)
