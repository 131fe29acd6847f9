"""The result of a metric."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydisent import _html

_SHOWN = 24  # numbers of a list shown in a notebook


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
        """Return the result with the given details added or replaced."""
        return MetricResult(self.score, {**self.details, **details})

    def __float__(self) -> float:
        return self.score

    def _repr_html_(self) -> str:
        """Return the score and its details for a notebook, with matrices shaded."""
        plain, drawn = [], []
        for name, value in self.details.items():
            if _html.is_matrix(value):
                labels = self._names("codes", len(value)), self._names("factors", len(value[0]))
                drawn.append((name, _html.matrix(value, *labels)))
            elif not isinstance(value, list | dict) or _is_short(value):
                plain.append((name, value))
        return _html.block(f"score {_html.text(self.score)}", _html.table([*plain, *drawn]))

    def _names(self, of: str, count: int) -> list[str] | None:
        names = self.details.get(of)
        known = isinstance(names, list) and len(names) == count
        return list(map(str, names)) if known else None  # type: ignore[arg-type]


def _is_short(value: Any) -> bool:
    return _html.are_numbers(value) and len(value) <= _SHOWN
