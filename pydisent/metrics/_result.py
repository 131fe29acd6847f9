"""The result of a metric."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class MetricResult:
    """A score and its details.

    Attributes
    ----------
    score : float
        The metric's value.
    details : dict
        Plain numbers, strings, and (nested) lists of them, ready for JSON.
    """

    score: float
    details: dict[str, Any] = field(default_factory=dict)

    def with_details(self, details: dict[str, Any]) -> MetricResult:
        """Return the result with these details added, or replaced."""
        return MetricResult(self.score, {**self.details, **details})

    def __float__(self) -> float:
        return self.score
