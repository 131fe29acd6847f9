"""The page of an entry: tables, figures, differences, and the command that made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydisent.metrics.fixed_features import FixedFeatures
from pydisent.reports.files import write_files
from pydisent.reports.html import render
from pydisent.reproduce.entry import STAND_INS, Case, Entry, Figure
from pydisent.reproduce.figures import scores
from pydisent.reproduce.results import (
    cases_of,
    score_table,
    settings_notes,
    summary_table,
    verdict_table,
)
from pydisent.reproduce.runs import Runs, Scale

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass
class Part:
    """A case on the page."""

    title: str
    tables: list[tuple[list[str], list[list[str]]]] = field(default_factory=list)
    pictures: list[tuple[bytes, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def write_page(
    entry: Entry,
    scale: Scale,
    result: Mapping[str, Any],
    runs: Path,
    out: Path,
    command: str = "",
    accelerator: str = "cpu",
    records: Path | None = None,
) -> list[Path]:
    """Write index.html, with its pictures beside it, and return all files.

    Parameters
    ----------
    entry : Entry
        The entry.
    scale : Scale
        The scale.
    result : mapping
        The measurements; see `result_of`.
    runs, out : Path
        Folder of the runs, and folder for the page.
    command : str
        The command line, shown on the page.
    accelerator : str
        Device on which runs are opened; see `pydisent.evaluation.devices`.
    records : Path or None
        The folder of records of finished runs.
    """
    files: dict[str, bytes] = {}
    parts = [
        _part(case, measured, Runs.of(case, scale, runs, accelerator, records), files)
        for case, measured in cases_of(entry, result)
    ]
    left_out = [
        f"{case.data}: {reason}"
        for case in entry.cases
        if (reason := _left_out(case, scale)) is not None
    ]
    page = render(
        "page.html",
        _TEMPLATES,
        entry=entry,
        scale=scale.name,
        seeds=len(scale.seeds),
        parts=parts,
        left_out=left_out,
        differences=_differences(entry, scale),
        environment=_about(result["environment"]),
        command=command,
    )
    return write_files(out, files | {"index.html": page.encode()})


def _left_out(case: Case, scale: Scale) -> str | None:
    if scale.data(case) is not None:
        return None
    if scale.name == "paper":
        return f"its files were not given (--official {case.data}=PATH)"
    return f"no built-in data stands in for it (--official {case.data}=PATH)"


def _differences(entry: Entry, scale: Scale) -> list[str]:
    said = {"small": list(entry.differences), "smoke": ["models of a few units"]}
    data = [
        f"{STAND_INS[case.data]}, rendered or shipped with a dependency, for {case.data}"
        for case in entry.cases
        if scale.name != "paper" and case.data in STAND_INS and case.data not in scale.data_paths
    ]
    seeds = f"{len(scale.seeds)} of the paper's {entry.seeds} seeds"
    fewer = [seeds] if entry.seeds > len(scale.seeds) else []
    return [*data, *said.get(scale.name, []), *entry.remarks, *fewer]


def _part(case: Case, measured: dict[str, Any], runs: Runs, files: dict[str, bytes]) -> Part:
    runs = replace(runs, measured=measured["measured"])
    size = f" at {measured['image_size']} px" if measured["image_size"] else ""
    title = f"On {measured['data']}{size}" if case.rows else "Measured here"
    part = Part(title, notes=[*measured["notes"], *settings_notes(measured)])
    for table in (verdict_table(case, measured["runs"]), summary_table(case, measured["runs"])):
        if table is not None:
            part.tables.append(table)
    figures: Sequence[Figure] = case.figures
    if case.columns:
        part.tables.append(score_table(case, measured["runs"]))
        figures = (Figure("Scores, beside those published", scores), *figures)
    nets = sorted({net for run in measured["runs"] for net in run["by"]})
    if nets:
        said = f"TPL, PPL and FID by {', '.join(nets)}"
        own = any(net.startswith(FixedFeatures().name) for net in nets)
        part.notes.append(f"{said}: not comparable with those published" if own else said)
    for figure in figures:
        try:
            drawn = figure.draw(runs, figure.rows or runs.rows())
        except Exception as error:  # a page with a gap is better than none
            part.missing.append(f"{figure.caption}: {str(error) or type(error).__name__}")
            continue
        for name, data in drawn.items():
            file = f"{measured['data']}-{len(files)}-{name}"
            files[file] = data
            part.pictures.append((data, figure.caption))
    return part


def _about(environment: Mapping[str, Any]) -> str:
    return (
        f"{environment['gpu'] or environment['cpu']}, torch {environment['torch']}, "
        f"Python {environment['python']}, pydisent {environment['pydisent']}"
    )
