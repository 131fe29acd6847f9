"""Scores of several runs: means over seeds, as tables and trade-off curves."""

import csv
import io
import itertools
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydisent._terminal import command
from pydisent.reports._files import write_files
from pydisent.training import RunFolder
from pydisent.training._files import Types, check_fields
from pydisent.training._text import plain
from pydisent.training.run import updates

# The settings that decide a score, beside those of the system; the seed is what is averaged over.
_DECIDE = ("image_size", "steps")
# The fields of a plan that are read, and the types of their values.
_FIELDS: Types = {
    "system": (str,),
    "data": (str,),
    "seed": (int,),
    "config": (dict,),
    "image_size": (int, type(None)),
    "steps": (int,),
}
RECONSTRUCTION = "reconstruction"


@dataclass(frozen=True)
class ScoredRun:
    """What a comparison reads of a run folder.

    Attributes
    ----------
    path : Path
        The folder.
    config : dict
        The plan.
    scores : dict of str to float
        The finite scores by metric.
    updates : tuple of int or None
        The updates behind its last checkpoint, and those of the plan; None without checkpoints.
    nets : dict of str to str
        The net that looked at the images, of each metric that has one.
    """

    path: Path
    config: dict[str, Any]
    scores: dict[str, float]
    updates: tuple[int, int] | None = None
    nets: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """Return everything but the seed that decides the scores."""
        decide = {name: self.config[name] for name in _DECIDE}
        return {**self.config["config"], **decide, "partial": self.config.get("partial", False)}

    @property
    def key(self) -> str:
        """Return what runs that differ by their seeds alone have in common."""
        return json.dumps([self.config["system"], self.settings], sort_keys=True)


