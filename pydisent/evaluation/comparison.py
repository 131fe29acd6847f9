"""Comparison of runs: means and standard deviations of scores over seeds."""

import csv
import io
import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydisent._terminal import command, unfinished
from pydisent.evaluation.conditions import differing, title
from pydisent.evaluation.scored_run import ScoredRun, check_same_data, read_run
from pydisent.training.folder import RunFolder
from pydisent.training.plan import setting_text

RECONSTRUCTION = "reconstruction"


@dataclass(frozen=True)
class Estimate:
    """Mean and standard deviation of a score over seeds.

    Attributes
    ----------
    mean : float
        The mean over the runs that have the score.
    std : float or None
        The sample standard deviation (n − 1); None for one run.
    n : int
        Number of runs.
    """

    mean: float
    std: float | None
    n: int

    def __str__(self) -> str:
        digits = 3 + (abs(self.mean) < 0.1) + (abs(self.mean) < 0.01)
        spread = "" if self.std is None else f" ± {self.std:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread} ({self.n})"


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seeds.

    Attributes
    ----------
    system : str
        Their system.
    varied : dict
        The settings in which groups of the system differ.
    runs : tuple of ScoredRun
        The runs, in the order of their seeds.
    """

    system: str
    varied: dict[str, Any]
    runs: tuple[ScoredRun, ...]

    @property
    def label(self) -> str:
        """Return the system and the varied settings as text."""
        return " ".join([self.system, *(f"{k}={setting_text(v)}" for k, v in self.varied.items())])

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds."""
        return tuple(run.config["seed"] for run in self.runs)

    def estimate(self, metric: str) -> Estimate | None:
        """Return the metric over the seeds, or None if no run has it."""
        values = [run.scores[metric] for run in self.runs if metric in run.scores]
        if not values:
            return None
        std = statistics.stdev(values) if len(values) > 1 else None
        return Estimate(statistics.fmean(values), std, len(values))


@dataclass(frozen=True)
class Comparison:
    """Groups of runs on one data set: systems in the order given, settings ascending.

    Attributes
    ----------
    data : str
        The data set.
    groups : tuple of Group
        The groups.
    """

    data: str
    groups: tuple[Group, ...]

    @property
    def runs(self) -> list[ScoredRun]:
        """Return the runs of all groups."""
        return [run for group in self.groups for run in group.runs]

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Return the names of all scores, the reconstruction error first.

        A metric measured under several conditions has a name for each; see `metric_of`.
        """
        names = dict.fromkeys(name for run in self.runs for name in run.scores)
        return tuple(sorted(names, key=lambda name: metric_of(name) != RECONSTRUCTION))

    @property
    def reconstruction(self) -> str:
        """Return the name of the reconstruction error that most runs have."""
        names = [name for run in self.runs for name in run.scores]
        own = [name for name in names if metric_of(name) == RECONSTRUCTION]
        return max(dict.fromkeys(own), key=own.count, default=RECONSTRUCTION)

    def title(self, name: str) -> str:
        """Return a score's name with its variant, part of the data and counts."""
        if name != metric_of(name):
            return name
        found = (run.conditions[name] for run in self.runs if name in run.conditions)
        return title(name, next(found, {}))

    @property
    def header(self) -> tuple[str, ...]:
        """Return the titles of the table's columns."""
        return ("system", "seeds", *map(self.title, self.metrics))

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table: one row per group, with cells "mean ± std (n)"."""
        return [
            (
                group.label,
                " ".join(map(str, group.seeds)),
                *(str(group.estimate(metric) or "–") for metric in self.metrics),
            )
            for group in self.groups
        ]

    def remarks(self) -> list[str]:
        """Return remarks on unfinished runs, missing scores and scores that are not comparable."""
        said = []
        metrics = tuple(dict.fromkeys(map(metric_of, self.metrics)))
        for run in self.runs:
            if run.updates is not None and run.updates[0] < run.updates[1]:
                said.append(unfinished(run.path, run.config["system"], *run.updates))
            has = set(map(metric_of, run.scores))
            lacking = [name for name in metrics if name not in has and _is_due(name, run)]
            if lacking or not run.scores:
                chosen = ("--metrics", *lacking) if lacking else ()
                said.append(
                    f"{run.path} lacks {', '.join(lacking) or 'scores'}: "
                    + command("evaluate", run.path, *chosen)
                )
        sizes = {run.config["image_size"] for run in self.runs}
        if len(sizes) > 1 and RECONSTRUCTION in metrics:
            pixels = ", ".join(sorted(str(size or "native") for size in sizes))
            said.append(f"image sizes differ ({pixels}): reconstruction errors are not comparable")
        for metric in metrics:
            own = [name for name in self.metrics if metric_of(name) == metric]
            if len(own) > 1 and len(self._nets.get(metric, ())) < 2:
                said.append(f"{', '.join(own)}: measured differently, not comparable")
        return said + [
            f"{metric} is by {' and '.join(nets)}{': not comparable' * (len(nets) > 1)}"
            for metric, nets in self._nets.items()
        ]

    @cached_property
    def _nets(self) -> dict[str, dict[str, None]]:
        """Return the nets that each metric's scores depend on."""
        made: dict[str, dict[str, None]] = {}
        for run in self.runs:
            for metric, net in run.nets.items():
                made.setdefault(metric, {})[net] = None
        return made

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "data": self.data,
            "metrics": list(self.metrics),
            "groups": [self._group_json(group) for group in self.groups],
            "remarks": self.remarks(),
        }

    def _group_json(self, group: Group) -> dict[str, Any]:
        estimates = {metric: group.estimate(metric) for metric in self.metrics}
        return {
            "system": group.system,
            "varied": group.varied,
            "settings": group.runs[0].settings,
            "runs": [
                {"path": str(run.path), "seed": run.config["seed"], "scores": run.scores}
                for run in group.runs
            ],
            "scores": {
                metric: {"mean": e.mean, "std": e.std, "n": e.n}
                for metric, e in estimates.items()
                if e is not None
            },
        }

    def to_csv(self) -> str:
        """Return a CSV table with one line per group and metric."""
        varied = list(dict.fromkeys(name for group in self.groups for name in group.varied))
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["system", *varied, "metric", "mean", "std", "n"])
        for group in self.groups:
            settings = [group.varied.get(name, "") for name in varied]
            for metric in self.metrics:
                e = group.estimate(metric)
                if e is not None:
                    std = "" if e.std is None else e.std
                    table.writerow([group.system, *settings, metric, e.mean, std, e.n])
        return text.getvalue()

    def to_markdown(self) -> str:
        """Return the table and the remarks in Markdown."""
        lines = [self.header, ("---",) * len(self.header), *self.rows()]
        table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
        remarks = "".join(f"- {remark}\n" for remark in self.remarks())
        return f"Data: {self.data}. Mean ± standard deviation over seeds (n).\n\n{table}" + (
            f"\n{remarks}" if remarks else ""
        )


