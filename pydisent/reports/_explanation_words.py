"""The text in the tables of an explanation's page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from pydisent.reports._section import Row

if TYPE_CHECKING:
    from pydisent.reports.explanation import Explanation


def summary(of: Explanation) -> list[Row]:
    """The rows of the summary."""
    count, share = len(of.codes), float(of.average.shares.sum())
    shapes = ", ".join(" × ".join(map(str, one)) for one in of.output_shapes)
    error = float(of.trace_errors.mean() / of.traces.mean().clamp_min(1e-300))
    about = f" (± {error:.1%}, as the total is estimated)" if error > 0 else ""
    rows = [
        Row("Codes", [f"{count}, of m = {size(of.codes.shape[1:])} numbers"]),
        Row("Output", [shapes]),
        Row(f"Change along the {of.k} average directions", [f"{share:.1%} of all{about}"]),
        Row("How they were found", [method(of)]),
    ]
    if of.pictures is not None:
        low, high = of.pictures.value_range
        shortest, longest = (f"{of.pictures.lengths[i]:.2g}" for i in (0, -1))
        rows += [
            Row("Steps ε in pictures", [f"from {shortest} to {longest}, in the units of the code"]),
            Row("Drawn black and white", [f"{low:.3g} and {high:.3g}".replace("-", "−")]),
        ]
    return [*rows, Row("Time", [f"{of.seconds:.1f} s"])]


def method(of: Explanation) -> str:
    """How the directions were found."""
    if of.method == "exact":
        return "M = J′J in full at each code"
    worst, typical = float(of.residuals.max()), float(of.residuals.median())
    if worst <= of.settings["tolerance"]:
        reached = f"residuals at most {worst:.1g}"
    else:
        reached = (
            f"residuals {typical:.1g} in the median and {worst:.1g} at worst, above the tolerance "
            f"of {of.settings['tolerance']:g}: the later directions mix with the following ones"
        )
    return (
        f"Block Krylov subspaces, with at least {of.products} products of M with a vector at each "
        f"code; {reached}"
    )


def residual(of: Explanation, found: float) -> str:
    """How far a direction is from an eigenvector."""
    if of.method == "exact":
        return "exact"
    return "not known" if math.isnan(found) else f"{found:.1g}"


def axis(of: Explanation, number: int) -> str:
    """The name of a coordinate."""
    if of.names is not None:
        return of.names[number]
    place = torch.unravel_index(torch.tensor(number), of.codes.shape[1:])
    used = [int(i) for i, length in zip(place, of.codes.shape[1:]) if length > 1] or [0]
    return f"z{used[0] + 1}" if len(used) == 1 else f"z[{', '.join(map(str, used))}]"


def size(sizes: Sequence[int]) -> str:
    """The number of entries of a code of this shape."""
    used = [each for each in sizes if each > 1] or [1]
    return shape(used) if len(used) == 1 else f"{shape(used)} = {math.prod(used)}"


def shape(sizes: Sequence[int]) -> str:
    """A shape as text."""
    return " × ".join(map(str, sizes))


def counted(number: int, what: str) -> str:
    """A count with its noun."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def written(value: object) -> str:
    """A setting as text."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(written, value)) or "none"
    if value is None:
        return "by default"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
