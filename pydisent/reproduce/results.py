"""The results of an entry: the data kept from its runs, and its tables."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydisent import systems
from pydisent._environment import environment
from pydisent.evaluation.devices import device_of
from pydisent.reproduce.entry import STAND_INS, Case, Entry, Published
from pydisent.reproduce.records import score
from pydisent.reproduce.runs import Runs, Scale
from pydisent.training.plan import setting_text

FORMAT = 1
NOTHING = "–"


def collect(runs: Runs) -> list[dict[str, Any]]:
    """Return the data kept from each finished run: scores by column, settings and time."""
    return [
        {"row": row, "seed": seed, **_kept(record, runs.case)}
        for row, seed in runs.plans
        if (record := runs.record(row, seed)) is not None
    ]


def _kept(record: Mapping[str, Any], case: Case) -> dict[str, Any]:
    plan = record["plan"]
    preset = systems.preset(plan["system"], plan["preset"], plan["data"]).config
    own = {name: value for name, _, value in systems.describe(preset)}
    found = record["scores"]
    values = {column.key: score(record, column.key) for column in case.columns}
    return {
        "system": plan["system"],
        "settings": {k: v for k, v in plan["config"].items() if own.get(k) != v},
        "steps": plan["steps"],
        "scores": {key: value for key, value in values.items() if value is not None},
        "by": sorted(
            {d for e in found.values() if (d := e.get("details", {}).get("distance")) is not None}
        ),
        "seconds": record["seconds"],
        "threads": record["threads"],
        "machine": record["machine"],
    }


def result_of(
    entry: Entry,
    scale: Scale,
    folder: Path,
    accelerator: str = "cpu",
    records: Path | None = None,
) -> dict[str, Any]:
    """Return the figures of an entry at a scale, as plain values."""
    cases = []
    for case in entry.cases:
        found = scale.data(case)
        if found is None:
            continue
        runs = Runs.of(case, scale, folder, records=records)
        plan = next(iter(runs.plans.values()), None)
        cases.append({
            "data": found[0],
            "image_size": None if plan is None else plan.image_size,
            "preset": None if plan is None else plan.preset,
            "notes": sorted({each.note for each in runs.plans.values() if each.note}),
            "runs": collect(runs),
            "measured": case.measure and case.measure(scale.name, device_of(accelerator)),
        })  # fmt: skip
    return {
        "format": FORMAT,
        "entry": entry.name,
        "scale": scale.name,
        "seeds": list(scale.seeds),
        "cases": cases,
        "environment": environment(),
    }


def cases_of(entry: Entry, result: Mapping[str, Any]) -> list[tuple[Case, dict[str, Any]]]:
    """Return an entry's cases in a result, each with its measurements."""
    known = {case.data: case for case in entry.cases}
    stand_ins = {stand_in: data for data, stand_in in STAND_INS.items()}
    found = []
    for measured in result["cases"]:
        name = measured["data"]
        case = known.get(name) or known.get(stand_ins.get(name, ""))
        if case is not None:
            found.append((case, measured))
    return found


def settings_notes(measured: Mapping[str, Any]) -> list[str]:
    """Return the updates and settings, other than the preset's, that a system's rows share."""
    by_system: dict[str, list[dict[str, Any]]] = {}
    for run in measured["runs"]:
        preset = systems.preset(run["system"], measured["preset"], measured["data"])
        own = run["settings"] | ({"steps": run["steps"]} if run["steps"] != preset.steps else {})
        by_system.setdefault(run["system"], []).append(own)
    systems_of: dict[str, list[str]] = {}
    for system, runs in by_system.items():
        shared = {k: v for k, v in runs[0].items() if all(v == run.get(k) for run in runs)}
        text = ", ".join(f"{name} = {setting_text(value)}" for name, value in shared.items())
        if text:
            systems_of.setdefault(text, []).append(system)
    return [f"{', '.join(names)}: {text}" for text, names in systems_of.items()]


def score_table(
    case: Case, runs: Sequence[Mapping[str, Any]], *, all_rows: bool = True
) -> tuple[list[str], list[list[str]]]:
    """Return the heading and the rows of a case's table, with published figures beside ours.

    `all_rows` adds rows that were not run, with their published figures. Columns without figures
    are left out, and so are the minutes if no run was timed.
    """
    rows = [row for row in case.rows if all_rows or any(run["row"] == row.name for run in runs)]
    known = {key for run in runs for key in run["scores"]}
    known |= {key for row in rows for key in row.published}
    case = replace(case, rows=rows, columns=[c for c in case.columns if c.key in known])
    published = {column.key for column in case.columns for row in case.rows
                 if column.key in row.published}  # fmt: skip
    head = ["model"]
    for column in case.columns:
        head += [column.heading, "published"] if column.key in published else [column.heading]
    lines = []
    for row in case.rows:
        found = [run for run in runs if run["row"] == row.name]
        if not found and not row.published:
            continue
        line = [row.title]
        for column in case.columns:
            values = [run["scores"][column.key] for run in found if column.key in run["scores"]]
            line.append(spread([column.scale * value for value in values], column.digits))
            if column.key in published:
                line.append(published_text(row.published.get(column.key), column.digits))
        lines.append([*line, spread([run["seconds"] / 60 for run in found if run["seconds"]], 1)])
    if not any(run["seconds"] for run in runs):
        return head, [line[:-1] for line in lines]
    return [*head, "minutes"], lines


def summary_table(
    case: Case, runs: Sequence[dict[str, Any]]
) -> tuple[list[str], list[list[str]]] | None:
    """Return the table computed from the scores of all runs, if the case has one."""
    if case.summary is None:
        return None
    rows = case.summary(runs)
    shown = (*case.summary_published.values(), *rows.values())
    keys = list(dict.fromkeys(key for row in shown for key in row))
    titles = {column.key: column.title for column in case.columns}
    head = ["", *(cell for key in keys for cell in (titles.get(key, key), "published"))]
    lines = []
    for name, row in rows.items():
        known = case.summary_published.get(name, {})
        cells = [(spread([row[key]] if key in row else [], 2), published_text(known.get(key), 2))
                 for key in keys]  # fmt: skip
        lines.append([name, *(cell for pair in cells for cell in pair)])
    return head, lines


def verdict_table(
    case: Case, runs: Sequence[Mapping[str, Any]]
) -> tuple[list[str], list[list[str]]] | None:
    """Return the case's claims with our figures and verdicts; None if it has no claims."""
    judged = [(claim.text, claim.judge(runs)) for claim in case.claims]
    lines = [[text, NOTHING, "not run"] if found is None else [text, found.ours, found.text]
             for text, found in judged]  # fmt: skip
    return (["claim", "ours", "verdict"], lines) if lines else None


def spread(values: Sequence[float], digits: int) -> str:
    """Return the mean, with the standard deviation if there are several values; a dash for none."""
    if not values:
        return NOTHING
    text = f"{statistics.fmean(values):.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def published_text(value: Published | None, digits: int) -> str:
    """Return a published figure in print."""
    if value is None:
        return NOTHING
    if isinstance(value, tuple):
        return " ± ".join(f"{part:.{digits}f}" for part in value)
    return f"{value:.{digits}f}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *rows))


def read_result(path: Path) -> dict[str, Any]:
    """Return a written result; ValueError if its format is unknown."""
    found = json.loads(path.read_text())
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path}: format must be {FORMAT}")
    return found
