"""Tangent ops: K tangents through a pointwise activation in one read of its input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from pydisent import _backends
from pydisent._checks import (
    check,
    check_device,
    check_floating,
    check_number,
    check_one_of,
    shape_error,
)
from pydisent.ops.registry import Family, Implementation
from pydisent.ops.spec import Draw, Grads, Sizes, like
from pydisent.reference.tangent import KINDS, Kind

__all__ = ["activation_tangent", "activation_tangent_"]


def activation_tangent(
    h: Tensor,
    tangents: Tensor,
    kind: Kind,
    *,
    leak: Tensor | None = None,
    threshold: Tensor | None = None,
    negative_slope: float = 0.01,
    beta: float = 1.0,
    softplus_threshold: float = 20.0,
    turn: bool = False,
    impl: Implementation | None = None,
) -> Tensor:
    """Multiply K tangents by an activation's derivative D(h) (Ramesh et al. 2018, Appendix A).

    Parameters
    ----------
    h
        (B, C, ...), the input of the activation.
    tangents
        (K, B, C, ...). Its dtype may differ from that of ``h``: the derivative is computed in
        float32 (float64 if either is), and the product rounded to the dtype of ``tangents``.
    kind
        "relu", "leaky_relu", "prelu", "translated_prelu", "tanh", "sigmoid", "silu", "softplus".
    leak
        (C,) or (1,), the slope of "prelu" and "translated_prelu" below 0 or the threshold.
    threshold
        (C,) or (1,), the kink c of "translated_prelu": y = h for h >= c, else a (h − c) + c. It
        gets no gradient, as D does not depend on c almost everywhere.
    negative_slope, beta, softplus_threshold
        Parameters of "leaky_relu" and "softplus", as in ``torch.nn``; ``beta`` > 0.
    turn
        Multiply by D(h)² instead, which turns tangents into cotangents at a generator's output.
    impl
        "auto", "reference" or "native"; by default ``PYDISENT_IMPL``, else "auto".

    Returns
    -------
    Tensor
        (K, B, C, ...), in the dtype and the memory format of ``tangents``.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes or names are not as above, or a parameter does not belong to ``kind``.
    RuntimeError
        If the requested implementation is not available.
    """
    _check(h, tangents, kind, leak, threshold, beta)
    parameters = leak, threshold, negative_slope, beta, softplus_threshold, turn
    return _tangent(h, tangents, kind, *parameters, impl=impl)


def activation_tangent_(
    h: Tensor,
    tangents: Tensor,
    kind: Kind,
    *,
    leak: Tensor | None = None,
    threshold: Tensor | None = None,
    negative_slope: float = 0.01,
    beta: float = 1.0,
    softplus_threshold: float = 20.0,
    turn: bool = False,
    impl: Implementation | None = None,
) -> Tensor:
    """In-place version of :func:`activation_tangent`: overwrites and returns ``tangents``.

    It has no derivative, and raises RuntimeError where one would be recorded, if two elements of
    ``tangents`` share a memory location, or if another argument shares memory with it.
    """
    _check(h, tangents, kind, leak, threshold, beta)
    parameters = leak, threshold, negative_slope, beta, softplus_threshold, turn
    _tangent_in_place(h, tangents, kind, *parameters, impl=impl)
    return tangents


_WITH_LEAK = ("prelu", "translated_prelu")
#: Shapes of h and the tangents by the axes of h.
_PATTERNS = {1: "b kb", 2: "bc kbc", 3: "bcl kbcl", 4: "bchw kbchw"}


def _check(
    h: Tensor,
    tangents: Tensor,
    kind: str,
    leak: Tensor | None,
    threshold: Tensor | None,
    beta: float,
) -> None:
    usual = _PATTERNS.get(h.dim()) if isinstance(h, Tensor) and not is_compiling() else None
    if usual is None or not _backends.fits(usual, h, tangents):
        check_floating("h", h)
        check_floating("tangents", tangents)
        if tangents.dim() == 0 or tangents.shape[1:] != h.shape:
            wanted = ", ".join(map(str, ("K", *h.shape)))
            raise shape_error("tangents", f"({wanted}) for this h", tangents)
        check_device("tangents", tangents, "h", h)
    check_one_of("kind", kind, KINDS)
    check_number("beta", beta, above=0)
    if leak is not None or threshold is not None or kind in _WITH_LEAK:
        _check_parameter("leak", leak, h, kind, _WITH_LEAK)
        _check_parameter("threshold", threshold, h, kind, _WITH_LEAK[1:])


def _check_parameter(
    name: str, x: Tensor | None, h: Tensor, kind: str, kinds: tuple[str, ...]
) -> None:
    if x is None:
        check(kind not in kinds, name, f"a tensor (C,) or (1,) for kind={kind!r}", None)
        return
    check(kind in kinds, name, f"None for kind={kind!r}", "a tensor")
    check_floating(name, x)
    channels = h.shape[1] if h.dim() > 1 else 1
    if x.dim() > 1 or x.numel() not in (1, channels):
        raise shape_error(name, f"({channels},) or (1,)", x)
    check_device(name, x, "h", h)


def _arguments(
    draw: Draw, tangents: int, *shape: int, kind: str = "silu", leaks: int = 0, turn: bool = False
) -> tuple[Any, ...]:
    # Points lie away from kinks, so that central differences are valid.
    h = draw(*shape, dtype=torch.float64)
    h = torch.where(h.abs() < 0.05, h + 0.2, h).to(draw.dtype)
    leak = threshold = None
    if leaks:
        leak = draw(leaks, mean=0.3, std=0.3)
    if kind == "translated_prelu":
        threshold = draw(leaks, std=0.01)
    return h, draw(tangents, *shape), kind, leak, threshold, 0.2, 1.5, 2.0, turn


def _samples() -> tuple[tuple[Any, ...], ...]:
    """Sizes and options: each kind with and without the turn, and edge cases."""
    kinds = [
        (2, 2, 3, 2, 2, {"kind": kind, "leaks": 3 * ("prelu" in kind), "turn": bool(i % 2)})
        for i, kind in enumerate(KINDS)
    ]
    return (
        *kinds,
        (1, 3, 5, {"kind": "prelu", "leaks": 1, "turn": True}),
        (3, 1, 1, 1, {"turn": True}),
        (2, 2, 0, 3, {"kind": "tanh"}),
        (0, 2, 3, {"kind": "sigmoid"}),
    )


_SIZES = Sizes(
    "K B C H W",
    samples=_samples(),
    tiny=(1, 2, 2, 3, 3),
    small=(8, 8, 64, 16, 16),
    medium=(4, 8, 64, 32, 32),
    large=(8, 32, 64, 64, 64),
)


def _backward(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    if needs[0] or needs[3]:
        return _tangent.by_adjoint(inputs, outputs, grads, needs)
    # Multiplies by the same derivative, with no sum over K.
    return None, _tangent(inputs[0], grads[0], *inputs[2:]), *[None] * (len(inputs) - 2)


_FAMILY = Family("tangent")
_PARAMETERS = (
    "str kind, Tensor? leak, Tensor? threshold,"
    " float negative_slope, float beta, float softplus_threshold, bool turn"
)
_tangent = _FAMILY.op(
    "activation_tangent",
    f"(Tensor h, Tensor tangents, {_PARAMETERS}) -> Tensor",
    arguments=_arguments,
    sizes=_SIZES,
    fake=lambda h, tangents, *_: torch.empty_like(tangents),
    flops=lambda h, tangents, *_: tangents.numel(),
    adjoint=f"(Tensor grad, Tensor h, Tensor tangents, {_PARAMETERS})"
    " -> (Tensor grad_h, Tensor grad_tangents, Tensor grad_leak)",
    adjoint_flops=lambda grad, h, tangents, *_: 3 * tangents.numel(),
    adjoint_fake=lambda grad, h, tangents, kind, leak, *_: (
        torch.empty_like(h),
        torch.empty_like(tangents),
        like(h, 0) if leak is None else like(leak),
    ),
    backward=_backward,
)
_tangent_in_place = _FAMILY.op(
    "activation_tangent_",
    f"(Tensor h, Tensor(a!) tangents, {_PARAMETERS}) -> ()",
    arguments=_arguments,
    sizes=_SIZES,
    fake=lambda *_: None,
    flops=lambda h, tangents, *_: tangents.numel(),
)
