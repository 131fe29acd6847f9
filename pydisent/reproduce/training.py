"""Training and scoring of the unfinished runs of entries."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydisent.reproduce.entry import Case
from pydisent.reproduce.records import write_record
from pydisent.reproduce.runs import PERCEIVED, Runs
from pydisent.sweeps import job
from pydisent.sweeps.engine import Engine, Job, Outcome, RunsFailedError
from pydisent.training import Plan, RunFolder
from pydisent.training.checkpoint import adopt, latest_checkpoint
from pydisent.training.files import write_json

_OPTIONS = "evaluated-with.json"  # in a run's folder
_SCORES = 20  # over a run, where a column is a median over training


@dataclass(frozen=True)
class Training:
    """How runs are trained and scored.

    Attributes
    ----------
    engine : Engine
        Runs the jobs.
    accelerator : str
        Lightning Fabric's accelerator.
    threads : int
        CPU threads of each run.
    options : sequence of str
        Further options of the command `evaluate`.
    say : callable
        Called with each line of progress.
    missing : bool
        Whether to train missing runs; if not, pages are written from the existing ones.
    """

    engine: Engine
    accelerator: str = "auto"
    threads: int = 1
    options: Sequence[str] = ()
    say: Callable[[str], None] = print
    missing: bool = True

    def options_for(self, case: Case) -> tuple[str, ...]:
        """Return the options for a case, with the paper's threshold if TPL is by VGG16."""
        if case.threshold is None or "--vgg16" not in self.options or "--threshold" in self.options:
            return tuple(self.options)
        return (*self.options, "--threshold", str(case.threshold))


def finish(runs: Sequence[Runs], training: Training) -> int | None:
    """Train and score all unfinished runs.

    Rows that start from others' weights are trained after these.

    Returns
    -------
    int or None
        The number of the signal that stopped it, if any.

    Raises
    ------
    RunsFailedError
        If runs failed; the others are finished.
    """
    for each in runs:
        for key in each.plans:
            _forget_other_nets(RunFolder(each.path(*key)), training.options_for(each.case))
            _record(each, key)
    if not training.missing:
        return None
    failed: dict[str, str] = {}
    for later in (False, True):
        if signum := _run(runs, [*_jobs(runs, training, later, failed)], training, failed):
            return signum
    if failed:
        reasons = "; ".join(f"{name}: {error}" for name, error in failed.items())
        raise RunsFailedError(f"{len(failed)} runs failed: {reasons}")
    return None


def _jobs(
    runs: Sequence[Runs], training: Training, later: bool, failed: Mapping[str, str]
) -> Iterator[Job]:
    """Yield the jobs of rows that start from others' weights if `later`, else of the others."""
    seen = set()
    needed = {path for each in runs for path in _teachers(each)}
    for each in runs:
        first = {row.name: row.begins_as for row in each.case.rows}
        for (row, seed), plan in each.plans.items():
            path, teacher = each.path(row, seed), first[row]
            if (teacher is not None) != later or path in seen:
                continue
            if each.is_done(row, seed) and (path not in needed or each.is_trained(row, seed)):
                continue
            if teacher is not None and (teacher, seed) in each.plans:
                before = each.path(teacher, seed)
                if before.name in failed:
                    continue
                _branch(RunFolder(before), plan, RunFolder(path))
            seen.add(path)
            users = [other for other in runs for key in other.plans if other.path(*key) == path]
            wanted = dict.fromkeys(metric for user in users for metric in user.metrics(plan))
            watched = dict.fromkeys(key for user in users for key in user.case.scored_in_training)
            made = job(
                path.name,
                plan,
                each.folder,
                tuple(wanted),
                training.accelerator,
                training.threads,
                options=training.options_for(each.case),
                train_options=_scoring(plan, tuple(watched)),
            )
            # Without metrics a job measures all of them.
            yield made if wanted else replace(made, commands=made.commands[:1])


def _scoring(plan: Plan, keys: Sequence[str]) -> tuple[str, ...]:
    """Return the options of `train` for scores in training."""
    if not keys:
        return ()
    count = 1 if plan.preset == "smoke" else _SCORES
    return "--score-every", str(-(-plan.steps // count)), "--metrics", *keys


def _teachers(runs: Runs) -> Iterator[Path]:
    """Yield the folders of runs from whose weights unfinished runs start."""
    first = {row.name: row.begins_as for row in runs.case.rows}
    for row, seed in runs.plans:
        teacher = first[row]
        known = teacher is not None and (teacher, seed) in runs.plans
        if teacher is not None and known and not runs.is_done(row, seed):
            yield runs.path(teacher, seed)


def _record(runs: Runs, key: tuple[str, int]) -> None:
    """Record a run, if it is finished and runs are recorded."""
    to = runs.record_path(*key)
    if to is not None and runs.is_trained(*key) and runs.is_done(*key):
        write_record(RunFolder(runs.path(*key)), to)


def _forget_other_nets(run: RunFolder, options: Sequence[str]) -> None:
    """Drop a run's image scores that used other nets, thresholds or counts."""
    if not run.is_run():
        return
    note = run.path / _OPTIONS
    before = json.loads(note.read_text()) if note.is_file() else []
    if before != list(options):
        scores = run.read_scores() or {}
        write_json(run.scores, {k: v for k, v in scores.items() if k not in PERCEIVED})
        write_json(note, list(options))


def _run(
    runs: Sequence[Runs], jobs: Sequence[Job], training: Training, failed: dict[str, str]
) -> int | None:
    if not jobs:
        return None
    done = 0
    whose = {each.path(*key).name: (each, key) for each in runs for key in each.plans}

    def note(outcome: Outcome) -> None:
        nonlocal done
        done += outcome.state in ("done", "failed")
        if outcome.state == "failed":
            failed[outcome.name] = outcome.error or "without a message"
        if outcome.state == "done":
            _record(*whose[outcome.name])
        training.say(f"[{done}/{len(jobs)}] {outcome}")

    return training.engine.run(jobs, note)


def _branch(teacher: RunFolder, plan: Plan, to: RunFolder) -> None:
    """Start a run from its teacher's last checkpoint, unless it has already started."""
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
