"""Tables of scores, and their pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydisent.cli._output import say, say_table, say_written

if TYPE_CHECKING:
    from pydisent.training import Run


def show_scores(run: "Run") -> None:
    """Print a run's scores, if any, and draw their codes-against-factors matrices."""
    from pydisent.reports import write_matrices
    from pydisent.reports.matrices import matrices_of

    if run.scores:
        print_scores([run])
    if matrices_of(run.scores, run.path / "scores.json"):
        say_written(write_matrices(run, run.path / "figures"))


def print_scores(runs: Sequence["Run"]) -> None:
    """Print the scores of runs side by side."""
    scores = [_by_title(run) for run in runs]
    titles = dict.fromkeys(title for found in scores for title in found)
    rows = [
        [title, *(f"{found[title]:.4f}" if title in found else "–" for found in scores)]
        for title in titles
    ]
    say_table(["", *(str(run.path) for run in runs)], rows, title="scores")
    for remark in _remarks(runs):
        say(remark)


def _by_title(run: "Run") -> dict[str, float]:
    """Return a run's scores by name, including variants, parts of the data and counts."""
    from pydisent.evaluation.conditions import conditions_of, title

    return {
        title(name, conditions_of(name, entry.get("details", {}))): entry["score"]
        for name, entry in (run.scores or {}).items()
    }


def _remarks(runs: Sequence["Run"]) -> list[str]:
    """Return remarks on the scores' nets, their notices, and how factors were observed."""
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


def print_comparison(
    runs: Sequence[Path], out: Path, udr: bool = False, accelerator: str = "auto"
) -> None:
    """Print and write a comparison of runs, or sweeps, over seeds; with `udr` their agreement."""
    from pydisent.reports import compare, write_comparison

    comparison = compare(runs)
    if udr:
        from pydisent.evaluation.devices import device_of
        from pydisent.evaluation.ranking import with_udr

        comparison = with_udr(comparison, device=device_of(accelerator))
    title = f"{comparison.data}: mean ± standard deviation over seeds (n)"
    say_table(comparison.header, comparison.rows(), title=title, whole=True)
    for remark in comparison.remarks():
        say(remark)
    say_written(write_comparison(comparison, out))
