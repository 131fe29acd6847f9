"""The operator database once more: second directional derivatives against central differences.

As ``_operators`` does for first ones. The second derivatives of a case's function along two
directions, and the derivative by ``W`` of a weighted sum of them, come from values alone.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from _operator_case import (
    Case,
    NoDerivativeError,
    NotSmoothError,
    differences,
    relative,
    reseed,
    words_of,
)
from _operator_database import BATCH, REFUSALS, SIZE, left_out, operators, samples
from _operators import NONE, REFUSED_BY_US, RIGHT, ROUGH, WRONG, Verdict, _names
from torch import Tensor

import pydisent

STEPS = (3e-3, 1e-2, 3e-2, 1e-1)


@dataclass
class Bent:
    """v'H v (2, B, n), the slope of their weighted sum in W, and how far two steps agree."""

    second: Tensor
    slope: float
    error: float
    slope_error: float


def _second(case: Case, v: Tensor, weight: Tensor, step: float) -> Tensor:
    """(2, B, n): fourth-order central differences with the step and with its double."""
    f = {k: case._value(case.z + k * step * v, weight) for k in (-4, -2, -1, 0, 1, 2, 4)}

    def at(n: int) -> Tensor:
        near, far = f[n] + f[-n] - 2 * f[0], f[2 * n] + f[-2 * n] - 2 * f[0]
        return (16 * near - far) / (12 * (n * step) ** 2)

    return torch.stack([at(1), at(2)])


def _measure(case: Case, directions: Tensor, weights: Tensor, step: float) -> Bent:
    weight = case.weight.detach()
    both = torch.stack([_second(case, v, weight, step) for v in directions], 1)
    error = max(relative(both[1], both[0]), 4 * case.noise / step**2)
    if not error <= 1e-3:
        return Bent(both[0], math.nan, error, math.inf)

    def total(h: float) -> Tensor:
        moved = weight + h * case.direction
        return sum(
            (w * _second(case, v, moved, step)[0]).sum() for v, w in zip(directions, weights)
        )

    wide = max(step, 1e-2)
    slope, other = differences(total, wide).tolist()
    noise = 4 * case.noise / step**2 / wide
    return Bent(both[0], slope, error, max(abs(other - slope), noise, error))


def judge(case: Case) -> Verdict:
    """Compare v'H v with central differences at one sample."""
    try:
        case.settle()
    except NotSmoothError as reason:
        return Verdict(ROUGH, str(reason))
    generator = torch.Generator().manual_seed(11)
    directions = torch.randn(2, BATCH, SIZE, generator=generator, dtype=torch.float64)
    size = case._value(case.z, case.weight).shape
    weights = torch.randn(2, *size, generator=generator, dtype=torch.float64)
    found = []
    for step in STEPS:
        found.append(_measure(case, directions, weights, step))
        if found[-1].error <= 1e-7 and found[-1].slope_error <= 1e-5:
            break
    best = min(found, key=lambda bent: (bent.error, bent.slope_error))
    if not best.error <= 1e-4:
        return Verdict(ROUGH, "second differences of two steps disagree")

    def fn(z: Tensor) -> Tensor:
        return case.function(z)

    fn.__qualname__ = case.name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detail = _compare(case, fn, directions, weights, best)
    except REFUSALS as error:
        if _names(str(error), case.op):
            return Verdict(REFUSED_BY_US, words_of(error))
        return Verdict(WRONG, f"refused, without the operation's name: {words_of(error)}")
    except ValueError as error:
        if "depend on z" in str(error):
            return Verdict(NONE, "piecewise constant")
        detail = words_of(error)
    except Exception as error:
        detail = words_of(error)
    return Verdict(WRONG, detail) if detail else Verdict(RIGHT)


def _compare(
    case: Case, fn: Callable[[Tensor], Tensor], directions: Tensor, weights: Tensor, best: Bent
) -> str:
    reseed()
    _, _, second = pydisent.second_directional_derivative(fn, case.z, directions)
    error = relative(second.double(), best.second)
    if not error <= 1e-6 + 8 * case.eps + 10 * best.error:
        return f"v'H v is off by {error:.1e} (of {best.second.norm():.1e})"
    total = (second * weights).sum()
    gradient = torch.zeros_like(case.weight)
    if total.requires_grad:
        (gradient,) = torch.autograd.grad(total, [case.weight], materialize_grads=True)
    slope, scale = (gradient * case.direction).sum().item(), max(abs(best.slope), 0.1)
    error = abs(slope - best.slope) / scale
    if math.isfinite(best.slope_error) and not error <= 1e-5 + 10 * best.slope_error / scale:
        return f"the gradient of v'H v is off by {error:.1e} (of {best.slope:.1e})"
    return ""


def verdicts(name: str, kind: str = "float64", count: int = 2) -> Iterator[tuple[int, Verdict]]:
    """Judge samples of an operator; of those that have outputs to differentiate."""
    op = operators()[name]
    if left_out(op, kind):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for place, sample in samples(op, kind, 2 * count):
            try:
                verdict = judge(Case(op, kind, place, sample))
            except NoDerivativeError:
                continue
            yield place, verdict
            count -= 1
            if not count:
                return
