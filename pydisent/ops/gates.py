"""Gate ops: cumulative softmax, band gates, and rectangular masks made of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.compiler import is_compiling

from pydisent import _backends
from pydisent._checks import check_floating, check_matching, shape_error
from pydisent.ops.registry import Family, Implementation
from pydisent.ops.spec import Draw, Sizes, like
from pydisent.reference.dtypes import promote

__all__ = ["band_gate", "band_mask", "cumax"]


def cumax(logits: Tensor, *, impl: Implementation | None = None) -> Tensor:
    """Compute the cumulative sum of the softmax over the last axis (Zhu et al. 2021, Eqs. 1-2).

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
        If the requested implementation is not available.
    """
    if is_compiling() or not _backends.fits(".L", logits):
        _require_logits("logits", logits, 1)
    return _cumax(logits, impl=impl)


def band_gate(rise: Tensor, fall: Tensor, *, impl: Implementation | None = None) -> Tensor:
    """Gate a band between two soft edges, cumax(rise) (1 − cumax(fall)) (Zhu et al., Eq. 3).

    1 − cumax is summed from the end, to avoid cancellation.

    Parameters
    ----------
    rise, fall
        (..., L), floating, L >= 1: logits of the positions of the two edges. Mixed floating dtypes
        are promoted.
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
    if is_compiling() or not _backends.fits(".L .L", rise, fall):
        _require_logits("rise", rise, 1)
        check_matching("fall", fall, "rise", rise)
        rise, fall = promote(rise, fall)
    return _gate(rise, fall, impl=impl)


def band_mask(
    rise_h: Tensor,
    fall_h: Tensor,
    rise_w: Tensor,
    fall_w: Tensor,
    *,
    impl: Implementation | None = None,
) -> Tensor:
    """Make masks that average J soft rectangles each (Zhu et al. 2021, Eqs. 4-5).

    1/J Σ_j band_gate(rise_h_j, fall_h_j) ⊗ band_gate(rise_w_j, fall_w_j), in one pass forward and
    one backward, with no J x H x W intermediate.

    Parameters
    ----------
    rise_h, fall_h
        (..., J, H), logits of the upper and lower edges; J, H >= 1.
    rise_w, fall_w
        (..., J, W), logits of the left and right edges; W >= 1. Mixed floating dtypes are promoted.
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
    if not is_compiling() and _backends.fits(".JH .JH .JW .JW", rise_h, fall_h, rise_w, fall_w):
        return _mask(rise_h, fall_h, rise_w, fall_w, impl=impl)
    _require_logits("rise_h", rise_h, 2)
    check_matching("fall_h", fall_h, "rise_h", rise_h)
    _require_logits("rise_w", rise_w, 2)
    check_matching("rise_w", rise_w, "rise_h", rise_h, shape=False)
    check_matching("fall_w", fall_w, "rise_w", rise_w)
    leading = rise_h.shape[:-1]
    if rise_w.shape[:-1] != leading:
        wanted = f"({', '.join(map(str, leading))}, W), as rise_h is {tuple(rise_h.shape)}"
        raise shape_error("rise_w", wanted, rise_w)
    return _mask(*promote(rise_h, fall_h, rise_w, fall_w), impl=impl)


def _require_logits(name: str, x: Tensor, dims: int) -> None:
    check_floating(name, x)
    shape = x.shape
    if len(shape) < dims or 0 in shape[-dims:]:
        wanted = "(..., L), L >= 1" if dims == 1 else "(..., J, L), J and L >= 1"
        raise shape_error(name, wanted, x)


_FAMILY = Family("gates", triton=True)
_ROWS = Sizes(
    "B n",
    samples=((3, 5), (1, 1), (2, 8), (17, 3), (0, 4), (5, 70), (1, 2), (9, 1), (2, 300)),
    tiny=(3, 5),
    small=(320, 16),
    medium=(16384, 128),
    large=(65536, 512),
)


# Per logit: an exponential, an addition and a division; backward also sums and products.
def _flops(*logits: Tensor) -> int:
    return 5 * sum(x.numel() for x in logits)


def _adjoint_flops(grad: Tensor, *logits: Tensor) -> int:
    return 12 * sum(x.numel() for x in logits)


_cumax = _FAMILY.op(
    "cumax",
    "(Tensor logits) -> Tensor",
    arguments=lambda draw, batch, n: (draw(batch, n, std=2.0),),
    sizes=_ROWS,
    fake=like,
    flops=_flops,
    adjoint="(Tensor grad_sums, Tensor logits) -> (Tensor grad_logits)",
    adjoint_flops=_adjoint_flops,
    core=1,
)

_gate = _FAMILY.op(
    "band_gate",
    "(Tensor rise, Tensor fall) -> Tensor",
    arguments=lambda draw, batch, n: (draw(batch, n, std=2.0), draw(batch, n, std=2.0)),
    sizes=_ROWS,
    fake=lambda rise, fall: like(rise),
    flops=_flops,
    adjoint="(Tensor grad_gate, Tensor rise, Tensor fall) -> (Tensor grad_rise, Tensor grad_fall)",
    adjoint_flops=_adjoint_flops,
    core=1,
)


def _mask_arguments(draw: Draw, masks: int, j: int, height: int, width: int) -> tuple[Any, ...]:
    return tuple(draw(masks, j, n, std=2.0) for n in (height, height, width, width))


def _products(rise_h: Tensor, rise_w: Tensor) -> int:
    """Number of products of a row gate and a column gate."""
    return rise_h.numel() * rise_w.shape[2]


_LOGITS = "Tensor rise_h, Tensor fall_h, Tensor rise_w, Tensor fall_w"
_MASKS = (
    (2, 2, 4, 3), (1, 1, 1, 1), (3, 1, 1, 5), (2, 3, 7, 1), (1, 8, 3, 6), (0, 2, 3, 4),
    (5, 4, 4, 4), (1, 17, 2, 3), (1, 1, 70, 9), (1, 2, 9, 130),
)  # fmt: skip
_mask = _FAMILY.op(
    "band_mask",
    f"({_LOGITS}) -> Tensor",
    arguments=_mask_arguments,
    sizes=Sizes(
        "M J H W",
        # Masks of one pixel, row or column; J up to 8 and beyond the vector width; sides longer
        # than a block.
        samples=_MASKS,
        tiny=(2, 2, 3, 4),
        small=(80, 4, 16, 16),
        medium=(80, 4, 64, 64),
        large=(1024, 4, 128, 128),
    ),
    fake=lambda rise_h, fall_h, rise_w, fall_w: like(
        rise_h, rise_h.shape[0], rise_h.shape[2], rise_w.shape[2]
    ),
    flops=lambda *logits: _flops(*logits) + 2 * _products(logits[0], logits[2]),
    adjoint=f"(Tensor grad_mask, {_LOGITS}) -> (Tensor grad_rise_h, Tensor grad_fall_h,"
    " Tensor grad_rise_w, Tensor grad_fall_w)",
    adjoint_flops=lambda grad, *logits: (
        _adjoint_flops(grad, *logits) + 4 * _products(logits[0], logits[2])
    ),
    core=2,
)
