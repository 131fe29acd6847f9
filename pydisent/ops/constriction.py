"""Spatial constriction: adaptive instance normalisation inside masks, code by code."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from pydisent import _backends
from pydisent._checks import check_floating, check_matching, check_number, shape_error
from pydisent.ops.registry import Family, Implementation
from pydisent.ops.spec import Draw, Sizes, computed, like

__all__ = ["spatial_constriction"]


def spatial_constriction(
    x: Tensor,
    masks: Tensor,
    scales: Tensor,
    shifts: Tensor,
    eps: float = 1e-8,
    *,
    impl: Implementation | None = None,
) -> Tensor:
    """Restyle a feature map by N codes in turn, each inside its mask (Zhu et al. 2021, Eqs. 6-7).

    For n = 1..N: x ← x (1 − m_n) + (scale_n x̂ + shift_n) m_n, where x̂ is the given x,
    instance-normalised once with its biased variance. N = 1 is AdaIN in a mask, N = 0 the
    identity.

    Parameters
    ----------
    x
        (B, C, H, W), contiguous or channels-last; any other layout is copied to contiguous. The
        result has its dtype; arithmetic is in float32, or float64 for a float64 x.
    masks
        (B, N, H, W), of any floating dtype; in [0, 1] for a convex mixture.
    scales, shifts
        (B, N, C), of any floating dtype: the style that each code gives each channel.
    eps
        > 0, added to the variance.
    impl
        "auto", "reference", "native" or "triton"; by default ``PYDISENT_IMPL``, else "auto".

    Returns
    -------
    Tensor
        (B, C, H, W), in the dtype of ``x``; channels-last if ``x`` is, else contiguous.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, devices or ``eps`` are not as above.
    RuntimeError
        If the requested implementation is not available.
    """
    check_number("eps", eps, above=0)
    if is_compiling() or not _backends.fits("bchw bnhw bnc bnc", x, masks, scales, shifts):
        _check(x, masks, scales, shifts)
    return _constriction(x, masks, scales, shifts, float(eps), impl=impl)


def _check(x: Tensor, masks: Tensor, scales: Tensor, shifts: Tensor) -> None:
    check_floating("x", x)
    if x.dim() != 4:
        raise shape_error("x", "(B, C, H, W)", x)
    batch, channels, height, width = x.shape
    check_matching("masks", masks, "x", x, shape=False)
    shape = masks.shape
    if len(shape) != 4 or shape[0] != batch or shape[2] != height or shape[3] != width:
        raise shape_error("masks", f"({batch}, N, {height}, {width}) for this x", masks)
    wanted = (batch, shape[1], channels)
    for name, style in (("scales", scales), ("shifts", shifts)):
        check_matching(name, style, "x", x, shape=False)
        if style.shape != wanted:
            raise shape_error(name, f"{wanted} for this x and these masks", style)


def _empty_map(x: Tensor) -> Tensor:
    """Uninitialised memory for a feature map like x: channels-last if x is, else contiguous."""
    channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty_like(x, memory_format=layout)


def _arguments(
    draw: Draw, batch: int, channels: int, height: int, width: int, codes: int,
    mean: float = 0.0, channels_last: bool = False,
) -> tuple[Any, ...]:  # fmt: skip
    x = draw(batch, channels, height, width, mean=mean)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    # Exact zeros and ones included, as in saturated bands.
    masks = (draw(batch, codes, height, width).sigmoid() * 1.4 - 0.2).clamp(0, 1)
    # At zero variance, derivatives of the adjoint are powers of 1 / eps.
    eps = 0.1 if height * width == 1 else 1e-8
    return x, masks, draw(batch, codes, channels, mean=1.0), draw(batch, codes, channels), eps


_SAMPLES = (
    (2, 3, 3, 4, 1), (1, 1, 4, 2, 2), (3, 2, 1, 3, 5, {"mean": 1.0}), (2, 2, 1, 1, 3),
    (2, 2, 2, 2, 0), (0, 3, 2, 2, 2), (2, 2, 3, 3, 2), (2, 0, 2, 3, 3), (2, 5, 2, 7, 9),
    (1, 19, 5, 7, 3, {"channels_last": True}), (2, 9, 3, 5, 2, {"mean": 1e4}),
)  # fmt: skip
_constriction = Family("constriction", triton=True).op(
    "spatial_constriction",
    "(Tensor x, Tensor masks, Tensor scales, Tensor shifts, float eps)"
    " -> (Tensor out, Tensor statistics)",
    arguments=_arguments,
    sizes=Sizes(
        "B C H W N",
        samples=_SAMPLES,
        tiny=(1, 3, 4, 4, 2),
        small=(16, 256, 16, 16, 5),
        medium=(16, 64, 64, 64, 5),
        large=(32, 64, 128, 128, 5),
    ),
    fake=lambda x, *_: (_empty_map(x), computed(x, x.shape[0], 3, x.shape[1])),
    flops=lambda x, masks, *_: (7 + 5 * masks.shape[1]) * x.numel(),
    adjoint="(Tensor grad_out, Tensor grad_statistics, Tensor x, Tensor masks, Tensor scales,"
    " Tensor shifts, Tensor statistics)"
    " -> (Tensor grad_x, Tensor grad_masks, Tensor grad_scales, Tensor grad_shifts)",
    adjoint_flops=lambda grad_out, grad_statistics, x, masks, *_: (
        (13 + 10 * masks.shape[1]) * x.numel()
    ),
    adjoint_fake=lambda grad_out, grad_statistics, x, masks, scales, shifts, statistics: (
        _empty_map(x),
        like(masks),
        like(scales),
        like(shifts),
    ),
)
