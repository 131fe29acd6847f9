"""The tables of a report: summary, scores, settings, environment."""

import math
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from pydisent.evaluation.alignment import leading
from pydisent.evaluation.conditions import conditions_of, differing, title
from pydisent.evaluation.masks import has_masks
from pydisent.evaluation.registry import METRICS
from pydisent.evaluation.scoring import metric_label, why_missing
from pydisent.evaluation.subject import Subject
from pydisent.reports._section import Row

_ROWS_OF_THEIR_OWN = ("f-diagonal", "reconstruction", "mask-overlap")
_LONG = 16


def summary(subjects: Sequence[Subject]) -> list[Row]:
    """Return the rows that compare runs at a glance."""
    rows = [
        Row("System", [s.run.system.name for s in subjects]),
        Row("Data", [_data(s) for s in subjects]),
        Row("Preset and seed", [_preset(s) for s in subjects]),
        Row("Updates", [_updates(s) for s in subjects]),
        Row("Code size m", [str(len(s.run.system.code_names)) for s in subjects]),
    ]
    if any(leading(s.run) is not None for s in subjects):
        rows += [
            Row("Aligned eigenvectors k", _settings(subjects, "k")),
            Row("Penalty weight λ", _penalty_weights(subjects)),
            Row("Power iterations T", _settings(subjects, "iterations")),
        ]
    regularizers = _settings(subjects, "regularizer")
    if not {"none", "alignment"}.issuperset(regularizers):
        rows.append(Row("Regularizer", regularizers))
    rows.append(_row(subjects, "Mean of the first k diagonal entries of F", _diagonal, max))
    usual = [n for n in ("z-diff", "factor-vae") if any(_is_due(s, n) for s in subjects)]
    for name in dict.fromkeys([*usual, *_scored(subjects)]):
        if name not in _ROWS_OF_THEIR_OWN:
            rows += _score_rows(subjects, name)
    if any(has_masks(s.run) for s in subjects):
        rows.append(_row(subjects, "Mask overlap", lambda s: s.masks.score, min))
    rows.append(_reconstruction_row(subjects))
    rows.append(Row("Training time", [_time(s) for s in subjects]))
    if len({s.run.plan.data for s in subjects}) > 1:  # scores on different data do not compare
        rows = [replace(row, best=frozenset()) for row in rows]
    return rows


def _row(
    subjects: Sequence[Subject],
    label: str,
    value: Callable[[Subject], float],
    better: Callable[..., float],
    digits: int = 3,
) -> Row:
    """Return a row of values, with the error in place of one that cannot be measured."""
    values: list[float | str] = []
    for subject in subjects:
        try:
            values.append(value(subject))
        except Exception as error:  # also reported in place of the picture
            values.append(str(error) or type(error).__name__)
    numbers = [v for v in values if isinstance(v, float) and not math.isnan(v)]
    cells = [f"{v:.{digits}f}" if isinstance(v, float) else v for v in values]
    # No figure is best if another reads the same.
    best = [i for i, v in enumerate(values) if len(numbers) > 1 and v == better(numbers)]
    alone = len(best) == 1 and cells.count(cells[best[0]]) == 1
    return Row(label, cells, frozenset(best if alone else ()))


def _diagonal(subject: Subject) -> float:
    return float(subject.alignment["mean"])


def _reconstruction_row(subjects: Sequence[Subject]) -> Row:
    """Return the row of reconstruction errors, labelled with the images they are measured on."""
    label, parts = metric_label("reconstruction"), set()
    row = _row(subjects, label, lambda s: s.reconstruction_error, min, 4)
    for subject in subjects:
        with suppress(Exception):  # reported in the row
            conditions = {"split": subject.images_of("test")[1]}
            parts.add(title("reconstruction", conditions, label=label))
    if len(parts) == 1 and len({s.run.system.image_shape for s in subjects}) == 1:
        return replace(row, label=parts.pop())
    return replace(row, best=frozenset())  # errors on different images do not compare


def _is_due(subject: Subject, name: str) -> bool:
    """Return whether a metric applies and has not been measured."""
    due = why_missing(subject.run, name) == "not measured yet"
    return due and METRICS[name].needs.usual(subject.run)


def _score_rows(subjects: Sequence[Subject], name: str) -> list[Row]:
    """Return a row of scores for each set of conditions under which they were measured."""
    entries = [(s.run.scores or {}).get(name) for s in subjects]
    found = [conditions_of(name, e.get("details", {})) if e else None for e in entries]
    also = differing([conditions for conditions in found if conditions is not None])
    label = metric_label(name)
    titles = [None if c is None else title(name, c, also, label) for c in found]
    lower = name in METRICS and METRICS[name].lower_is_better
    by_run = {id(s): (e, t) for s, e, t in zip(subjects, entries, titles)}
    rows = []
    for own in dict.fromkeys(t for t in titles if t is not None) or [label]:
        nets = {
            c["distance"]: None for c, t in zip(found, titles) if c and t == own and "distance" in c
        }
        by = f" (by {', '.join(nets)})" if nets and "distance" not in also else ""

        def score(subject: Subject, own: str = own) -> float:
            entry, named = by_run[id(subject)]
            if entry is None:
                raise LookupError(why_missing(subject.run, name))
            if named != own:
                raise LookupError("measured differently")
            return float(entry["score"])

        rows.append(_row(subjects, own + by, score, min if lower else max))
    return rows


