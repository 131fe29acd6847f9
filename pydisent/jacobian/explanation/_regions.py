"""Directions that act inside a region of the image, or nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pydisent._checks import check, check_integer
from pydisent.jacobian.explanation._generator import shrunk
from pydisent.jacobian.explanation._leading import (
    Leading,
    Product,
    leading_of_matrix,
    leading_of_products,
)
from pydisent.jacobian.explanation._work import MORE, REGIONS, WIDTH, Work, maps_of
from pydisent.jacobian.linearization import Linearization

_DIRECTIONS = 4  # of a region, at most
_MOST = 32  # most columns of products, or twice the number of directions


@dataclass(frozen=True)
class Region:
    """Directions q at each code that maximise ‖w ∘ J q‖², with w the mask.

    Attributes
    ----------
    mask : Tensor
        w, (H, W), in [0, 1].
    eigenvalues : Tensor
        ‖w ∘ J q‖², (Q, k) at the first Q codes.
    eigenvectors : Tensor
        q, (Q, k, *latent).
    residuals : Tensor
        Relative errors as eigenvectors, (Q, k).
    inside : Tensor
        The share of the change in the region, ‖w ∘ J q‖² / ‖J q‖², (Q, k) in [0, 1].
    maps : Tensor
        Where they act, like the maps of other directions, (Q, k, h, w).
    """

    mask: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor
    residuals: Tensor
    inside: Tensor
    maps: Tensor


def checked_masks(regions: Any, height: int, width: int) -> dict[str, Tensor]:
    """The masks (H, W) of regions, given as such or as boxes (top, left, bottom, right)."""
    if not isinstance(regions, Mapping) or not all(isinstance(name, str) for name in regions):
        raise TypeError(f"regions must map names to masks or boxes, got {regions!r:.60}")
    return {name: _mask(f"regions[{name!r}]", of, height, width) for name, of in regions.items()}


def _mask(name: str, of: Any, height: int, width: int) -> Tensor:
    if isinstance(of, Tensor):
        check(of.shape == (height, width), name, f"({height}, {width})", tuple(of.shape))
        mask = of.detach().float().cpu()
        inside = bool(((mask >= 0) & (mask <= 1)).all())
        check(inside and bool(mask.any()), name, "in [0, 1] and not 0 everywhere", "other values")
        return mask
    if not isinstance(of, (tuple, list)) or len(of) != 4:
        raise TypeError(
            f"{name} must be a mask ({height}, {width}) or a box (top, left, bottom, right), got "
            f"{of!r:.60}"
        )
    for number in of:
        check_integer(name, number, at_least=0)
    top, left, bottom, right = of
    fits = top < bottom <= height and left < right <= width
    check(fits, name, f"a box top < bottom <= {height}, left < right <= {width}", tuple(of))
    mask = torch.zeros(height, width)
    mask[top:bottom, left:right] = 1
    return mask


def in_regions(
    work: Work, codes: Tensor, masks: Mapping[str, Tensor], nullspace: int
) -> dict[str, Region]:
    """Find the directions of each region at codes, one after another, as far as time allows.

    They are the leading eigenvectors of P J' D² J P, D the mask, where P = I − U U' projects out
    the ``nullspace`` leading eigenvectors U of J' (1 − D)² J: what changes the rest of the image.
    """
    count = min(work.k, _DIRECTIONS)
    found: dict[str, list[Region]] = {name: [] for name in masks}
    for number, z in enumerate(codes.split(1)):
        begin = work.clock.elapsed
        for name, mask in masks.items():
            found[name].append(_at(work, z, mask.to(z.device), count, nullspace))
            work.report("regions", number + 1, len(codes))
        took = work.clock.elapsed - begin
        if number + 1 < len(codes) and work.clock.left(REGIONS) < took:
            work.leave_out(f"the regions' directions at {len(codes) - number - 1} codes")
            break
    fields = ("eigenvalues", "eigenvectors", "residuals", "inside", "maps")
    return {
        name: Region(masks[name], *(torch.cat([getattr(r, f) for r in parts]) for f in fields))
        for name, parts in found.items()
    }


def _at(work: Work, z: Tensor, mask: Tensor, count: int, nullspace: int) -> Region:
    projector: Tensor | None = None
    if nullspace:
        rest = work.linear(z, mask=1 - mask)
        projector = _solved(work, rest, nullspace, None).vectors[..., :nullspace]
    linear = work.linear(z, mask=mask)
    leading = _solved(work, linear, count, projector).head(count)
    assert work.generator.image is not None
    maps = maps_of(work.linear(z), leading.vectors, work.generator.image)
    weighted = (maps * mask.square()).sum((2, 3))
    inside = weighted / maps.sum((2, 3)).clamp_min(torch.finfo(maps.dtype).tiny)
    vectors = leading.vectors.mT.reshape(1, -1, *z.shape[1:])
    return Region(
        mask.cpu(),
        leading.values.cpu(),
        vectors.cpu().to(z.dtype),
        leading.residuals.cpu(),
        inside.cpu(),
        shrunk(maps, work.side).cpu(),
    )


def _solved(work: Work, linear: Linearization, count: int, away: Tensor | None) -> Leading:
    """The leading pairs of P M P, P = I − U U' for U = ``away`` (1, m, u)."""

    def apart(columns: Tensor) -> Tensor:
        return columns if away is None else columns - away @ (away.mT @ columns)

    m = linear.latent_shape[1:].numel()
    if work.exact:
        return leading_of_matrix(apart(apart(work.gram(linear)).mT))
    product: Product = work.product(linear)
    return leading_of_products(
        lambda columns: apart(product(apart(columns))),
        work.signs(1, m, min(m, WIDTH)),
        count,
        tolerance=work.tolerance,
        most=max(_MOST, 2 * count),
        go_on=lambda columns: (
            columns < count + MORE or work.clock.left(REGIONS) >= WIDTH * work.column_seconds
        ),
    )
