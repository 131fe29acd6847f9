"""Detection of Jacobians that are not finite, and of the first operation responsible."""

from __future__ import annotations

import cmath
from collections.abc import Iterable

import torch
from torch import Tensor

from pydisent.jacobian._derivative import Derivative
from pydisent.jacobian._modes import is_capturing
from pydisent.jacobian._program import Program
from pydisent.jacobian._step import Step


def is_finite(values: Tensor) -> bool:
    """Whether all values are finite; only one number is read back from a GPU."""
    wide = torch.promote_types(values.dtype, torch.float32)
    # A finite sum has finite terms; finite terms may have a sum that overflows.
    return cmath.isfinite(values.detach().sum(dtype=wide).item()) or bool(
        torch.isfinite(values.detach()).all()
    )


def refuse_infinite(result: Tensor, derivative: Derivative) -> None:
    """Raise ValueError if a result computed from J is not finite, except during graph capture."""
    if not is_capturing() and not is_finite(result):
        raise ValueError(derivative.why_not_finite())


@torch.no_grad()
def first_not_finite(program: Program, chunks: Iterable[Tensor]) -> str | None:
    """The first operation at which some of the tangents are not finite, or None."""
    found: list[str] = []

    def watch(step: Step[int], results: list[Tensor]) -> list[Tensor]:
        if not found and not all(map(is_finite, results)):
            found.append(step.name)
        return results

    for chunk in chunks:
        program.push(chunk, program.prepare(chunk.dtype), watch=watch)
        if found:
            return found[0]
    return None
