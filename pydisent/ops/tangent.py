"""Tangent ops: K tangents through a pointwise activation at one read of its input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..reference import tangent as reference
from ..reference.tangent import KINDS, Kind
from ._check import require, require_floating, require_positive
from ._registry import Grads, Implementation, OpSpec, register

_PARAMETERS = (
    "str kind, Tensor? leak, Tensor? threshold,"
    " float negative_slope, float beta, float softplus_threshold, bool turn"
)


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
        (C,) or (1,), where "translated_prelu" bends: y = h for h >= c, else a (h − c) + c. It gets
        no gradient, for D is constant around it almost everywhere.
    negative_slope, beta, softplus_threshold
        Of "leaky_relu" and "softplus", as in ``torch.nn``; ``beta`` > 0.
    turn
        Multiply by D(h)² instead: at a generator's output this turns tangents to cotangents.
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
        If the implementation asked for is not there.
    """
    _check(h, tangents, kind, leak, threshold, beta)
    parameters = leak, threshold, negative_slope, beta, softplus_threshold, turn
    return _forward(h, tangents, kind, *parameters, impl=impl)


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
    """Do :func:`activation_tangent` in place of the tangents, which are returned.

    It has no derivative: where one would be recorded it raises RuntimeError; likewise if two
    elements of the tangents are one place in memory, or another argument shares it with them.
    """
    _check(h, tangents, kind, leak, threshold, beta)
    parameters = leak, threshold, negative_slope, beta, softplus_threshold, turn
    _in_place(h, tangents, kind, *parameters, impl=impl)
    return tangents


def _check(
    h: Tensor,
    tangents: Tensor,
    kind: str,
    leak: Tensor | None,
    threshold: Tensor | None,
    beta: float,
) -> None:
    require_floating("h", h)
    require_floating("tangents", tangents)
    if tangents.dim() == 0 or tangents.shape[1:] != h.shape:
        accepted = ", ".join(map(str, ("K", *h.shape)))
        raise ValueError(
            f"tangents: got shape {tuple(tangents.shape)}, accepted is ({accepted}) for this h"
        )
    if tangents.device != h.device:
        raise ValueError(
            f"tangents: got device {tangents.device}, accepted is that of h, {h.device}"
        )
    require(kind in KINDS, "kind", repr(kind), ", ".join(map(repr, KINDS)))
    require_positive("beta", beta)
    _check_parameter("leak", leak, h, kind, ("prelu", "translated_prelu"))
    _check_parameter("threshold", threshold, h, kind, ("translated_prelu",))


def _check_parameter(
    name: str, x: Tensor | None, h: Tensor, kind: str, kinds: tuple[str, ...]
) -> None:
    if x is None:
        require(kind not in kinds, name, None, f"a tensor (C,) or (1,) for kind={kind!r}")
        return
    require(kind in kinds, name, "a tensor", f"None for kind={kind!r}")
    require_floating(name, x)
    channels = h.shape[1] if h.dim() > 1 else 1
    if x.dim() > 1 or x.numel() not in (1, channels):
        raise ValueError(f"{name}: got shape {tuple(x.shape)}, accepted are ({channels},) and (1,)")
    require(x.device == h.device, name, f"on {x.device}", f"the device of h, {h.device}")


def _fake(h: Tensor, tangents: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(tangents)


def _fake_in_place(h: Tensor, tangents: Tensor, *_: Any) -> None:
    return None


def _fake_backward(
    grad: Tensor, h: Tensor, tangents: Tensor, kind: str, leak: Tensor | None, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    grad_leak = h.new_empty(0) if leak is None else leak.new_empty(leak.shape)
    return torch.empty_like(h), torch.empty_like(tangents), grad_leak


def _backward(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
) -> Grads:
    if not (needs[0] or needs[3]):  # a product with the same derivative, and no sum over K
        return None, _forward(inputs[0], grads[0], *inputs[2:]), *[None] * (len(inputs) - 2)
    grad_h, grad_tangents, grad_leak = _adjoint(grads[0], *inputs)
    leak = None if inputs[3] is None else grad_leak
    return grad_h, grad_tangents, None, leak, *[None] * (len(inputs) - 4)


def _samples(dtype: torch.dtype, device: torch.device | str) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        x = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return x.to(device, dtype)

    for index, kind in enumerate(KINDS):
        has_leak = kind in ("prelu", "translated_prelu")
        # Kinks lie away from the points, for central differences to hold.
        h = normal(2, 3, 2, 2)
        h = torch.where(h.abs() < 0.05, h + 0.2, h)
        leak = torch.tensor([0.2, 0.7, -0.1]).to(device, dtype) if has_leak else None
        threshold = torch.tensor([0.01, -0.02, 0.0]).to(device, dtype) if index == 3 else None
        yield h, normal(2, *h.shape), kind, leak, threshold, 0.2, 1.5, 2.0, bool(index % 2)
    one = torch.full((1,), 0.3).to(device, dtype)
    yield normal(3, 5), normal(1, 3, 5), "prelu", one, None, 0.0, 1.0, 20.0, True
    yield normal(1, 1, 1), normal(3, 1, 1, 1), "silu", None, None, 0.0, 1.0, 20.0, True
    yield normal(2, 0, 3), normal(2, 2, 0, 3), "tanh", None, None, 0.0, 1.0, 20.0, False
    yield normal(2, 3), normal(0, 2, 3), "sigmoid", None, None, 0.0, 1.0, 20.0, False


def _samples_backward(dtype: torch.dtype, device: torch.device | str) -> Iterator[tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(1)
    for sample in _samples(dtype, device):
        shape = sample[1].shape
        grad = torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)
        yield grad, *sample


def _bytes(h: Tensor, tangents: Tensor, *_: Any) -> int:
    return h.nbytes + 2 * tangents.nbytes


def _flops(h: Tensor, tangents: Tensor, *_: Any) -> int:
    return tangents.numel()


def _bytes_backward(grad: Tensor, h: Tensor, tangents: Tensor, *_: Any) -> int:
    return grad.nbytes + 2 * h.nbytes + 2 * tangents.nbytes


def _flops_backward(grad: Tensor, h: Tensor, tangents: Tensor, *_: Any) -> int:
    return 3 * tangents.numel()


_forward = register(
    OpSpec(
        name="activation_tangent",
        schema=f"(Tensor h, Tensor tangents, {_PARAMETERS}) -> Tensor",
        reference=reference.activation_tangent,
        fake=_fake,
        backward=_backward,
        samples=_samples,
        bytes=_bytes,
        flops=_flops,
    )
)
_in_place = register(
    OpSpec(
        name="activation_tangent_",
        schema=f"(Tensor h, Tensor(a!) tangents, {_PARAMETERS}) -> ()",
        reference=reference.activation_tangent_,
        fake=_fake_in_place,
        samples=_samples,
        bytes=_bytes,
        flops=_flops,
    )
)
_adjoint = register(
    OpSpec(
        name="activation_tangent_backward",
        schema=f"(Tensor grad, Tensor h, Tensor tangents, {_PARAMETERS})"
        " -> (Tensor grad_h, Tensor grad_tangents, Tensor grad_leak)",
        reference=reference.activation_tangent_backward,
        fake=_fake_backward,
        samples=_samples_backward,
        bytes=_bytes_backward,
        flops=_flops_backward,
    )
)
