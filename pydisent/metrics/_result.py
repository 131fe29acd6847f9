"""The result of a metric."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "score", _plain(self.score))
        object.__setattr__(self, "details", _plain(self.details))

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


def _plain(value: Any) -> Any:
    """Return the value with NumPy's numbers, as options may be, as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _is_short(value: Any) -> bool:
    return _html.are_numbers(value) and len(value) <= _SHOWN
