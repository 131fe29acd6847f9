"""The files of a comparison of runs."""

import csv
import io
import json
import re
from pathlib import Path

from pydisent.evaluation.comparison import Comparison, Estimate, Group, compare, metric_of
from pydisent.evaluation.conditions import CONDITIONS
from pydisent.evaluation.scored_run import ScoredRun
from pydisent.reports.files import write_files

__all__ = ["Comparison", "Estimate", "Group", "ScoredRun", "compare", "write_comparison"]


def write_comparison(comparison: Comparison, out: str | Path) -> list[Path]:
    """Write a comparison as JSON, CSV, Markdown and LaTeX, and its picture if there is one.

    The files are comparison.json, .csv, .md and .tex, comparison-runs.csv with one row per run and
    metric, and tradeoff.png.

    Parameters
    ----------
    comparison : Comparison
        The result of `compare`.
    out : path
        The folder, created if missing.
    """
    from pydisent.reports.tradeoff import draw_tradeoff  # needs matplotlib, unlike `compare`

    files = {
        "comparison.json": (json.dumps(comparison.to_json(), indent=2) + "\n").encode(),
        "comparison.csv": comparison.to_csv().encode(),
        "comparison-runs.csv": runs_csv(comparison).encode(),
        "comparison.md": comparison.to_markdown().encode(),
        "comparison.tex": latex_table(comparison).encode(),
    }
    picture = draw_tradeoff(comparison)
    return write_files(Path(out), files | ({"tradeoff.png": picture} if picture else {}))


def runs_csv(comparison: Comparison) -> str:
    """Return a tidy CSV table: one row per run and metric, with the score's conditions."""
    varied = list(dict.fromkeys(name for group in comparison.groups for name in group.varied))
    known = [found for run in comparison.runs for found in run.conditions.values()]
    said = [name for name in CONDITIONS if any(name in found for found in known)]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["run", "system", *varied, "seed", "metric", "score", *said])
    for group in comparison.groups:
        settings = [group.varied.get(name, "") for name in varied]
        for run in group.runs:
            for name, score in run.scores.items():
                found = run.conditions.get(name, {})
                about = ["" if found.get(key) is None else found[key] for key in said]
                row = [run.path, group.system, *settings, run.config["seed"], metric_of(name)]
                table.writerow([*row, score, *about])
    return text.getvalue()


_TEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    "−": "$-$",
    "²": "$^2$",
    "<": "$<$",
    ">": "$>$",
}


def latex_table(comparison: Comparison) -> str:
    """Return the table in LaTeX, for the booktabs package, with remarks as comments."""

    def line(cells: tuple[str, ...]) -> str:
        return " & ".join(re.sub(".", lambda c: _TEX.get(c[0], c[0]), cell) for cell in cells)

    header = comparison.header
    return "\n".join(
        [
            *(f"% {remark}" for remark in [f"data: {comparison.data}", *comparison.remarks()]),
            f"\\begin{{tabular}}{{ll{'r' * (len(header) - 2)}}}",
            r"\toprule",
            line(header) + r" \\",
            r"\midrule",
            *(line(row) + r" \\" for row in comparison.rows()),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )
