"""Images along directions."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pydisent.jacobian.explanation._generator import shrunk
from pydisent.jacobian.explanation._points import Points
from pydisent.jacobian.explanation._regions import Region
from pydisent.jacobian.explanation._work import PICTURES, Work, maps_of

_CHANGE = 0.15  # root mean square change at the longest first step, as a share of the range
_USED = 0.25  # least share of a usual range that images must use to have it
_LONGER = 4.0  # greatest ratio of a step along a weak direction to that along the first
_FRACTIONS = (-1.0, -0.5, 0.0, 0.5, 1.0)


@dataclass
class Pictures:
    """Images along directions, averaged over areas down to ``picture_size``.

    Attributes
    ----------
    fractions : list of float
        Images are those of z + fraction · length · q at these S fractions.
    lengths : Tensor
        Length of the longest step along each direction, (k,).
    value_range : (float, float)
        The values drawn black and white.
    local : Tensor
        Images along the directions at a code, at the first P codes, (P, k, S, C, h, w).
    local_maps : Tensor
        Where in the image these act, (J q)² summed over channels, at the first P' >= P codes, (P',
        k, h, w).
    average : Tensor
        Images along the average directions, at the first P'' codes, (P'', k, S, C, h, w); none if
        there is only one code, whose own directions these are.
    average_maps : Tensor
        Where these act at these codes, (P'', k, h, w).
    regions : dict of str to Tensor
        Images along the directions of a region at the first code, (k, S, C, h, w).
    region_lengths : dict of str to Tensor
        Lengths of the longest steps along these, (k,).
    """

    fractions: list[float]
    lengths: Tensor
    value_range: tuple[float, float]
    local: Tensor
    local_maps: Tensor
    average: Tensor
    average_maps: Tensor
    regions: dict[str, Tensor] = field(default_factory=dict)
    region_lengths: dict[str, Tensor] = field(default_factory=dict)


def step_length(values: Tensor, outputs: int, extent: float, codes: Tensor) -> float:
    """The step along the first direction that, linearly, changes images by a share of the range.

    At most the mean length of a code, unless that is 0.
    """
    largest = float(values[:, 0].median())
    usual = float(codes.double().flatten(1).norm(dim=1).mean())
    if largest <= 0:
        return usual or 1.0
    length = _CHANGE * extent * (outputs / largest) ** 0.5
    return min(length, usual) if usual > 0 else length


def step_lengths(length: float, strongest: float, values: Tensor) -> Tensor:
    """Steps (k,) that change the output as much as ``length`` does along the strongest direction.

    They are at most a few times as long.
    """
    ratios = (strongest / values.clamp_min(torch.finfo(values.dtype).tiny)).sqrt()
    return length * ratios.clamp(max=_LONGER)


def usual_range(images: Tensor) -> tuple[float, float]:
    """[0, 1] or [−1, 1] if images roughly lie in it and use much of it, else their central 98 %."""
    flat = images.flatten()[:: max(1, images.numel() // 100_000)].float()
    low, high = (float(flat.quantile(q)) for q in (0.01, 0.99))
    for ends, slack in (((0.0, 1.0), 0.02), ((-1.0, 1.0), 0.3)):
        within = low >= ends[0] - slack and high <= ends[1] + slack
        if within and high - low >= _USED * (ends[1] - ends[0]):
            return ends
    return (low, high) if high > low else (low, low + 1.0)


def draw(
    work: Work,
    codes: Tensor,
    points: Points,
    mean_vectors: Tensor,
    regions: dict[str, Region],
    lengths: tuple[Tensor, dict[str, Tensor]],
    value_range: tuple[float, float],
) -> Pictures:
    """Decode images along directions from the given codes, as far as time allows.

    Parameters
    ----------
    work
        The explanation in progress.
    codes
        The codes to draw, (P, *latent).
    points, mean_vectors, regions
        The directions at codes, the average ones (m, k), and those of regions.
    lengths
        Lengths of the longest steps along k directions, and along those of regions.
    value_range
        The values drawn black and white.
    """
    steps, by_name = lengths
    local: list[Tensor] = []
    average: list[Tensor] = []
    average_maps: list[Tensor] = []
    vectors = points.vectors(work.k)
    by_region = {
        name: _sheet(work, codes[0], region.eigenvectors[0].flatten(1).mT, by_name[name])
        for name, region in regions.items()
    }
    for number, code in enumerate(codes):
        if number and _lacks_time(work):
            break
        local.append(_sheet(work, code, vectors[number], steps))
        if points.count > 1:  # for one code the average directions are its own
            if _lacks_time(work):
                break
            average.append(_sheet(work, code, mean_vectors, steps))
            average_maps.append(_map(work, code, mean_vectors))
        work.report("pictures", number + 1, len(codes))
    if len(local) < len(codes):
        work.leave_out(f"pictures from {len(codes) - len(local)} of {len(codes)} codes")
    if points.count > 1 and len(average) < len(local):
        work.leave_out("pictures along average directions from one of these codes")
    maps = torch.cat(points.maps)[: len(codes)]
    return Pictures(
        list(_FRACTIONS),
        steps,
        value_range,
        torch.stack(local),
        maps,
        torch.stack(average) if average else local[0].new_zeros(0, *local[0].shape),
        torch.stack(average_maps) if average else maps[:0],
        by_region,
        by_name,
    )


def _lacks_time(work: Work) -> bool:
    """Whether there is no time for images of k directions and a map of where they act."""
    images = work.k * (len(_FRACTIONS) - 1) * work.image_seconds
    return work.clock.left(PICTURES) < images + work.linear_seconds + work.k * work.column_seconds


def _sheet(work: Work, code: Tensor, vectors: Tensor, lengths: Tensor) -> Tensor:
    """Images (k, S, C, h, w) along the columns of (m, k) from a code, itself decoded only once."""
    fractions = torch.tensor([each for each in _FRACTIONS if each], dtype=torch.float64)
    moves = fractions[:, None] * (lengths.double() * vectors.cpu().double()).mT[:, None]
    there = code.cpu().double() + moves.reshape(*moves.shape[:2], *code.shape)
    images = work.images(there.to(code))
    here = work.images(code[None]).expand(len(images), 1, *images.shape[2:])
    middle = sum(each < 0 for each in _FRACTIONS)
    return torch.cat([images[:, :middle], here, images[:, middle:]], 1)


def _map(work: Work, code: Tensor, vectors: Tensor) -> Tensor:
    assert work.generator.image is not None
    columns = vectors[None].to(code.device)
    maps = maps_of(work.linear(code[None]), columns, work.generator.image)
    return shrunk(maps, work.side)[0].cpu()
