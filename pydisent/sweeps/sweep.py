"""Train and score the unfinished runs of a sweep."""

import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydisent import data, systems
from pydisent._checks import check, check_counts
from pydisent.evaluation.scoring import check_names, fitting
from pydisent.sweeps.engine import Engine, Job, Outcome
from pydisent.sweeps.manifest import Manifest
from pydisent.sweeps.plan import SweepPlan
from pydisent.training.files import file_lock, lock, write_json
from pydisent.training.folder import RunFolder
from pydisent.training.plan import Plan
from pydisent.training.run import Run
from pydisent.training.sampling import BatchSampler
from pydisent.training.signals import Interrupted


class SweepInterrupted(Interrupted):
    """A sweep stopped on a signal after its workers had saved."""

    def __init__(self, signum: int, path: Path) -> None:
        Exception.__init__(
            self,
            f"stopped by {signal.Signals(signum).name}; the running jobs are saved: start the same "
            f"in {path} again to continue",
        )
        self.signum = signum


def run_sweep(
    plan: SweepPlan,
    path: str | Path,
    *,
    engine: Engine,
    metrics: Sequence[str] = (),
    score_every: int | None = None,
    accelerator: str = "auto",
    threads: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, str]:
    """Train and score the unfinished runs of a plan in `path`.

    A failed run is recorded with its error while the others continue, and retried when the sweep
    is started again. A run whose process is killed is retried in the same sweep; see `Engine`.

    Parameters
    ----------
    plan : SweepPlan
        The runs.
    path : path
        The sweep's folder, with one folder per run, and sweep.json.
    engine : Engine
        Runs the jobs.
    metrics : sequence of str
        Metrics of each run; all that apply to its data and system by default.
    score_every : int, optional
        Updates between scores by these metrics in training, which are logged.
    accelerator : str
        Lightning Fabric's.
    threads : int
        CPU threads of a run; a resumed run keeps the number that it was started with.
    say : callable
        Called with each line of progress.

    Returns
    -------
    dict of str to str
        The state of each run: "done" or "failed".

    Raises
    ------
    ValueError
        If the plan or a metric is invalid, or `path` holds another sweep or something else; before
        any work.
    SweepInterrupted
        On SIGINT, SIGTERM or SIGHUP, once all workers have saved.
    """
    runs, folder = plan.runs(), Path(path)
    if threads < 1:
        raise ValueError(f"threads must be an integer >= 1, got {threads}")
    check_counts(score_every=1 if score_every is None else score_every)
    check(score_every is None or bool(metrics), "metrics", "given with score_every", "none")
    Manifest(folder, plan, runs)
    _check(plan, runs, metrics)
    scoring = ("--score-every", str(score_every), "--metrics", *metrics) if score_every else ()
    with _locked(folder, runs):
        manifest = Manifest(folder, plan, runs)
        manifest.write()
        jobs = [
            job(name, each, folder, metrics, accelerator, threads, train_options=scoring)
            for name, each in runs.items()
            if not manifest.is_done(name, metrics)
        ]
        say(f"{len(runs)} runs, {len(runs) - len(jobs)} of them done before -> {folder}")

        def note(outcome: Outcome) -> None:
            manifest.record(outcome)
            done = sum(about["state"] == "done" for about in manifest.states.values())
            say(f"[{done}/{len(runs)}] {outcome}")

        signum = engine.run(jobs, note)
        if signum is not None:
            raise SweepInterrupted(signum, folder)
        return {name: manifest.states[name]["state"] for name in runs}


def job(
    name: str,
    plan: Plan,
    folder: Path,
    metrics: Sequence[str],
    accelerator: str,
    threads: int,
    options: Sequence[str] = (),
    train_options: Sequence[str] = (),
) -> Job:
    """Return the commands that finish a run, and write the plan that they read.

    `options` are added to the command that scores it, `train_options` to the one that trains it.
    """
    run = RunFolder(folder / name)
    scored = run.read_scores() or {}
    wanted = [metric for metric in metrics if metric not in scored]
    train = ["train", "--plan", str(run.asked), "--accelerator", accelerator]
    if not run.environment.is_file():  # another number of threads would round differently
        train += ["--threads", str(threads)]
    train += ["--out", str(run.path), "--resume", *train_options]
    evaluate = ["evaluate", str(run.path), "--accelerator", accelerator]
    evaluate += ["--threads", str(threads)]
    evaluate += ["--metrics", *wanted] if wanted else []
    evaluate += options
    commands = [train] if metrics and not wanted else [train, evaluate]
    run.path.mkdir(parents=True, exist_ok=True)
    write_json(run.asked, plan.to_json())
    return Job(
        name=name,
        commands=tuple((sys.executable, "-m", "pydisent", *argv) for argv in commands),
        output=run.output,
        threads=threads,
    )


def _check(plan: SweepPlan, runs: Mapping[str, Plan], metrics: Sequence[str]) -> None:
    """Raise ValueError, before any work, for anything that would make runs fail."""
    check_names(metrics)
    datasets: dict[tuple[Any, ...], data.ImageDataset] = {}
    seen = set()
    for name, each in runs.items():
        key = tuple(each.data_arguments().values())
        if key not in datasets:
            datasets[key] = data.load(**each.data_arguments())
            datasets[key].images([0])  # decodes pictures once, before the workers would
        system = systems.build(each.system, each.config, datasets[key].image_shape)
        BatchSampler(len(datasets[key]), system.images_per_step, each.seed)
        if each.system not in seen and metrics:
            run = Run(Path(name), each, {}, [], None, system, 0, datasets[key])
            known = fitting(run)
            if unfit := [metric for metric in metrics if metric not in known]:
                accepted = ", ".join(map(repr, known)) or "none"
                raise ValueError(
                    f"metric must be one of {accepted} for {each.system} on {plan.data}, got "
                    f"{unfit[0]!r}"
                )
        seen.add(each.system)


@contextmanager
def _locked(folder: Path, names: Iterable[str]) -> Iterator[None]:
    """Create the folder and lock it against other sweeps.

    Processes may outlive a killed sweep, so the output of each run is checked for locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    what = f"{folder} has a running sweep: wait for it to end, or choose another folder"
    with file_lock(folder / ".lock", what):
        for output in (RunFolder(folder / name).output for name in names):
            if not output.is_file():
                continue
            with output.open("ab") as left:
                if not lock(left):
                    raise ValueError(
                        f"{output} is being written by a process that a sweep left behind: wait "
                        "for it to end"
                    )
        yield
