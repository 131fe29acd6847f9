"""Finite values may have a Jacobian that is not: it is named, and so is where it begins."""

from __future__ import annotations

import cmath
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pydisent.jacobian._capture import is_capturing
from pydisent.jacobian._step import Step

if TYPE_CHECKING:
    from pydisent.jacobian.linearization import Linearization


def is_finite(values: Tensor) -> bool:
    """Whether there is no NaN and no infinity; what is read back from a GPU is one number."""
    wide = torch.promote_types(values.dtype, torch.float32)
    # A sum may overflow, or cancel to NaN, where each of its terms is finite; never the reverse.
    return cmath.isfinite(values.detach().sum(dtype=wide).item()) or bool(
        torch.isfinite(values.detach()).all()
    )


def refuse_infinite(result: Tensor, linear: Linearization | None) -> None:
    """Raise ValueError if what was computed from J is not finite; a captured graph cannot."""
    if is_capturing() or is_finite(result):
        return
    operation = None if linear is None else _where_it_begins(linear)
    if operation is not None:
        raise ValueError(
            f"the Jacobian of fn has NaN or infinity in it, from '{operation}' on, though the "
            "values of fn are finite: at such a point it has no derivative, or one that overflows"
        )
    if linear is None:
        raise ValueError("the Jacobian J of fn, or J'J, has NaN or infinity in it")
    raise ValueError(
        f"J'J is not finite, though the Jacobian J of fn is: its squares overflow {linear.dtype}. "
        "Scale the output of fn, or pass compute_dtype=torch.float64"
    )


def _where_it_begins(linear: Linearization) -> str | None:
    """The first operation whose tangents are not finite, or None."""
    found: list[str] = []

    def watch(step: Step[int], results: list[Tensor]) -> list[Tensor]:
        if not found and not all(map(is_finite, results)):
            found.append(step.name)
        return results

    captured = linear.derivative.prepare(linear.dtype)
    with torch.no_grad():
        for chunk in linear.chunks(linear.basis()):
            linear.derivative.push(chunk, captured, watch=watch)
            if found:
                break
    return found[0] if found else None