def _scored(subjects: Sequence[Subject]) -> list[str]:
    return [name for s in subjects for name in s.run.scores or {}]


def _data(subject: Subject) -> str:
    channels, height, width = subject.run.system.image_shape
    return f"{subject.run.plan.data}, {height}×{width}×{channels}"


def _preset(subject: Subject) -> str:
    plan = subject.run.plan
    return f"{plan.preset}, seed {plan.seed}"


def _updates(subject: Subject) -> str:
    run = subject.run
    phases = run.system.phases(run.plan.steps)
    total = sum(count for _, count in phases)
    parts = " + ".join(f"{count:,} {phase}" for phase, count in phases if count)
    return parts if run.step >= total else f"{run.step:,} of {total:,} (unfinished): {parts}"


def _settings(subjects: Sequence[Subject], name: str) -> list[str]:
    values = [getattr(s.run.plan.config, name, None) for s in subjects]
    return ["none" if v is None else _text(v) for v in values]


def _penalty_weights(subjects: Sequence[Subject]) -> list[str]:
    weights = _settings(subjects, "penalty_weight")
    chosen = [getattr(s.run.plan.config, "regularizer", "alignment") for s in subjects]
    return [w if name == "alignment" else "none" for w, name in zip(weights, chosen)]


def _time(subject: Subject) -> str:
    if not subject.run.log:
        return "not logged"
    seconds = round(subject.run.log[-1]["seconds"])
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (seconds, "s"))
    return " ".join(f"{n} {unit}" for n, unit in parts if n) or "under 1 s"


def score_details(subjects: Sequence[Subject]) -> list[tuple[str, list[Row]]]:
    """Return each metric's label and a row for each of its details."""
    tables = []
    for name in dict.fromkeys(_scored(subjects)):
        found = [(s.run.scores or {}).get(name, {}) for s in subjects]
        flat = [
            {"score": entry["score"], **flatten(entry.get("details", {}))} if entry else {}
            for entry in found
        ]
        tables.append((metric_label(name), _compared(flat)))
    return tables


def settings(subjects: Sequence[Subject]) -> list[Row]:
    """Return every setting of the runs, with a note where it differs from the default."""
    configs = [asdict(s.run.plan.config) for s in subjects]
    defaults = [asdict(type(s.run.plan.config)()) for s in subjects]
    rows = []
    for name in dict.fromkeys(key for config in configs for key in config):
        notes = tuple(
            f"default {_text(default[name])}"
            if name in default and name in config and default[name] != config[name]
            else ""
            for config, default in zip(configs, defaults)
        )
        cells = [_text(config[name]) if name in config else "–" for config in configs]
        rows.append(Row(name, cells, notes=notes))
    return rows


def environment(subjects: Sequence[Subject]) -> tuple[list[Row], list[Row]]:
    """Return the rows of the runs' environments: those at the top level, and nested ones."""
    flat = [flatten(s.run.environment) for s in subjects]
    rows = _compared(flat)
    return [r for r in rows if " · " not in r.label], [r for r in rows if " · " in r.label]


def commands(subjects: Sequence[Subject], command: Sequence[str]) -> list[tuple[str, str]]:
    """Return the steps behind the runs and this page, with the command line of each."""
    known = [(f"Trained {s.label}", s.run.plan.command) for s in subjects]
    return [
        (what, shlex.join(argv)) for what, argv in [*known, ("Wrote this page", command)] if argv
    ]


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested dictionaries by path."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves.update(flatten(value, f"{prefix}{key} · "))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def _compared(columns: Sequence[dict[str, Any]]) -> list[Row]:
    names = dict.fromkeys(key for column in columns for key in column)
    return [
        Row(
            name.replace("_", " "),
            [_text(column[name]) if name in column else "–" for column in columns],
        )
        for name in names
    ]


def _text(value: Any) -> str:
    """Return a plain value as text."""
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)) and any(isinstance(v, (list, tuple)) for v in value):
        return "\n".join(_text(v) for v in value)  # a matrix, one line per row
    if isinstance(value, (list, tuple)):
        shown = ", ".join(_text(v) for v in value[:_LONG])
        return shown if len(value) <= _LONG else f"{shown}, … ({len(value)} in all)"
    return str(value)
