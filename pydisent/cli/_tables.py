"""Tables of scores, and the pictures that accompany them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydisent.cli._output import say, say_table, say_written

if TYPE_CHECKING:
    from pydisent.training import Run


def show_scores(run: "Run") -> None:
    """Print a run's scores, if any, and draw their matrices of codes against factors."""
    from pydisent.reports import write_matrices
    from pydisent.reports.matrices import matrices_of

    if run.scores:
        print_scores([run])
    if matrices_of(run.scores, run.path / "scores.json"):
        say_written(write_matrices(run, run.path / "figures"))


def print_scores(runs: Sequence["Run"]) -> None:
    """Print the scores of runs side by side."""
    names = list(dict.fromkeys(name for run in runs for name in run.scores or {}))
    rows = []
    for name in names:
        found = [(run.scores or {}).get(name) for run in runs]
        rows.append([name, *(f"{s['score']:.4f}" if s else "–" for s in found)])
    say_table(["", *(str(run.path) for run in runs)], rows, title="scores")
    for remark in _remarks(runs):
        say(remark)


def _remarks(runs: Sequence["Run"]) -> list[str]:
    """Return remarks on the nets of scores, their notices, and how factors were observed."""
    made: dict[str, list[str]] = {}
    notices: dict[str, None] = {}
    for run in runs:
        for name, entry in (run.scores or {}).items():
            details = entry.get("details", {})
            if (net := details.get("distance")) is not None:
                made.setdefault(net, []).append(name)
            for about in ("notice", "observed"):
                if (notice := details.get(about)) is not None:
                    notices[notice] = None
    return [f"by {net}: {', '.join(dict.fromkeys(names))}" for net, names in made.items()] + [
        *notices
    ]


def print_comparison(runs: Sequence[Path], out: Path, udr: bool = False) -> None:
    """Print and write the comparison of runs, or sweeps, over seeds; with `udr` their agreement."""
    from pydisent.reports import compare, write_comparison

    comparison = compare(runs)
    if udr:
        from pydisent.evaluation.ranking import with_udr

        comparison = with_udr(comparison)
    title = f"{comparison.data}: mean ± standard deviation over seeds (n)"
    say_table(comparison.header, comparison.rows(), title=title, whole=True)
    for remark in comparison.remarks():
        say(remark)
    say_written(write_comparison(comparison, out))
