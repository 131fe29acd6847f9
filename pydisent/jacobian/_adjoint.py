"""The adjoint identity <u, J v> = <J'u, v> at random u, v: forward and reverse mode must agree.

Some of PyTorch's derivatives are missing or wrong, so an operation without a rule is tested against
this identity before its derivative is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

# ``tests/jacobian/test_torch_probes.py`` measured errors of 4 % or more for wrong formulas, and of
# rounding alone, about 1e-5 in float32, for right ones. For half types rounding dominates.
TOLERANCE = 1e-3
_ROUNDINGS = 30
# Relative to the norm of J v: the terms of <u, J v> may cancel, leaving only rounding.
_CANCELLED = 3e-5

_right: set[Any] = set()
_MOST = 10_000  # kinds remembered


def coarsest(tensors: Iterable[Tensor]) -> float:
    """The machine epsilon of the coarsest of some tensors."""
    return max(torch.finfo(tensor.dtype).eps for tensor in tensors)


def adjoint_holds(
    u: Sequence[Tensor],
    moved: Sequence[Tensor],
    pulled: Sequence[Tensor | None],
    v: Sequence[Tensor],
    rounding: float,
) -> bool:
    """Whether <u, J v> = <J'u, v> for normal u, with J v ``moved`` and J'u ``pulled``.

    None in ``pulled`` stands for zeros; ``rounding`` is the machine epsilon of the computation.
    """
    forward = [inner(a, b) for a, b in zip(u, moved, strict=True)]
    reverse = [inner(a, b) for a, b in zip(pulled, v, strict=True) if a is not None]
    norm = torch.stack([inner(x, x) for x in moved]).sum().sqrt()
    floor = 1e-12 + max(_CANCELLED, 3 * rounding) * norm
    return modes_agree(forward, reverse, rounding, floor)


def modes_agree(
    forward: Sequence[Tensor],
    reverse: Sequence[Tensor],
    rounding: float,
    floor: float | Tensor,
) -> bool:
    """Whether the sums of the inner products <u, J v> and <J'u, v> are equal to rounding.

    ``rounding`` is the machine epsilon of the computation; a difference below ``floor`` counts as
    zero. An infinite derivative agrees: it is infinite in every mode.
    """
    size = torch.stack([part.abs() for part in (*forward, *reverse)]).sum()
    difference = torch.stack(list(forward)).sum()
    if reverse:
        difference = difference - torch.stack(list(reverse)).sum()
    bound = max(TOLERANCE, _ROUNDINGS * rounding) * size + floor
    return bool((difference.abs() <= bound) | ~size.isfinite())


def once(kind: Any, check: Callable[[], bool]) -> bool:
    """The result of ``check``, not run again for a ``kind``, other than None, that has passed."""
    if kind is not None and kind in _right:
        return True
    if not check():
        return False
    if kind is not None and len(_right) < _MOST:
        _right.add(kind)
    return True


def normal_like(like: Tensor, generator: torch.Generator, *front: int) -> Tensor:
    """Standard normal numbers (*front, *like.shape), with the dtype and device of ``like``."""
    dtype, shape = torch.promote_types(like.dtype, torch.float32), (*front, *like.shape)
    return torch.randn(shape, generator=generator, dtype=dtype, device="cpu").to(like)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """The real inner product of two tensors, in double precision; complex ones count as pairs."""
    wide = torch.promote_types(a.dtype, torch.float64)
    return (a.to(wide).conj() * b.to(wide)).sum().real


def bent_by_reverse(
    ends: Sequence[Any],
    sources: Sequence[Any],
    like: Sequence[Tensor],
    a: Sequence[Tensor],
    b: Sequence[Tensor],
    *,
    keep: bool,
    cut: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> list[Tensor]:
    """D²f[a, b] of ``ends``, shaped like ``like``, by reverse mode; with a graph if ``keep``.

    <u, D²f[a, b]> is the derivative of <J'u, a> along b: a linear function of u, whose gradient
    with respect to u is D²f[a, b]. Grad mode must be on; in ``cut`` no gradient flows past the
    sources.
    """

    def slope(ends: Any, seeds: Any, tangents: Sequence[Tensor]) -> Tensor | None:
        with cut():
            pulled = torch.autograd.grad(
                ends, sources, seeds, create_graph=True, retain_graph=True, allow_unused=True
            )
        parts = [
            ((p.conj() * t.to(p.dtype)).sum()).real if p.is_complex() else (p * t.to(p.dtype)).sum()
            for p, t in zip(pulled, tangents)
            if p is not None and p.requires_grad
        ]
        return torch.stack(parts).sum() if parts else None

    probes = [torch.zeros_like(x, requires_grad=True) for x in like]
    first = slope(ends, probes, a)
    second = None if first is None else slope(first, None, b)
    if second is None:
        return [probe.detach() for probe in probes]
    found = torch.autograd.grad(
        second, probes, create_graph=keep, retain_graph=True, materialize_grads=True
    )
    return list(found)
