"""Training several runs side by side, with first pictures before they finish."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from pydisent import data
from pydisent.evaluation.registry import METRICS
from pydisent.evaluation.scoring import applicable_to
from pydisent.sweeps import SweepInterrupted, job
from pydisent.sweeps.engine import Engine, Outcome, RunsFailedError
from pydisent.training import Plan, RunFolder, open_run
from pydisent.training.run import updates

_POLL = 1.0  # seconds
_SAMPLES = 64


def train_and_score(
    plans: Mapping[str, Plan],
    out: Path,
    *,
    engine: Engine,
    threads: int,
    say: Callable[[str], None],
) -> None:
    """Train and score the unfinished runs, each in its folder below `out`.

    Parameters
    ----------
    plans : dict of str to Plan
        Plans by folder name; all on the same data.
    out : Path
        Receives a picture of the data; each run's first checkpoint is drawn in its figures folder.
    engine : Engine
        Runs the jobs.
    threads : int
        CPU threads of each run.
    say : callable
        Called with each line of progress.

    Raises
    ------
    SweepInterrupted
        On SIGINT or SIGTERM, once all workers have saved.
    RunsFailedError
        If a run failed.
    """
    missing = {name: _missing(plan, out / name) for name, plan in plans.items()}
    jobs = [
        job(name, plans[name], out, metrics, "auto", threads)
        for name, metrics in missing.items()
        if metrics or not _is_trained(out / name)
    ]
    if not jobs:
        return
    say(f"wrote {_draw_data(next(iter(plans.values())), out)}: what both learn from")
    for each in jobs:
        say(f"{each.name}: prints to {each.output}")
    failed: list[str] = []

    def note(outcome: Outcome) -> None:
        say(str(outcome))
        if outcome.state == "failed":
            failed.append(str(outcome))

    with _Watcher({each.name: out / each.name for each in jobs}, say):
        signum = engine.run(jobs, note)
    if signum is not None:
        raise SweepInterrupted(signum, out)
    if failed:
        raise RunsFailedError("; ".join(failed))


def _is_trained(path: Path) -> bool:
    done = updates(path) if RunFolder(path).is_run() else None
    return done is not None and done[0] == done[1]


def _missing(plan: Plan, path: Path) -> list[str]:
    """Return the applicable metrics that are not among the run's scores."""
    scored = RunFolder(path).read_scores() or {}
    return [m for m in applicable_to(plan) if not METRICS[m].slow and m not in scored]


def _draw_data(plan: Plan, out: Path) -> Path:
    import torch

    from pydisent.reports.pictures import write_wall

    images = data.load(**plan.data_arguments())
    shown = torch.linspace(0, len(images) - 1, min(_SAMPLES, len(images))).long()
    return write_wall(images.images(shown), f"images of {plan.data}", out / "data.png")


class _Watcher:
    """A context that reports new checkpoints of runs, and draws each run's first."""

    def __init__(self, paths: Mapping[str, Path], say: Callable[[str], None]) -> None:
        self._paths, self._say = paths, say
        self._seen = {name: _saved(path) for name, path in paths.items()}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_POLL):
            self._look()
        self._look()

    def _look(self) -> None:
        for name, path in self._paths.items():
            found, before = _saved(path), self._seen[name]
            if found is None or found == before:
                continue
            self._seen[name] = found
            self._say(f"{name}: {found[0]:,} of {found[1]:,} updates")
            if before is None:
                self._draw(path)

    def _draw(self, path: Path) -> None:
        from pydisent.reports import write_traversals

        try:
            files = write_traversals(open_run(path))
        except (OSError, ValueError) as error:  # the next checkpoint came; nothing depends on it
            self._say(f"no first picture of {path}: {error}")
        else:
            self._say(f"wrote {files[0]}: traversals so far")


def _saved(path: Path) -> tuple[int, int] | None:
    """Return `updates`, or None if there is no intact checkpoint."""
    try:
        return updates(path)
    except (OSError, ValueError):
        return None
