"""Spatial constriction: adaptive instance normalisation inside of masks, code after code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..reference import constriction as reference
from ..reference._dtypes import compute_dtype
from ._check import require_floating, require_matching, require_positive
from ._registry import Grads, Implementation, OpSpec, register


def spatial_constriction(
    x: Tensor,
    masks: Tensor,
    scales: Tensor,
    shifts: Tensor,
    eps: float = 1e-8,
    *,
    impl: Implementation | None = None,
) -> Tensor:
    """Let N codes in turn restyle a feature map, each inside its mask (Zhu et al. 2021, Eqs. 6-7).

    For n = 1..N: x ← x (1 − m_n) + (scale_n x̂ + shift_n) m_n, where x̂ is the given x,
    instance-normalised once with its biased variance. N = 1 is AdaIN in a mask, N = 0 the
    identity.

    Parameters
    ----------
    x
        (B, C, H, W), contiguous or channels-last; another layout is copied to the first of these.
        Its dtype is that of the result; the arithmetic is in float32, or float64 for a float64 x.
    masks
        (B, N, H, W), in [0, 1] for the mixture to be one. Of any floating dtype, as are the next.
    scales, shifts
        (B, N, C), the style that each code gives to each channel.
    eps
        > 0, added to the variance.
    impl
        "auto", "reference", "native" or "triton"; by default ``PYDISENT_IMPL``, else "auto".

    Returns
    -------
    Tensor
        (B, C, H, W), in the dtype of ``x``; channels-last if that is, else contiguous.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, devices or ``eps`` are not as above.
    RuntimeError
        If the implementation asked for is not there.
    """
    _check(x, masks, scales, shifts, eps)
    return _forward(x, masks, scales, shifts, float(eps), impl=impl)[0]


def _check(x: Tensor, masks: Tensor, scales: Tensor, shifts: Tensor, eps: float) -> None:
    require_floating("x", x)
    if x.dim() != 4:
        raise ValueError(f"x: got shape {tuple(x.shape)}, accepted is (B, C, H, W)")
    batch, channels, height, width = x.shape
    require_matching("masks", masks, "x", x, shape=False)
    shape = masks.shape
    if len(shape) != 4 or shape[0] != batch or shape[2] != height or shape[3] != width:
        accepted = f"({batch}, N, {height}, {width}) for this x"
        raise ValueError(f"masks: got shape {tuple(shape)}, accepted is {accepted}")
    wanted = (batch, shape[1], channels)
    for name, style in (("scales", scales), ("shifts", shifts)):
        require_matching(name, style, "x", x, shape=False)
        if style.shape != wanted:
            raise ValueError(
                f"{name}: got shape {tuple(style.shape)}, accepted is {wanted}"
                " for this x and these masks"
            )
    require_positive("eps", eps)


def _empty_map(x: Tensor) -> Tensor:
    """Uninitialised memory for a feature map like x: channels-last if x is, else contiguous."""
    channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty_like(x, memory_format=layout)


def _fake(x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _empty_map(x), x.new_empty(x.shape[0], 3, x.shape[1], dtype=compute_dtype(x))


def _fake_backward(
    grad_out: Tensor, grad_statistics: Tensor, x: Tensor, masks: Tensor, *styles: Any
) -> tuple[Tensor, ...]:
    scales, shifts = styles[:2]
    return _empty_map(x), *(t.new_empty(t.shape) for t in (masks, scales, shifts))


def _backward(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    x, statistics = inputs[0], outputs[1]
    grad_out = torch.zeros_like(x) if grads[0] is None else grads[0]
    grad_statistics = torch.zeros_like(statistics) if grads[1] is None else grads[1]
    return *_adjoint(grad_out, grad_statistics, *inputs[:4], statistics), None


def _samples(dtype: torch.dtype, device: torch.device | str) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    for batch, codes, channels, height, width, mean in [
        (2, 1, 3, 3, 4, 0.0),
        (1, 2, 1, 4, 2, 0.0),
        (3, 5, 2, 1, 3, 1.0),
        (2, 3, 2, 1, 1, 0.0),
        (2, 0, 2, 2, 2, 0.0),
        (0, 2, 3, 2, 2, 0.0),
        (2, 2, 2, 3, 3, 0.0),
        (2, 3, 0, 2, 3, 0.0),
        (2, 9, 5, 2, 7, 0.0),
        (1, 3, 19, 5, 7, 0.0),
        (2, 2, 9, 3, 5, 1e4),
    ]:
        x, masks = (
            mean + normal(batch, channels, height, width),
            normal(batch, codes, height, width),
        )
        # Exactly zero and one somewhere, as bands are where they saturate.
        masks = (masks.sigmoid() * 1.4 - 0.2).clamp(0, 1)
        styles = normal(batch, codes, channels) + 1, normal(batch, codes, channels)
        x = x.to(device, dtype)
        if channels == 19:
            x = x.to(memory_format=torch.channels_last)
        # With the variance zero, derivatives of the adjoint are powers of 1 / eps.
        eps = 0.1 if height * width == 1 else 1e-8
        yield x, *(t.to(device, dtype) for t in (masks, *styles)), eps


def _samples_backward(dtype: torch.dtype, device: torch.device | str) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(1)
    for x, masks, scales, shifts, eps in _samples(dtype, device):
        out, statistics = reference.spatial_constriction(x, masks, scales, shifts, eps)
        cotangents = (
            torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y)
            for y in (out, statistics)
        )
        yield *cotangents, x, masks, scales, shifts, statistics


def _bytes(x: Tensor, masks: Tensor, scales: Tensor, shifts: Tensor, *_: Any) -> int:
    statistics = 3 * compute_dtype(x).itemsize * x.shape[0] * x.shape[1]
    return 2 * x.nbytes + masks.nbytes + scales.nbytes + shifts.nbytes + statistics


def _flops(x: Tensor, masks: Tensor, *_: Any) -> int:
    return (7 + 5 * masks.shape[1]) * x.numel()


def _bytes_backward(
    grad_out: Tensor,
    grad_statistics: Tensor,
    x: Tensor,
    masks: Tensor,
    scales: Tensor,
    shifts: Tensor,
    statistics: Tensor,
) -> int:
    small = masks.nbytes + scales.nbytes + shifts.nbytes + statistics.nbytes
    return grad_out.nbytes + 2 * x.nbytes + 2 * small


def _flops_backward(
    grad_out: Tensor, grad_statistics: Tensor, x: Tensor, masks: Tensor, *_: Any
) -> int:
    return (13 + 10 * masks.shape[1]) * x.numel()


_forward = register(
    OpSpec(
        name="spatial_constriction",
        schema="(Tensor x, Tensor masks, Tensor scales, Tensor shifts, float eps)"
        " -> (Tensor out, Tensor statistics)",
        reference=reference.spatial_constriction,
        fake=_fake,
        backward=_backward,
        saves=(1,),
        samples=_samples,
        bytes=_bytes,
        flops=_flops,
        triton="spatial_constriction",
    )
)
_adjoint = register(
    OpSpec(
        name="spatial_constriction_backward",
        schema="(Tensor grad_out, Tensor grad_statistics, Tensor x, Tensor masks, Tensor scales,"
        " Tensor shifts, Tensor statistics)"
        " -> (Tensor grad_x, Tensor grad_masks, Tensor grad_scales, Tensor grad_shifts)",
        reference=reference.spatial_constriction_backward,
        fake=_fake_backward,
        samples=_samples_backward,
        bytes=_bytes_backward,
        flops=_flops_backward,
        triton="spatial_constriction_backward",
    )
)
