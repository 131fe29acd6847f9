"""HTML fragments for displaying results in notebooks: escaped, without scripts."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_CELL = "padding:1px 8px;text-align:left"
_LARGEST = 24  # rows or columns of a matrix that is still drawn
_BLUE = "0,114,178"


def block(title: str, *parts: str) -> str:
    """Return HTML parts below a plain-text title."""
    return f"<div><strong>{escape(title)}</strong>{''.join(parts)}</div>"


def table(rows: Iterable[tuple[str, Any]]) -> str:
    """Return a table of names and values; an empty string if there are no rows."""
    lines = []
    for name, value in rows:
        shown = value if isinstance(value, Markup) else escape(text(value))
        head = f'<th style="{_CELL};font-weight:normal">{escape(name)}</th>'
        lines.append(f'<tr>{head}<td style="{_CELL}">{shown}</td></tr>')
    return f"<table>{''.join(lines)}</table>" if lines else ""


def text(value: Any) -> str:
    """Return a value as text, numbers with four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value))
    return "none" if value is None else str(value)


class Markup(str):
    """A string that is already HTML."""


def is_matrix(value: Any) -> bool:
    """Return whether a value is a list of equally long lists of numbers, small enough to draw."""
    if not isinstance(value, list) or not 0 < len(value) <= _LARGEST:
        return False
    if not all(isinstance(row, list) and 0 < len(row) <= _LARGEST for row in value):
        return False
    return len({len(row) for row in value}) == 1 and all(map(are_numbers, value))


def are_numbers(value: Any) -> bool:
    """Return whether a value is a list of real numbers."""
    return isinstance(value, list) and all(type(item) in (int, float) for item in value)


def matrix(
    values: Sequence[Sequence[float]],
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> Markup:
    """Return a matrix of non-negative numbers, its cells shaded by value."""
    finite = [v for row in values for v in row if math.isfinite(v)]
    largest = max(finite, default=0.0)
    head = ""
    if columns is not None:
        cells = "".join(f"<td>{escape(name)}</td>" for name in columns)
        head = f"<tr>{'<td></td>' if rows is not None else ''}{cells}</tr>"
    lines = []
    for number, row in enumerate(values):
        name = "" if rows is None else f"<td>{escape(rows[number])}</td>"
        lines.append(f"<tr>{name}{''.join(_shaded(value, largest) for value in row)}</tr>")
    return Markup(f'<table style="font-size:85%">{head}{"".join(lines)}</table>')


def _shaded(value: float, largest: float) -> str:
    share = value / largest if math.isfinite(value) and largest > 0 else 0.0
    return f'<td style="background:rgba({_BLUE},{max(0.0, share) * 0.7:.2f})">{value:.2f}</td>'


def curve(values: Sequence[float], *, width: int = 160, height: int = 24) -> Markup:
    """Return a line plot of values as SVG, without those that are not finite."""
    points = [(i, float(v)) for i, v in enumerate(values) if math.isfinite(v)]
    points = points[:: max(1, len(points) // width)]
    low, high = (pick((v for _, v in points), default=0.0) for pick in (min, max))
    rise, last = (high - low) or 1.0, max(1, len(values) - 1)
    path = " ".join(
        f"{x / last * width:.1f},{(1 - (y - low) / rise) * (height - 2) + 1:.1f}" for x, y in points
    )
    return Markup(
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<polyline points="{path}" fill="none" stroke="rgb({_BLUE})"/></svg>'
    )
