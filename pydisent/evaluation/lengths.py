"""The perceptual length of each coordinate's traversal: how much the coordinate matters."""

import math
from dataclasses import dataclass
from typing import Any

from pydisent.evaluation.scoring import score
from pydisent.training.run import Run

METRIC = "tpl"


@dataclass(frozen=True)
class Lengths:
    """Perceptual lengths of traversals (Zhu et al., Eq. 11).

    Attributes
    ----------
    values : tuple of float
        tpl_i of each coordinate.
    distance : str
        The perceptual distance.
    """

    values: tuple[float, ...]
    distance: str

    @property
    def order(self) -> list[int]:
        """Return the coordinates, longest first."""
        return sorted(range(len(self.values)), key=lambda i: -self.values[i])

    @property
    def note(self) -> str:
        """Return a note for figures that explains the lengths."""
        return f"tpl: perceptual length of the coordinate's traversal, by {self.distance}."


def known_lengths(run: Run) -> Lengths | None:
    """Return the lengths among the run's scores; None unless there is one for each coordinate."""
    return _lengths(run, run.scores or {})


def measured_lengths(run: Run) -> Lengths:
    """Return the lengths among the run's scores, measuring them if they are missing.

    Raises
    ------
    ValueError
        If they cannot be measured.
    """
    found = known_lengths(run) or _lengths(run, score(run, [METRIC]))
    assert found is not None
    return found


def _lengths(run: Run, scores: dict[str, Any]) -> Lengths | None:
    entry = scores.get(METRIC)
    details = entry.get("details") if isinstance(entry, dict) else None
    if not isinstance(details, dict):
        return None
    values = details.get("per_dimension")
    if not isinstance(values, list) or len(values) != len(run.system.code_names):
        return None
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        return None
    return Lengths(tuple(values), str(details.get("distance", "unknown")))
