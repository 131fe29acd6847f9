"""Shared parts of the benches' tables and figures: markdown, numbers, colours, axes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

# From Okabe and Ito's palette, which is safe for colour-blind readers.
OURS, OTHERS, COMPILED = "#0072B2", "#999999", "#E69F00"


def load(folder: Path, question: str) -> dict[str, Any] | None:
    path = folder / f"{question}.json"
    return json.loads(path.read_text()) if path.exists() else None


def device(environment: dict) -> str:
    """Description of the machine."""
    return environment["gpu"] or f"{environment['cpu']}, {environment['cores']} cores"


def machine(environment: dict) -> str:
    """Description of the machine and the software."""
    versions = environment["backends"]["versions"]
    threads = counted(environment["threads"], "thread")
    return (
        f"{device(environment)}, {threads}, torch {versions['torch']}, Python {versions['python']}"
    )


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """The lines of a table, with its first columns left-aligned, and a blank line."""
    rule = ["---"] * left + ["---:"] * (len(heads) - left)
    return [
        *("|" + "".join(f" {cell} |" if cell else " |" for cell in row)
          for row in (heads, rule, *rows)),
        "",
    ]  # fmt: skip


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def brief(value: float) -> str:
    """Three digits, or all digits before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def versus(passes: dict, scale: float, unit: str) -> str:
    """Median times as text: ours first, the others also in units of ours."""
    times = {name: row["p50"] * scale for name, row in passes.items()}
    ours = times.pop("pydisent")
    others = ", ".join(f"{n} {brief(t)} {unit} ({t / ours:.1f}×)" for n, t in times.items())
    return f"pydisent {brief(ours)} {unit}, {others}"


def spread(values: list[float], digits: int) -> str:
    """The mean, with the standard deviation if there are several; a dash for none."""
    if not values:
        return "–"
    text = f"{statistics.fmean(values):.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def minutes(runs: Iterable[dict]) -> str:
    """Durations of the training runs that record them."""
    return spread([run["seconds"] / 60 for run in runs if "seconds" in run], 1)


def grouped(runs: Iterable[dict], *keys: str, first: Iterable[str] = ()) -> dict[tuple, list[dict]]:
    """The runs grouped by keys, in order of appearance; some come ``first``."""
    found: dict[tuple, list[dict]] = {(value,): [] for value in first}
    for run in runs:
        found.setdefault(tuple(run[key] for key in keys), []).append(run)
    return {key: group for key, group in found.items() if group}


def panels(width: float, height: float, columns: int = 1, **options: Any) -> tuple[Any, Any]:
    """A figure with a row of axes, without the frame's top and right sides."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, **options)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes
