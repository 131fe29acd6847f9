"""Sampling of images at points between their pixels."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from pydisent.jacobian.decompositions._registry import decomposes, widen

# In the order of torch.grid_sampler's integer codes.
_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")


@decomposes(F.grid_sample)
def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Sample ``input`` (B, C, [D,] H, W) at ``grid`` (B, *out, 2 or 3), x first, in [-1, 1]."""
    _check_grid(input, grid, mode, padding_mode)
    sizes = input.shape[2:]
    places = reversed(widen(grid).unbind(-1))
    axes = [_taps(x, n, mode, padding_mode, bool(align_corners)) for x, n in zip(places, sizes)]
    pixels, out = widen(input).flatten(2), None
    for taps in itertools.product(*axes):
        index, weight = taps[0]
        for size, (position, share) in zip(sizes[1:], taps[1:]):
            index, weight = index * size + position, weight * share
        index = index.flatten(1).unsqueeze(1).expand(-1, pixels.shape[1], -1)
        term = pixels.gather(2, index).unflatten(2, grid.shape[1:-1]) * weight.unsqueeze(1)
        out = term if out is None else out + term
    assert out is not None
    return out.to(torch.promote_types(input.dtype, grid.dtype))


@decomposes(torch.grid_sampler, torch.grid_sampler_2d, torch.grid_sampler_3d)
def _grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    mode, padding = _MODES[interpolation_mode], _PADDINGS[padding_mode]
    return grid_sample(input, grid, mode, padding, align_corners)


def _check_grid(input: Tensor, grid: Tensor, mode: str, padding_mode: str) -> None:
    if input.dim() not in (4, 5) or 0 in input.shape[2:]:
        raise ValueError(
            "input must have shape (B, C, H, W) or (B, C, D, H, W) with pixels in it, "
            f"got {tuple(input.shape)}"
        )
    if grid.dim() != input.dim() or (grid.shape[0], grid.shape[-1]) != (
        input.shape[0],
        input.dim() - 2,
    ):
        raise ValueError(
            f"grid must have {input.dim()} axes, the first of size {input.shape[0]} and "
            f"the last of size {input.dim() - 2} to match input, got {tuple(grid.shape)}"
        )
    modes = _MODES[: 3 if input.dim() == 4 else 2]
    if mode not in modes:
        raise ValueError(
            f"mode must be one of {modes} for an input of {input.dim()} axes, got {mode!r}"
        )
    if padding_mode not in _PADDINGS:
        raise ValueError(f"padding_mode must be one of {_PADDINGS}, got {padding_mode!r}")
    same = input.dtype == grid.dtype or torch.is_autocast_enabled(input.device.type)
    if not (same and input.is_floating_point() and grid.is_floating_point()):
        raise ValueError(
            f"grid must have the floating-point dtype of input, got {grid.dtype} and {input.dtype}"
        )


def _taps(
    x: Tensor, size: int, mode: str, padding_mode: str, corners: bool
) -> list[tuple[Tensor, Tensor]]:
    """Indices and weights of the pixels along one axis that a coordinate reads."""
    place = (x + 1) / 2 * (size - 1) if corners else ((x + 1) * size - 1) / 2
    if mode != "bicubic":  # which pads pixels one by one
        place = _pad_place(place, size, padding_mode, corners)
    if mode == "nearest":
        first = place.round()
        weights = [1 + (first - first.detach())]  # a derivative of zero rather than none
    else:
        first = place.detach().floor()
        weights = _linear(place - first) if mode == "bilinear" else _cubic(place - first)
    taps = []
    for i, weight in enumerate(weights, -1 if mode == "bicubic" else 0):
        pixel = first.detach() + i
        if mode == "bicubic":
            pixel = _pad_place(pixel, size, padding_mode, corners)
        inside = (pixel >= 0) & (pixel < size)  # false for NaN
        taps.append((pixel.where(inside, 0.0).long(), weight.where(inside, 0.0)))
    return taps


def _pad_place(place: Tensor, size: int, padding_mode: str, corners: bool) -> Tensor:
    """Move a coordinate in units of pixels into the image, unless padding is by zeros."""
    if padding_mode == "zeros":
        return place
    if padding_mode == "reflection":
        low, span = (0.0, size - 1) if corners else (-0.5, size)
        # From ``low`` on, the pattern rises for ``span`` and falls again. One pixel has no span.
        along = torch.fmod((place - low).abs(), 2 * max(span, 1))
        place = torch.where(along < span, along, 2 * span - along) + low
    # Unlike clamp's, the derivative at the border itself is zero, as in PyTorch; NaN becomes 0.
    return place.where(place < size - 1, size - 1.0).where(place > 0, 0.0)


def _linear(t: Tensor) -> list[Tensor]:
    return [1 - t, t]


def _cubic(t: Tensor) -> list[Tensor]:
    """Weights of cubic convolution with A = -3/4 for four pixels, at ``t`` past the second."""
    a = -0.75

    def near(t: Tensor) -> Tensor:
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t: Tensor) -> Tensor:
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]
