"""`pydisent demo`: both GANs at once, and pictures before they are finished."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from pydisent import data, systems
from pydisent.training import Plan, Run, RunFolder, open_run
from pydisent.training.engine import Engine, Outcome
from pydisent.training.run import updates
from pydisent.training.sweep import SweepInterrupted, job

_POLL = 1.0  # seconds
_SAMPLES = 64
# They look at many generated images, and would add minutes.
_SLOW = ("tpl", "ppl", "fid")


class RunsFailedError(RuntimeError):
    """Some of the demo's runs failed; the message says which and why."""


def train_and_score(
    plans: Mapping[str, Plan],
    out: Path,
    *,
    engine: Engine,
    threads: int,
    say: Callable[[str], None],
) -> None:
    """Do what the runs still need, each in its folder below `out`, and say how far they are.

    Parameters
    ----------
    plans : dict of str to Plan
        By the names of the runs' folders; all of the same data.
    out : Path
        Also gets a picture of the data at once; a run's first checkpoint is drawn in its figures.
    engine : Engine
        Runs them side by side.
    threads : int
        CPU threads of each.
    say : callable
        Told what happens, a line each.

    Raises
    ------
    SweepInterrupted
        On SIGINT or SIGTERM, when all have saved.
    RunsFailedError
        If one failed.
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
    """Return the metrics that fit the run and that it has not been scored by."""
    from pydisent.training.scoring import applicable

    shape = data.load(plan.data, plan.data_path, image_size=plan.image_size).image_shape
    system = systems.build(plan.system, plan.config, shape)
    run = Run(path, plan.to_json(), {}, [], None, system, 0)
    scored = RunFolder(path).read_scores() or {}
    return [m for m in applicable(run) if m not in _SLOW and m not in scored]


def _draw_data(plan: Plan, out: Path) -> Path:
    import torch

    from pydisent.reports._files import write_files
    from pydisent.reports._style import image_png
    from pydisent.reports.pictures import image_wall

    images = data.load(plan.data, plan.data_path, image_size=plan.image_size)
    shown = torch.linspace(0, len(images) - 1, min(_SAMPLES, len(images))).long()
    wall = image_wall(images.images(shown), f"images of {plan.data}")
    return write_files(out, {"data.png": image_png(wall)})[0]


class _Watcher:
    """Says which updates are saved while runs are trained elsewhere, and draws the first of each.

    A context, which looks once more at its end.
    """

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
            self._say(f"wrote {files[0]}: what it draws so far")


def _saved(path: Path) -> tuple[int, int] | None:
    """Return `updates`, or None where there is no checkpoint, or not a whole one."""
    try:
        return updates(path)
    except (OSError, ValueError):
        return None