def compare(paths: Sequence[str | Path]) -> Comparison:
    """Read the scores of run folders and group the runs that differ only in their seeds.

    Parameters
    ----------
    paths : sequence of path
        Run folders, or sweep folders for all of their runs.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are no runs, a folder is not a run folder, a file is damaged, two runs are the
        same, or the runs are on different data.
    """
    runs = [read_run(path) for path in run_folders(paths)]
    if not runs:
        raise ValueError("runs must be at least one run folder, got none")
    return comparison_of(runs)


def comparison_of(runs: Sequence[ScoredRun]) -> Comparison:
    """Group the given runs, at least one, by everything but their seeds; see `compare`."""
    check_same_data(runs, ("data", "data_path", "factors"))
    runs = _told_apart(runs)
    groups: dict[str, list[ScoredRun]] = {}
    for run in runs:
        groups.setdefault(run.key, []).append(run)
    systems = list(dict.fromkeys(run.config["system"] for run in runs))
    made = [_group(group, runs) for group in groups.values()]
    made.sort(key=lambda g: (systems.index(g.system), [place(v) for v in g.varied.values()]))
    return Comparison(runs[0].config["data"], tuple(made))


def metric_of(name: str) -> str:
    """Return the metric of a score's name, which may have conditions in brackets."""
    return name.partition(" (")[0]


def _told_apart(runs: Sequence[ScoredRun]) -> list[ScoredRun]:
    """Return the runs, with a metric's scores renamed where their conditions differ."""
    metrics = dict.fromkeys(metric for run in runs for metric in run.scores)
    differ = {
        metric: differing([run.conditions[metric] for run in runs if metric in run.scores])
        for metric in metrics
    }
    named = []
    for run in runs:
        names = {m: title(m, run.conditions[m], differ[m]) if differ[m] else m for m in run.scores}
        named.append(
            replace(
                run,
                scores={names[m]: score for m, score in run.scores.items()},
                conditions={names[m]: run.conditions[m] for m in run.scores},
            )
        )
    return named


def place(value: Any) -> tuple[int, float, str]:
    """Return a sort key of a setting: numbers by value, then other values by text."""
    number = isinstance(value, (int, float))
    return (0, float(value), "") if number else (1, 0.0, str(value))


def _is_due(metric: str, run: ScoredRun) -> bool:
    """Return whether `evaluate` can measure it: not UDR, and F only for systems with a k."""
    return metric != "udr" and (metric != "f-diagonal" or "k" in run.settings)


def run_folders(paths: Sequence[str | Path]) -> Iterator[Path]:
    """Yield run folders, all runs of a sweep in place of its folder."""
    for path in map(Path, paths):
        if (path / "sweep.json").exists():
            yield from sorted(p for p in path.iterdir() if RunFolder(p).is_run())
        else:
            yield path


def _group(group: Sequence[ScoredRun], runs: Sequence[ScoredRun]) -> Group:
    system = group[0].config["system"]
    ordered = sorted(group, key=lambda run: run.config["seed"])
    for run, other in itertools.pairwise(ordered):
        if run.config["seed"] == other.config["seed"]:
            raise ValueError(
                f"runs must be given once each, got {run.path} and {other.path}, which are the "
                f"same, with seed {run.config['seed']}"
            )
    others = [run.settings for run in runs if run.config["system"] == system]
    own = ordered[0].settings
    names = dict.fromkeys(name for other in others for name in other)
    varied = {k: own.get(k) for k in names if any(other.get(k) != own.get(k) for other in others)}
    return Group(system, varied, tuple(ordered))
