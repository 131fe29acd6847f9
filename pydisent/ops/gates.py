"""Gate ops: cumulative softmax, band gates, and the rectangular masks made of these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..reference import gates as reference
from ._check import promote, require_floating, require_matching
from ._registry import Grads, Implementation, OpSpec, register


def cumax(logits: Tensor, *, impl: Implementation | None = None) -> Tensor:
    """Sum the softmax cumulatively over the last axis (Zhu et al. 2021, Eqs. 1-2).

    Parameters
    ----------
    logits
        (..., L), floating, L >= 1.
    impl
        "auto", "reference", "native" or "triton"; by default ``PYDISENT_IMPL``, else "auto".

    Returns
    -------
    Tensor
        (..., L) in the dtype of ``logits``, in [0, 1], rising to 1 at the last entry.

    Raises
    ------
    ValueError, TypeError
        If the shape or the dtype is not as above.
    RuntimeError
        If the implementation asked for is not there.
    """
    _require_logits("logits", logits, 1)
    return _cumax(logits, impl=impl)


def band_gate(rise: Tensor, fall: Tensor, *, impl: Implementation | None = None) -> Tensor:
    """Gate a band between two soft edges, cumax(rise) (1 − cumax(fall)) (Zhu et al., Eq. 3).

    1 − cumax is summed from the end, so that no digit of it cancels.

    Parameters
    ----------
    rise, fall
        (..., L), floating, L >= 1: logits of the places of the two edges. Floating dtypes that
        differ are promoted to one.
    impl
        As for :func:`cumax`.

    Returns
    -------
    Tensor
        (..., L) in [0, 1]; the last entry is 0.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As for :func:`cumax`.
    """
    _require_logits("rise", rise, 1)
    require_matching("fall", fall, "rise", rise)
    return _gate(*promote(rise, fall), impl=impl)


def band_mask(
    rise_h: Tensor,
    fall_h: Tensor,
    rise_w: Tensor,
    fall_w: Tensor,
    *,
    impl: Implementation | None = None,
) -> Tensor:
    """Make masks of J soft rectangles each (Zhu et al. 2021, Eqs. 4-5).

    1/J Σ_j band_gate(rise_h_j, fall_h_j) ⊗ band_gate(rise_w_j, fall_w_j), in one pass forward
    and one backward, without anything of size J x H x W.

    Parameters
    ----------
    rise_h, fall_h
        (..., J, H), logits of the upper and lower edges; J, H >= 1.
    rise_w, fall_w
        (..., J, W), logits of the left and right edges; W >= 1. Floating dtypes that differ are
        promoted to one.
    impl
        As for :func:`cumax`.

    Returns
    -------
    Tensor
        (..., H, W) in [0, 1]. The last row and column are 0; at equal logits the mask peaks at
        1/16, if H and W are even.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As for :func:`cumax`.
    """
    _require_logits("rise_h", rise_h, 2)
    require_matching("fall_h", fall_h, "rise_h", rise_h)
    _require_logits("rise_w", rise_w, 2)
    require_matching("rise_w", rise_w, "rise_h", rise_h, shape=False)
    require_matching("fall_w", fall_w, "rise_w", rise_w)
    leading = rise_h.shape[:-1]
    if rise_w.shape[:-1] != leading:
        accepted = f"{(*leading, 'W')}, as rise_h is {tuple(rise_h.shape)}"
        raise ValueError(f"rise_w: got shape {tuple(rise_w.shape)}, accepted is {accepted}")
    return _mask(*promote(rise_h, fall_h, rise_w, fall_w), impl=impl)


def _require_logits(name: str, x: Tensor, dims: int) -> None:
    require_floating(name, x)
    shape = x.shape
    if len(shape) < dims or 0 in shape[-dims:]:
        accepted = "(..., L), L >= 1" if dims == 1 else "(..., J, L), J and L >= 1"
        raise ValueError(f"{name}: got shape {tuple(shape)}, accepted is {accepted}")


def _fake_gate(rise: Tensor, *_: Any) -> Tensor:
    return rise.new_empty(rise.shape)


def _fake_cumax_backward(grad_sums: Tensor, logits: Tensor) -> Tensor:
    return logits.new_empty(logits.shape)


def _fake_mask(rise_h: Tensor, fall_h: Tensor, rise_w: Tensor, fall_w: Tensor) -> Tensor:
    return rise_h.new_empty(rise_h.shape[0], rise_h.shape[2], rise_w.shape[2])


def _fake_backward(grad: Tensor, *logits: Tensor) -> Any:
    return tuple(x.new_empty(x.shape) for x in logits)


def _backward_cumax(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    return (_cumax_adjoint(grads[0], *inputs),)


def _backward_gate(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    return _gate_adjoint(grads[0], *inputs)


def _backward_mask(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    return _mask_adjoint(grads[0], *inputs)


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


_ROWS = ((3, 5), (1, 1), (2, 8), (17, 3), (0, 4), (5, 70), (1, 2), (9, 1), (2, 300))
# (M, J, H, W): a mask of one pixel, one row or one column, J to 8 and beyond the width of a
# vector, sides beyond a block.
_MASKS = (
    (2, 2, 4, 3),
    (1, 1, 1, 1),
    (3, 1, 1, 5),
    (2, 3, 7, 1),
    (1, 8, 3, 6),
    (0, 2, 3, 4),
    (5, 4, 4, 4),
    (1, 17, 2, 3),
    (1, 1, 70, 9),
    (1, 2, 9, 130),
)


def _samples_cumax(dtype: torch.dtype, device: torch.device | str) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(0)
    for shape in _ROWS:
        yield ((2 * _normal(generator, *shape)).to(device, dtype),)


def _samples_gate(dtype: torch.dtype, device: torch.device | str) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(1)
    for shape in _ROWS:
        yield tuple((2 * _normal(generator, *shape)).to(device, dtype) for _ in range(2))


def _samples_mask(dtype: torch.dtype, device: torch.device | str) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(2)
    for masks, j, height, width in _MASKS:
        yield tuple(
            (2 * _normal(generator, masks, j, length)).to(device, dtype)
            for length in (height, height, width, width)
        )


def _samples_rows_backward(samples: Any, seed: int) -> Any:
    def make(dtype: torch.dtype, device: torch.device | str) -> Iterator[tuple[Any, ...]]:
        generator = torch.Generator().manual_seed(seed)
        for logits in samples(dtype, device):
            yield _normal(generator, *logits[0].shape).to(device, dtype), *logits

    return make


def _samples_mask_backward(
    dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(5)
    for logits in _samples_mask(dtype, device):
        shape = _fake_mask(*logits).shape
        yield _normal(generator, *shape).to(device, dtype), *logits


def _bytes_forward(*logits: Tensor) -> int:
    return sum(x.nbytes for x in logits) + logits[0].nbytes


def _bytes_backward(grad: Tensor, *logits: Tensor) -> int:
    return grad.nbytes + 2 * sum(x.nbytes for x in logits)


def _bytes_mask(*logits: Tensor) -> int:
    return sum(x.nbytes for x in logits) + _area(logits) * logits[0].element_size()


def _area(logits: tuple[Tensor, ...]) -> int:
    return logits[0].shape[0] * logits[0].shape[2] * logits[2].shape[2]


# A logit: its exponential, its share of a sum and of a quotient; backward also sums and products.
def _flops_forward(*logits: Tensor) -> int:
    return 5 * sum(x.numel() for x in logits)


def _flops_backward(grad: Tensor, *logits: Tensor) -> int:
    return 12 * sum(x.numel() for x in logits)


def _flops_mask(*logits: Tensor) -> int:
    return _flops_forward(*logits) + 2 * logits[0].shape[1] * _area(logits)


def _flops_mask_backward(grad: Tensor, *logits: Tensor) -> int:
    return _flops_backward(grad, *logits) + 4 * logits[0].shape[1] * _area(logits)


_LOGITS = "Tensor rise_h, Tensor fall_h, Tensor rise_w, Tensor fall_w"
_GRADS = "Tensor grad_rise_h, Tensor grad_fall_h, Tensor grad_rise_w, Tensor grad_fall_w"

_cumax = register(
    OpSpec(
        name="cumax",
        schema="(Tensor logits) -> Tensor",
        reference=reference.cumax,
        fake=_fake_gate,
        backward=_backward_cumax,
        samples=_samples_cumax,
        bytes=_bytes_forward,
        flops=_flops_forward,
        triton="cumax",
        core=1,
    )
)
_cumax_adjoint = register(
    OpSpec(
        name="cumax_backward",
        schema="(Tensor grad_sums, Tensor logits) -> Tensor",
        reference=reference.cumax_backward,
        fake=_fake_cumax_backward,
        samples=_samples_rows_backward(_samples_cumax, 3),
        bytes=_bytes_backward,
        flops=_flops_backward,
        triton="cumax_backward",
        core=1,
    )
)
_gate = register(
    OpSpec(
        name="band_gate",
        schema="(Tensor rise, Tensor fall) -> Tensor",
        reference=reference.band_gate,
        fake=_fake_gate,
        backward=_backward_gate,
        samples=_samples_gate,
        bytes=_bytes_forward,
        flops=_flops_forward,
        triton="band_gate",
        core=1,
    )
)
_gate_adjoint = register(
    OpSpec(
        name="band_gate_backward",
        schema="(Tensor grad_gate, Tensor rise, Tensor fall)"
        " -> (Tensor grad_rise, Tensor grad_fall)",
        reference=reference.band_gate_backward,
        fake=_fake_backward,
        samples=_samples_rows_backward(_samples_gate, 4),
        bytes=_bytes_backward,
        flops=_flops_backward,
        triton="band_gate_backward",
        core=1,
    )
)
_mask = register(
    OpSpec(
        name="band_mask",
        schema=f"({_LOGITS}) -> Tensor",
        reference=reference.band_mask,
        fake=_fake_mask,
        backward=_backward_mask,
        samples=_samples_mask,
        bytes=_bytes_mask,
        flops=_flops_mask,
        triton="band_mask",
        core=2,
    )
)
_mask_adjoint = register(
    OpSpec(
        name="band_mask_backward",
        schema=f"(Tensor grad_mask, {_LOGITS}) -> ({_GRADS})",
        reference=reference.band_mask_backward,
        fake=_fake_backward,
        samples=_samples_mask_backward,
        bytes=_bytes_backward,
        flops=_flops_mask_backward,
        triton="band_mask_backward",
        core=2,
    )
)
