"""What a metric returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class MetricResult:
    """A score, and the figures that it was made from.

    Attributes
    ----------
    score : float
        The metric's value.
    details : dict
        Plain numbers, strings, and (nested) lists of them, ready for JSON.
    """

    score: float
    details: dict[str, Any] = field(default_factory=dict)

    def __float__(self) -> float:
        return self.score
