"""A diagnosis with one row per operation, as text, HTML and JSON."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydisent.jacobian.diagnosis._probe import KINK, RAISES, RIGHT, UNMEASURED, WRONG, Verdict
from pydisent.jacobian.diagnosis._routes import KINDS

_ORDER = (WRONG, RAISES, KINK, UNMEASURED, RIGHT)


@dataclass(frozen=True)
class Row:
    """What was found about one operation, or about the function as a whole.

    Attributes
    ----------
    operation
        Its name.
    count
        How often it is called, with arguments of these shapes.
    place
        The part of the model and the line where it is first called.
    shapes
        The shapes of its tensors.
    native
        Verdicts on PyTorch's derivatives, by the names in ``Diagnosis.KINDS``.
    corrected
        The same inside `correct_derivatives`; None if no native derivative is wrong or raises.
    engine
        The verdict on the Jacobian engine's gradient of ‖J q‖².
    means
        How the engine differentiates the operation.
    reports
        Issues in PyTorch's tracker about what is wrong.
    """

    operation: str
    count: int
    place: str
    shapes: str
    native: Mapping[str, Verdict]
    corrected: Mapping[str, Verdict] | None
    engine: Verdict
    means: str
    reports: Sequence[str] = ()

    @property
    def wrong(self) -> tuple[str, ...]:
        """The names of PyTorch's derivatives that are silently wrong."""
        return _with(self.native, WRONG)

    @property
    def raises(self) -> tuple[str, ...]:
        """The names of PyTorch's derivatives that raise."""
        return _with(self.native, RAISES)

    @property
    def remedy(self) -> str:
        """How pydisent handles it."""
        engine = self.means
        if self.engine.outcome == RAISES:
            engine = "refused"
        elif self.engine.outcome == WRONG:
            engine = f"WRONG {self.engine}"
        if self.corrected is None:
            return engine
        left = [*_with(self.corrected, WRONG), *_with(self.corrected, RAISES)]
        titles = ", ".join(KINDS[name].title for name in left)
        mended = "corrected" if not left else f"corrected but {titles}"
        if len(left) >= len(self.wrong) + len(self.raises):
            mended = "not corrected"
        return f"{engine}; {mended}"

    def to_json(self) -> dict[str, Any]:
        """The row as JSON-serialisable values."""
        return {
            "operation": self.operation,
            "count": self.count,
            "place": self.place,
            "shapes": self.shapes,
            "native": _verdicts_to_json(self.native),
            "corrected": None if self.corrected is None else _verdicts_to_json(self.corrected),
            "engine": _to_json(self.engine),
            "means": self.means,
            "reports": list(self.reports),
        }


def _with(verdicts: Mapping[str, Verdict], outcome: str) -> tuple[str, ...]:
    return tuple(name for name, verdict in verdicts.items() if verdict.outcome == outcome)


def _to_json(verdict: Verdict) -> dict[str, Any]:
    found: dict[str, Any] = {"outcome": verdict.outcome}
    if verdict.error is not None:  # to two figures, and JSON has no NaN
        finite = math.isfinite(verdict.error)
        found["error"] = float(f"{verdict.error:.1e}") if finite else str(verdict.error)
    if verdict.message:
        found["message"] = verdict.message
    return found


def _verdicts_to_json(verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
    return {name: _to_json(verdict) for name, verdict in verdicts.items()}


@dataclass(frozen=True)
class Diagnosis:
    """What `pydisent.doctor` found.

    Attributes
    ----------
    rows
        One `Row` per operation, in the order of calls.
    model
        The row of the function as a whole, or None if it was left out.
    torch
        The version of PyTorch.
    remarks
        What could not be examined.
    """

    rows: Sequence[Row]
    model: Row | None
    torch: str
    remarks: Sequence[str] = field(default=())

    KINDS = {name: kind.title for name, kind in KINDS.items()}  # noqa: RUF012
    """The derivatives that are checked: names as in JSON, and headings."""

    @property
    def wrong(self) -> list[Row]:
        """The rows, including that of the whole, with a silently wrong derivative of PyTorch's."""
        return [row for row in self.table() if row.wrong]

    def table(self) -> list[Row]:
        """All rows; that of the whole comes last."""
        return [*self.rows, *([] if self.model is None else [self.model])]

    def header(self) -> list[str]:
        """Headings of `cells`."""
        return ["operation", "calls", *self.KINDS.values(), "pydisent", "reports"]

    def cells(self, row: Row) -> list[str]:
        """The cells of a row of the table."""
        verdicts = [str(row.native[name]) for name in self.KINDS]
        reports = " ".join(row.reports)
        return [row.operation, str(row.count), *verdicts, row.remedy, reports]

    def __str__(self) -> str:
        table = [self.header(), *(self.cells(row) for row in self.table())]
        widths = [max(map(len, column)) for column in zip(*table)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip()
            for cells in table
        ]
        lines.insert(1, "─" * max(map(len, lines)))
        return "\n".join([*lines, "", *self.notes()])

    def notes(self) -> Iterable[str]:
        """What the table's cells mean, and where operations that are wrong are called."""
        yield (
            f"torch {self.torch}: ok is right against central differences; a number is the "
            "relative error of a derivative that is silently wrong"
        )
        for row in self.wrong:
            if row.place:
                yield f"{row.operation} is wrong: {row.place}"
        for row in self.table():
            if row.raises:
                message = row.native[row.raises[0]].message
                yield f"{row.operation} raises: {message}"
        yield from self.remarks
        if not self.wrong:
            yield "nothing is silently wrong"

    def _repr_html_(self) -> str:
        def line(cells: Sequence[str], tag: str) -> str:
            return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)

        rows = [f"<tr>{line(self.header(), 'th')}</tr>"]
        for row in self.table():
            style = ' style="background:#fdd"' if row.wrong else ""
            rows.append(f"<tr{style}>{line(self.cells(row), 'td')}</tr>")
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes())
        return f"<table>{''.join(rows)}</table>{notes}"

    def to_json(self) -> str:
        """The diagnosis as JSON."""
        found = {
            "torch": self.torch,
            "rows": [row.to_json() for row in self.rows],
            "model": None if self.model is None else self.model.to_json(),
            "remarks": list(self.remarks),
        }
        return json.dumps(found, indent=1, ensure_ascii=False)

    def by_outcome(self) -> Mapping[str, int]:
        """The number of operations by their worst verdict."""
        worst = [
            next(o for o in _ORDER if any(v.outcome == o for v in row.native.values()))
            for row in self.rows
        ]
        return {outcome: worst.count(outcome) for outcome in _ORDER}