@dataclass(frozen=True)
class Estimate:
    """A score over seeds.

    Attributes
    ----------
    mean : float
        Over the runs that have the score.
    std : float or None
        The sample standard deviation (n − 1); None for one run.
    n : int
        How many runs have it.
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
    """Runs that differ by their seeds alone.

    Attributes
    ----------
    system : str
        Their system.
    varied : dict
        Those of their settings that other groups of the system have otherwise.
    runs : tuple of ScoredRun
        One a seed, in the order of the seeds.
    """

    system: str
    varied: dict[str, Any]
    runs: tuple[ScoredRun, ...]

    @property
    def label(self) -> str:
        """Return the system and what sets this group apart, in words."""
        return " ".join([self.system, *(f"{k}={plain(v)}" for k, v in self.varied.items())])

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
    """Groups of runs on one data set: systems as they were given, settings in rising order.

    Attributes
    ----------
    data : str
        The data set.
    groups : tuple of Group
        What is compared.
    """

    data: str
    groups: tuple[Group, ...]

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Return the names of all scores, the reconstruction error first."""
        names = [m for group in self.groups for run in group.runs for m in run.scores]
        return tuple(sorted(dict.fromkeys(names), key=lambda name: name != RECONSTRUCTION))

    @property
    def header(self) -> tuple[str, ...]:
        """Return the titles of the table's columns."""
        return ("system", "seeds", *self.metrics)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table: a row a group, its cells "mean ± std (n)"."""
        return [
            (
                group.label,
                " ".join(map(str, group.seeds)),
                *(str(group.estimate(metric) or "–") for metric in self.metrics),
            )
            for group in self.groups
        ]

    def remarks(self) -> list[str]:
        """Return what a reader must know: scores that are missing, figures that do not compare."""
        said = []
        for run in (run for group in self.groups for run in group.runs):
            if run.updates is not None and run.updates[0] < run.updates[1]:
                said.append(
                    f"{run.path} is unfinished, {run.updates[0]} of {run.updates[1]} updates: "
                    + command("train", run.config["system"], "--out", run.path, "--resume")
                )
            lacking = [
                metric
                for metric in self.metrics
                if metric not in run.scores and _is_due(metric, run)
            ]
            if lacking or not run.scores:
                chosen = ("--metrics", *lacking) if lacking else ()
                said.append(
                    f"{run.path} lacks {', '.join(lacking) or 'scores'}: "
                    + command("evaluate", run.path, *chosen)
                )
        sizes = {run.config["image_size"] for group in self.groups for run in group.runs}
        if len(sizes) > 1 and RECONSTRUCTION in self.metrics:
            pixels = ", ".join(sorted(str(size or "native") for size in sizes))
            said.append(f"image sizes differ ({pixels}): reconstruction errors do not compare")
        return said + self._nets()

    def _nets(self) -> list[str]:
        """Return which nets made the figures that depend on one."""
        made: dict[str, dict[str, None]] = {}
        for run in (run for group in self.groups for run in group.runs):
            for metric, net in run.nets.items():
                made.setdefault(metric, {})[net] = None
        return [
            f"{metric} is by {' and '.join(nets)}{': its figures do not compare' * (len(nets) > 1)}"
            for metric, nets in made.items()
        ]

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
        """Return one line for each group and metric."""
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
        """Return the table and the remarks for a README."""
        lines = [self.header, ("---",) * len(self.header), *self.rows()]
        table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
        remarks = "".join(f"- {remark}\n" for remark in self.remarks())
        return f"Data: {self.data}. Mean ± standard deviation over seeds (n).\n\n{table}" + (
            f"\n{remarks}" if remarks else ""
        )


def compare(paths: Sequence[str | Path]) -> Comparison:
    """Read the scores of run folders and group the runs that differ by their seeds alone.

    Parameters
    ----------
    paths : sequence of path
        Run folders, or folders of sweeps, which stand for all runs in them.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no run, a folder is none, a file of it is damaged, two runs are the same, or
        the runs' data are not.
    """
    runs = [read_run(path) for path in _run_folders(paths)]
    if not runs:
        raise ValueError("runs is empty; accepted: one run folder or more")
    _check_data(runs)
    groups: dict[str, list[ScoredRun]] = {}
    for run in runs:
        groups.setdefault(run.key, []).append(run)
    systems = list(dict.fromkeys(run.config["system"] for run in runs))
    made = [_group(group, runs) for group in groups.values()]
    made.sort(key=lambda g: (systems.index(g.system), [place(v) for v in g.varied.values()]))
    return Comparison(runs[0].config["data"], tuple(made))


def write_comparison(comparison: Comparison, out: str | Path) -> list[Path]:
    """Write comparison.json, .csv and .md, and tradeoff.png if there is what it needs.

    Parameters
    ----------
    comparison : Comparison
        What `compare` returned.
    out : path
        The folder; made if need be.
    """
    from pydisent.reports.tradeoff import draw_tradeoff

    files = {
        "comparison.json": (json.dumps(comparison.to_json(), indent=2) + "\n").encode(),
        "comparison.csv": comparison.to_csv().encode(),
        "comparison.md": comparison.to_markdown().encode(),
    }
    picture = draw_tradeoff(comparison)
    return write_files(Path(out), files | ({"tradeoff.png": picture} if picture else {}))


def place(value: Any) -> tuple[int, float, str]:
    """Return a key that sorts settings: numbers by size, then the rest by name."""
    number = isinstance(value, (int, float))
    return (0, float(value), "") if number else (1, 0.0, str(value))


def _is_due(metric: str, run: ScoredRun) -> bool:
    """Return whether `evaluate` could add the score: not UDR, and F where a system has a k."""
    return metric != "udr" and (metric != "f-diagonal" or "k" in run.settings)


def _run_folders(paths: Sequence[str | Path]) -> Iterator[Path]:
    for path in map(Path, paths):
        if (path / "sweep.json").exists():
            yield from sorted(p for p in path.iterdir() if RunFolder(p).is_run())
        else:
            yield path


def read_run(path: Path) -> ScoredRun:
    """Read the plan and the scores of a run folder.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is none, or a file of it is damaged.
    """
    folder = RunFolder(path)
    folder.require_run()
    config = folder.read_config()
    check_fields(str(folder.config), config, _FIELDS, others=True)
    scores, nets = {}, {}
    for metric, entry in (folder.read_scores() or {}).items():
        value = entry["score"]
        if math.isfinite(value):
            scores[metric] = float(value)
        if (net := entry.get("details", {}).get("distance")) is not None:
            nets[metric] = net
    return ScoredRun(path, config, scores, updates(path), nets)


def _check_data(runs: Sequence[ScoredRun]) -> None:
    """Raise ValueError unless all runs are on one data set."""
    first, about = runs[0], ("data", "data_path")
    for run in runs:
        if any(run.config.get(name) != first.config.get(name) for name in about):
            one, other = (
                " at ".join(str(r.config[name]) for name in about if r.config.get(name))
                for r in (first, run)
            )
            raise ValueError(
                f"runs are on different data: {first.path} on {one}, {run.path} on {other}; "
                "accepted: runs on one data set"
            )


def _group(group: Sequence[ScoredRun], runs: Sequence[ScoredRun]) -> Group:
    system = group[0].config["system"]
    ordered = sorted(group, key=lambda run: run.config["seed"])
    for run, other in itertools.pairwise(ordered):
        if run.config["seed"] == other.config["seed"]:
            raise ValueError(
                f"{run.path} and {other.path} are the same run, with seed {run.config['seed']}; "
                "accepted: each run once"
            )
    others = [run.settings for run in runs if run.config["system"] == system]
    own = ordered[0].settings
    names = dict.fromkeys(name for other in others for name in other)
    varied = {k: own.get(k) for k in names if any(other.get(k) != own.get(k) for other in others)}
    return Group(system, varied, tuple(ordered))
