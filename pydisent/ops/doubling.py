"""The transposed convolution that doubles an image's resolution, for few output channels."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.compiler import is_compiling

from pydisent import _backends
from pydisent._checks import check_floating, check_matching, shape_error
from pydisent.ops.registry import Family, Implementation
from pydisent.ops.spec import Draw, Grads, Sizes, like
from pydisent.reference.doubling import doubling_gradients
from pydisent.reference.dtypes import promote

__all__ = ["doubling_convolution"]


def doubling_convolution(
    x: Tensor, weight: Tensor, *, impl: Implementation | None = None
) -> Tensor:
    """Double an image's resolution: a 4×4 transposed convolution of stride 2 and padding 1.

    For the last layer of a decoder: the compiled CPU kernel is tuned for few output channels, such
    as an image's, where oneDNN's takes several times as long. Half precision is summed in float32.

    Parameters
    ----------
    x
        (B, C, H, W), fastest channels-last.
    weight
        (C, D, 4, 4). Mixed floating dtypes are promoted.
    impl
        "auto", "reference" or "native"; by default ``PYDISENT_IMPL``, else "auto".

    Returns
    -------
    Tensor
        (B, D, 2H, 2W), contiguous.

    Raises
    ------
    ValueError, TypeError
        If shapes or devices do not fit, or a dtype is not floating.
    RuntimeError
        If the requested implementation is not available.
    """
    if not is_compiling() and _backends.fits("bCHW CD44", x, weight):
        return _convolution(x, weight, impl=impl)
    check_floating("x", x)
    check_matching("weight", weight, "x", x, shape=False)
    given, taps = x.shape, weight.shape
    if len(given) != 4 or 0 in given[1:]:
        raise shape_error("x", "(B, C, H, W), with C, H, W >= 1", x)
    if len(taps) != 4 or taps[1] == 0 or (taps[0], *taps[2:]) != (given[1], 4, 4):
        raise shape_error("weight", f"({given[1]}, D, 4, 4), D >= 1", weight)
    return _convolution(*promote(x, weight), impl=impl)


def _arguments(
    draw: Draw, batch: int, channels: int, height: int, width: int, outputs: int
) -> tuple[Any, ...]:
    return draw(batch, channels, height, width), draw(channels, outputs, 4, 4)


def _fake(x: Tensor, weight: Tensor) -> Tensor:
    batch, _, height, width = x.shape
    return like(x, batch, weight.shape[1], 2 * height, 2 * width)


def _backward(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    assert grads[0] is not None  # the only output
    x, weight = inputs
    return doubling_gradients(x, weight, grads[0], needs)


_SAMPLES = (
    (2, 3, 2, 3, 1), (1, 1, 1, 1, 1), (3, 17, 4, 9, 1), (2, 5, 5, 2, 3), (0, 2, 2, 2, 1),
)  # fmt: skip
_convolution = Family("doubling").op(
    "doubling_convolution",
    "(Tensor x, Tensor weight) -> Tensor",
    arguments=_arguments,
    sizes=Sizes(
        "B C H W D",
        samples=_SAMPLES,
        tiny=(2, 3, 2, 3, 1),
        small=(64, 32, 32, 32, 1),
        medium=(64, 32, 64, 64, 3),
        large=(256, 64, 64, 64, 3),
    ),
    fake=_fake,
    flops=lambda x, weight: 32 * x.numel() * weight.shape[1],
    backward=_backward,
    is_product=True,
)
