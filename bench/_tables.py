"""What the benches' tables and figures share: markdown, numbers in words, colours, axes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

# Of Okabe and Ito's palette, which colour-blind readers can tell apart.
OURS, OTHERS, COMPILED = "#0072B2", "#999999", "#E69F00"


def load(folder: Path, question: str) -> dict[str, Any] | None:
    path = folder / f"{question}.json"
    return json.loads(path.read_text()) if path.exists() else None


def device(environment: dict) -> str:
    """The machine in words."""
    return environment["gpu"] or f"{environment['cpu']}, {environment['cores']} cores"


def machine(environment: dict) -> str:
    """The machine and the software in words."""
    versions = environment["backends"]["versions"]
    threads = counted(environment["threads"], "thread")
    return (
        f"{device(environment)}, {threads}, torch {versions['torch']}, Python {versions['python']}"
    )


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """The lines of a table, its first columns aligned to the left, and the empty line after it."""
    rule = ["---"] * left + ["---:"] * (len(heads) - left)
    return [
        *("|" + "".join(f" {cell} |" if cell else " |" for cell in row)
          for row in (heads, rule, *rows)),
        "",
    ]  # fmt: skip


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def brief(value: float) -> str:
    """Three digits, or all those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def versus(passes: dict, scale: float, unit: str) -> str:
    """Median times in words, ours first, the others with how many times ours they take."""
    times = {name: row["p50"] * scale for name, row in passes.items()}
    ours = times.pop("pydisent")
    others = ", ".join(f"{n} {brief(t)} {unit} ({t / ours:.1f}×)" for n, t in times.items())
    return f"pydisent {brief(ours)} {unit}, {others}"


def spread(values: list[float], digits: int) -> str:
    """The mean, and the standard deviation of several; a dash for none."""
    if not values:
        return "–"
    text = f"{statistics.fmean(values):.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def minutes(runs: Iterable[dict]) -> str:
    """How long runs of training took, those that tell it."""
    return spread([run["seconds"] / 60 for run in runs if "seconds" in run], 1)


def grouped(runs: Iterable[dict], *keys: str, first: Iterable[str] = ()) -> dict[tuple, list[dict]]:
    """The runs that agree in these keys, in the order in which they appear; some come ``first``."""
    found: dict[tuple, list[dict]] = {(value,): [] for value in first}
    for run in runs:
        found.setdefault(tuple(run[key] for key in keys), []).append(run)
    return {key: group for key, group in found.items() if group}


def panels(width: float, height: float, columns: int = 1, **options: Any) -> tuple[Any, Any]:
    """A figure with a row of axes, without the frame's upper and right side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, **options)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes
