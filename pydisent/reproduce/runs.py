"""The runs of an entry: their plans at a scale, training, and access to what was trained."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydisent._checks import check, check_one_of
from pydisent.data import names
from pydisent.evaluation.devices import device_of
from pydisent.evaluation.scoring import fitting_to
from pydisent.reproduce.entry import STAND_INS, Case, Row
from pydisent.sweeps import job, slug
from pydisent.sweeps.engine import Engine, Job, Outcome, RunsFailedError
from pydisent.training import Plan, Run, RunFolder, open_run
from pydisent.training.checkpoint import adopt, latest_checkpoint
from pydisent.training.files import write_json
from pydisent.training.run import updates

PRESETS = {"smoke": "smoke", "small": "quick", "paper": "paper"}
_SMOKE_ROWS, _SMOKE_STEPS = 2, 5
_REMARKS = ("command", "note")
PERCEIVED = ("tpl", "ppl", "fid")  # scores that depend on the net that judges images
_OPTIONS = "evaluated-with.json"  # in a run's folder


@dataclass(frozen=True)
class Scale:
    """How large models are, on which data, and with which seeds.

    Attributes
    ----------
    name : {"smoke", "small", "paper"}
        "paper" trains the papers' models on the official data; "small" presets of minutes on the
        built-in stand-ins; "smoke" shows in seconds that everything runs.
    seeds : tuple of int
        One run of each row for each.
    data_paths : mapping of str to path
        Official data by name, which then replaces its stand-in.
    """

    name: str
    seeds: tuple[int, ...] = (0,)
    data_paths: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_one_of("scale", self.name, tuple(PRESETS))
        different = bool(self.seeds) and len(set(self.seeds)) == len(self.seeds)
        check(different, "seeds", "different integers, at least 1", list(self.seeds))
        for name in self.data_paths:
            check_one_of("official", name, names())

    def data(self, case: Case) -> tuple[str, Path | None] | None:
        """Return the data set of a case, and its path; None if there is none at this scale."""
        if case.data in self.data_paths:
            return case.data, self.data_paths[case.data]
        stand_in = STAND_INS.get(case.data)
        return None if self.name == "paper" or stand_in is None else (stand_in, None)

    def rows(self, case: Case) -> Sequence[Row]:
        """Return the rows of a case that are trained at this scale."""
        if self.name == "smoke":
            drawn = {row for figure in case.figures for row in figure.rows}
            return [
                row
                for number, row in enumerate(case.rows)
                if number < (1 if drawn else _SMOKE_ROWS) or row.name in drawn
            ]
        if self.name == "small" and case.small_rows:
            return [row for row in case.rows if row.name in case.small_rows]
        return case.rows

    def plan(self, case: Case, row: Row, seed: int) -> Plan:
        """Return the plan of a row; `data(case)` must not be None."""
        found = self.data(case)
        assert found is not None
        settings = {**case.settings, **row.settings}
        if self.name == "small":
            settings |= {**row.small, **case.small}
        elif self.name == "smoke":
            settings |= {**row.small, **case.small, **case.smoke}
        data, path = found
        is_paper = self.name == "paper"
        if is_paper:
            settings |= row.paper
        plan = Plan.from_preset(
            row.system,
            data,
            PRESETS[self.name],
            data_path=path,
            seed=seed,
            steps=self._steps(row),
            settings=settings,
        )
        return replace(plan, **case.paper) if is_paper else plan

    def _steps(self, row: Row) -> int | None:
        """Return the updates of a row's first phase; None for the preset's."""
        if self.name == "paper" and row.paper_steps:
            return row.paper_steps
        return _SMOKE_STEPS if self.name == "smoke" and row.steps is None else row.steps


@dataclass(frozen=True)
class Runs:
    """The runs of a case.

    Attributes
    ----------
    case : Case
        The case.
    plans : mapping of (str, int) to Plan
        By row and seed.
    folder : Path
        Where all runs of the scale are, those of other entries too.
    measured : dict or None
        What the case's `measure` returned.
    accelerator : str
        Where runs are opened; see `pydisent.evaluation.devices`.
    """

    case: Case
    plans: Mapping[tuple[str, int], Plan]
    folder: Path
    measured: dict[str, Any] | None = None
    accelerator: str = "cpu"

    @classmethod
    def of(cls, case: Case, scale: Scale, folder: Path, accelerator: str = "cpu") -> Runs:
        """Return the runs of a case at a scale."""
        rows = scale.rows(case)
        keys = [(row, seed) for row in rows for seed in scale.seeds]
        plans = {(row.name, seed): scale.plan(case, row, seed) for row, seed in keys}
        return cls(case, plans, folder, accelerator=accelerator)

    def path(self, row: str, seed: int) -> Path:
        """Return the folder of a run: the same for the same plan, whatever the entry."""
        return self.folder / folder_name(self.plans[row, seed])

    def rows(self) -> list[str]:
        """Return the names of the rows."""
        return list(dict.fromkeys(row for row, _ in self.plans))

    def title(self, row: str) -> str:
        """Return the title of a row."""
        return next(each.title for each in self.case.rows if each.name == row)

    def open(self, rows: Sequence[str]) -> Run:
        """Open the run of the first of these rows, with the first seed."""
        key = next(key for key in self.plans if key[0] == rows[0])
        return open_run(self.path(*key), device_of(self.accelerator))

    def opened(self, rows: Sequence[str]) -> Iterator[tuple[str, Run]]:
        """Yield the titles of these rows, and their runs with the first seed."""
        for row in rows:
            yield self.title(row), self.open([row])

    def is_done(self, row: str, seed: int) -> bool:
        """Return whether a run is trained, and has the scores that apply to it."""
        plan, path = self.plans[row, seed], self.path(row, seed)
        if not RunFolder(path).is_run():
            return False
        done, scored = updates(path), RunFolder(path).read_scores() or {}
        if done is None or done[0] != done[1]:
            return False
        # Which metrics apply is known of the data alone, so it is asked only if some are missing.
        missing = set(self.case.metrics) - scored.keys()
        return not missing or not missing & set(self.metrics(plan))

    def metrics(self, plan: Plan) -> tuple[str, ...]:
        """Return the metrics of the case that apply to a plan."""
        fitting = fitting_to(plan)
        return tuple(name for name in self.case.metrics if name in fitting)


def folder_name(plan: Plan) -> str:
    """Return a folder's name that says what is trained, and differs wherever plans do."""
    values = {k: v for k, v in plan.to_json().items() if k not in _REMARKS}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
    return f"{slug(plan.system, plan, {})}-{plan.data}-{digest}"


@dataclass(frozen=True)
class Training:
    """How runs are trained and scored.

    Attributes
    ----------
    engine : Engine
        Runs the jobs.
    accelerator : str
        Lightning Fabric's.
    threads : int
        CPU threads of each.
    options : sequence of str
        Further options of the command `evaluate`.
    say : callable
        Called with each line of progress.
    """

    engine: Engine
    accelerator: str = "auto"
    threads: int = 1
    options: Sequence[str] = ()
    say: Callable[[str], None] = print

    def options_for(self, case: Case) -> tuple[str, ...]:
        """Return the options for a case, with the paper's threshold of TPL if VGG16 measures it."""
        if case.threshold is None or "--vgg16" not in self.options or "--threshold" in self.options:
            return tuple(self.options)
        return (*self.options, "--threshold", str(case.threshold))


def finish(runs: Sequence[Runs], training: Training) -> int | None:
    """Train and score all runs that are not finished.

    Rows that begin as others do are trained after these.

    Returns
    -------
    int or None
        The number of the signal that stopped it.

    Raises
    ------
    RunsFailedError
        If runs failed; the others are finished.
    """
    for each in runs:
        for key in each.plans:
            _forget_other_nets(RunFolder(each.path(*key)), training.options_for(each.case))
    failed: dict[str, str] = {}
    for later in (False, True):
        if signum := _run([*_jobs(runs, training, later, failed)], training, failed):
            return signum
    if failed:
        reasons = "; ".join(f"{name}: {error}" for name, error in failed.items())
        raise RunsFailedError(f"{len(failed)} runs failed: {reasons}")
    return None


def _jobs(
    runs: Sequence[Runs], training: Training, later: bool, failed: Mapping[str, str]
) -> Iterator[Job]:
    """Yield the jobs of rows that begin as others do, if `later`, or of those that do not."""
    seen = set()
    for each in runs:
        first = {row.name: row.begins_as for row in each.case.rows}
        for (row, seed), plan in each.plans.items():
            path, teacher = each.path(row, seed), first[row]
            if (teacher is not None) != later or path in seen or each.is_done(row, seed):
                continue
            if teacher is not None and (teacher, seed) in each.plans:
                before = each.path(teacher, seed)
                if before.name in failed:
                    continue
                _branch(RunFolder(before), plan, RunFolder(path))
            seen.add(path)
            wanted = tuple(
                dict.fromkeys(
                    metric
                    for other in runs
                    for (name, number), same in other.plans.items()
                    if other.path(name, number) == path
                    for metric in other.metrics(same)
                )
            )
            made = job(
                path.name,
                plan,
                each.folder,
                wanted,
                training.accelerator,
                training.threads,
                options=training.options_for(each.case),
            )
            # Without metrics a job measures all of them.
            yield made if wanted else replace(made, commands=made.commands[:1])


def _forget_other_nets(run: RunFolder, options: Sequence[str]) -> None:
    """Drop a run's scores of images that were made with other nets, thresholds or counts."""
    if not run.is_run():
        return
    note = run.path / _OPTIONS
    before = json.loads(note.read_text()) if note.is_file() else []
    if before != list(options):
        scores = run.read_scores() or {}
        write_json(run.scores, {k: v for k, v in scores.items() if k not in PERCEIVED})
        write_json(note, list(options))


def _run(jobs: Sequence[Job], training: Training, failed: dict[str, str]) -> int | None:
    if not jobs:
        return None
    done = 0

    def note(outcome: Outcome) -> None:
        nonlocal done
        done += outcome.state in ("done", "failed")
        if outcome.state == "failed":
            failed[outcome.name] = outcome.error or "without a message"
        training.say(f"[{done}/{len(jobs)}] {outcome}")

    return training.engine.run(jobs, note)


def _branch(teacher: RunFolder, plan: Plan, to: RunFolder) -> None:
    """Let a run begin where its teacher's ended, unless it has begun: all up to there is alike."""
    if to.is_run():
        return
    latest = latest_checkpoint(teacher.checkpoints)
    assert latest is not None
    unfinished = RunFolder(to.path.with_name(f".{to.path.name}.tmp"))
    for left in (to.path, unfinished.path):
        shutil.rmtree(left, ignore_errors=True)
    unfinished.path.mkdir(parents=True)
    write_json(unfinished.config, plan.to_json())
    adopt(latest, unfinished.checkpoints, unfinished.plan_sum())
    shutil.copy(teacher.log, unfinished.log)
    write_json(unfinished.environment, teacher.read_environment())
    unfinished.path.rename(to.path)
