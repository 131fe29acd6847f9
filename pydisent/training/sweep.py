"""Grids of systems, settings and seeds: one run folder each, in parallel, resumable."""

import itertools
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydisent import data, systems
from pydisent.training._files import (
    NUMBER,
    Types,
    absolute,
    as_object,
    check_fields,
    check_value,
    held,
    lock,
    read_object,
    write_json,
)
from pydisent.training._text import plain
from pydisent.training.engine import Engine, Job, Outcome
from pydisent.training.folder import RunFolder
from pydisent.training.loop import Interrupted
from pydisent.training.plan import Plan, difference
from pydisent.training.run import Run
from pydisent.training.sampling import BatchSampler
from pydisent.training.scoring import applicable, metric_names

FORMAT = 1
MANIFEST = "sweep.json"
_FIELDS: Types = {"format": (int,), "asked": (dict,), "runs": (dict,)}
_RUN: Types = {"state": (str,), "plan": (dict,), "error": (str,), "seconds": NUMBER}
_STATES = ("waiting", "running", "done", "failed", "interrupted")
Grid = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class SweepPlan:
    """Which runs a sweep makes: each system with each combination of its settings and each seed.

    Attributes
    ----------
    systems : tuple of str
        Names of systems.
    data, data_path, partial, preset, steps
        As in `Plan`, of every run; a path is made absolute.
    grid : dict of str to tuple of str
        Values of settings, as text; a key "system.setting" is for that system alone, another for
        all.
    seeds : tuple of int
        One run each.
    """

    systems: tuple[str, ...]
    data: str = "sprites"
    data_path: str | Path | None = None
    partial: bool = False
    preset: str = "quick"
    steps: int | None = None
    grid: Grid = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_path", absolute(self.data_path))
        given: dict[str, Sequence[Any]] = {"systems": self.systems, "seeds": self.seeds}
        given |= {f"grid {key}": values for key, values in self.grid.items()}
        for name, values in given.items():
            if not values or len(set(values)) < len(values):
                raise ValueError(
                    f"{name} is {list(values)}; accepted: different values, at least 1"
                )

    def runs(self) -> dict[str, Plan]:
        """Return the plan of each run by the name of its folder.

        Raises
        ------
        ValueError
            If a name is unknown, a value is not accepted, a system lacks a setting of the grid,
            or two runs are the same.
        """
        made: dict[str, Plan] = {}
        for system in self.systems:
            values = self._values(system)
            for chosen in itertools.product(*values.values()):
                settings = dict(zip(values, chosen))
                for seed in self.seeds:
                    plan = self._plan(system, settings, seed)
                    name = slug(system, plan, settings)
                    if name in made:
                        raise ValueError(f"grid gives {name} twice; accepted: different settings")
                    made[name] = plan
        return made

    def _plan(self, system: str, settings: dict[str, str], seed: int) -> Plan:
        try:
            return Plan.from_preset(
                system,
                self.data,
                self.preset,
                data_path=self.data_path,
                partial=self.partial,
                seed=seed,
                steps=self.steps,
                settings=settings,
            )
        except ValueError as error:
            raise ValueError(f"{system}: {error}") from error

    def _values(self, system: str) -> dict[str, Sequence[str]]:
        """Return the grid's values of the settings of `system`; its own keys go before others."""
        known = [name for name, *_ in systems.describe(systems.config_class(system)())]
        values: dict[str, Sequence[str]] = {}
        for key in sorted(self.grid, key=lambda key: "." in key):
            owner, _, setting = key.rpartition(".")
            if owner and owner not in self.systems:
                raise ValueError(f"grid has {key!r}; accepted before a dot: {list(self.systems)}")
            if owner not in ("", system):
                continue
            if setting not in known:
                hint = "" if owner else f", or SYSTEM.{setting} for the systems that have it"
                raise ValueError(
                    f"grid has {key!r}, but {system} has no setting {setting!r}; accepted: "
                    f"{', '.join(known)}{hint}"
                )
            values[setting] = self.grid[key]
        return values


def slug(system: str, plan: Plan, settings: Mapping[str, Any]) -> str:
    """Return a readable folder name of a run: system, settings of the grid, seed."""
    config = {name: value for name, _, value in systems.describe(plan.config)}
    words = [word for name in settings for word in (name, plain(config[name]))]
    return re.sub(r"[^\w.+-]", "_", "-".join([system, *words, "seed", str(plan.seed)]))


class SweepInterrupted(Interrupted):
    """A sweep stopped on a signal after its workers had saved."""

    def __init__(self, signum: int, path: Path) -> None:
        Exception.__init__(
            self,
            f"stopped by {signal.Signals(signum).name}; what was running is saved: start the same "
            f"in {path} again to go on",
        )
        self.signum = signum


def run_sweep(
    plan: SweepPlan,
    path: str | Path,
    *,
    engine: Engine,
    metrics: Sequence[str] = (),
    accelerator: str = "auto",
    threads: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, str]:
    """Train and score the runs of a plan in `path`, those that are not finished yet.

    A run that fails is recorded with its error, and the others go on; it is tried again when the
    sweep is started again. One whose process is killed is tried again at once; see `Engine`.

    Parameters
    ----------
    plan : SweepPlan
        What to run.
    path : path
        The sweep's folder: one run folder each, and sweep.json.
    engine : Engine
        Runs the jobs.
    metrics : sequence of str
        The scores of each run; all that its data and system allow by default.
    accelerator : str
        Lightning Fabric's.
    threads : int
        CPU threads of a run; one that goes on keeps those that it had.
    say : callable
        Told of what happens, a line each.

    Returns
    -------
    dict of str to str
        The state of each run: "done" or "failed".

    Raises
    ------
    ValueError
        If the plan or a metric is not accepted, or `path` holds another sweep or something else;
        before any work.
    SweepInterrupted
        On SIGINT, SIGTERM or SIGHUP, when all workers have saved.
    """
    runs, folder = plan.runs(), Path(path)
    if threads < 1:
        raise ValueError(f"threads is {threads}; accepted: an integer >= 1")
    _Manifest(folder, plan, runs)
    _check(plan, runs, metrics)
    with _locked(folder, runs):
        manifest = _Manifest(folder, plan, runs)
        manifest.write()
        jobs = [
            job(name, each, folder, metrics, accelerator, threads)
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
    name: str, plan: Plan, folder: Path, metrics: Sequence[str], accelerator: str, threads: int
) -> Job:
    """Return the work that a run still needs, as command lines."""
    run = RunFolder(folder / name)
    scored = run.read_scores() or {}
    wanted = [metric for metric in metrics if metric not in scored]
    train = ["train", plan.system, "--preset", plan.preset, "--data", plan.data]
    if plan.data_path is not None:
        train += ["--data-path", plan.data_path]
    if plan.partial:
        train += ["--partial"]
    train += ["--seed", str(plan.seed), "--steps", str(plan.steps), "--accelerator", accelerator]
    if not run.environment.is_file():  # another number of threads would round differently
        train += ["--threads", str(threads)]
    usual = systems.preset(plan.system, plan.preset, plan.data).config
    changed = set(systems.describe(plan.config)) - set(systems.describe(usual))
    if changed:
        train += ["--set", *sorted(f"{name}={value}" for name, _, value in changed)]
    train += ["--out", str(run.path), "--resume"]
    evaluate = ["evaluate", str(run.path), "--threads", str(threads)]
    evaluate += ["--metrics", *wanted] if wanted else []
    commands = [train] if metrics and not wanted else [train, evaluate]
    return Job(
        name=name,
        commands=tuple((sys.executable, "-m", "pydisent", *argv) for argv in commands),
        output=run.output,
        threads=threads,
    )


def _check(plan: SweepPlan, runs: Mapping[str, Plan], metrics: Sequence[str]) -> None:
    """Raise ValueError, before any work, for what would make runs fail."""
    for metric in metrics:
        if metric not in metric_names():
            raise ValueError(f"metric is {metric!r}; accepted: {', '.join(metric_names())}")
    datasets: dict[int | None, data.ImageDataset] = {}
    seen = set()
    for name, each in runs.items():
        size = each.image_size
        if size not in datasets:
            datasets[size] = data.load(
                plan.data, plan.data_path, image_size=size, partial=plan.partial
            )
            datasets[size].images([0])  # so that pictures are decoded once, not by each worker
        system = systems.build(each.system, each.config, datasets[size].image_shape)
        BatchSampler(len(datasets[size]), system.images_per_step, each.seed)
        if each.system not in seen:
            seen.add(each.system)
            run = Run(Path(name), each.to_json(), {}, [], None, system, 0, datasets[size])
            fitting = applicable(run) if metrics else ()
            if unfit := [metric for metric in metrics if metric not in fitting]:
                raise ValueError(
                    f"metric {unfit[0]!r} does not fit {each.system} on {plan.data}; accepted: "
                    f"{', '.join(fitting) or 'none'}"
                )


@contextmanager
def _locked(folder: Path, names: Iterable[str]) -> Iterator[None]:
    """Make the folder, and keep other sweeps out of it until this one ends.

    Processes may outlive their sweep, if that is killed: each has its run's output locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    what = f"{folder} has a sweep at work: wait for it, or choose another folder"
    with held(folder / ".lock", what):
        for output in (RunFolder(folder / name).output for name in names):
            if not output.is_file():
                continue
            with output.open("ab") as left:
                if not lock(left):
                    raise ValueError(
                        f"{output} is written by a process that a sweep left behind: wait for it"
                    )
        yield


class _Manifest:
    """sweep.json: the plan, and the state of each run."""

    def __init__(self, folder: Path, plan: SweepPlan, runs: Mapping[str, Plan]) -> None:
        self.folder, self.file = folder, folder / MANIFEST
        self.asked = asdict(plan) | {"grid": {key: list(v) for key, v in plan.grid.items()}}
        self.asked = {k: list(v) if isinstance(v, tuple) else v for k, v in self.asked.items()}
        self.plans = {name: each.to_json() for name, each in runs.items()}
        self.states: dict[str, dict[str, Any]] = {name: {"state": "waiting"} for name in runs}
        if self.file.exists():
            self._read()
        elif not RunFolder(folder).is_free():
            raise ValueError(
                f"{folder} is not a sweep's folder, and not empty; it has no {MANIFEST}: choose "
                "another"
            )

    def _read(self) -> None:
        kept, source = read_object(self.file), str(self.file)
        if kept.get("format") != FORMAT:
            raise ValueError(f"{source} has format {kept.get('format')!r:.40}; accepted: {FORMAT}")
        check_fields(source, kept, _FIELDS)
        check_value(f"{source}: data_path", kept["asked"].get("data_path"), (str, type(None)))
        asked = {"partial": False} | kept["asked"]
        asked["data_path"] = absolute(asked.get("data_path"))
        for name, value in self.asked.items():
            if asked.get(name) != value:
                raise ValueError(
                    f"{self.folder} holds a sweep with {name} {asked.get(name)!s:.300}, not "
                    f"{value}: it can only go on as it was started ({MANIFEST})"
                )
        for name, plan in self.plans.items():
            about = as_object(kept["runs"].get(name), f"{source}: run {name}")
            check_fields(f"{source}: {name}", about, _RUN, optional=("error", "seconds"))
            if difference(about["plan"], plan):
                raise ValueError(f"{source}: {name} has another plan than is asked for")
            if about["state"] not in _STATES:
                raise ValueError(
                    f"{source}: {name} is {about['state']!r:.40}; accepted: {', '.join(_STATES)}"
                )
            self.states[name] = {k: v for k, v in about.items() if k != "plan"}

    def write(self) -> None:
        """Write the file, atomically."""
        runs = {name: {**self.states[name], "plan": plan} for name, plan in self.plans.items()}
        write_json(self.file, {"format": FORMAT, "asked": self.asked, "runs": runs})

    def record(self, outcome: Outcome) -> None:
        """Note how a run ended, or that it began."""
        state: dict[str, Any] = {"state": outcome.state}
        if outcome.error is not None:
            state["error"] = outcome.error
        if outcome.seconds is not None:
            state["seconds"] = round(outcome.seconds, 1)
        self.states[outcome.name] = state
        self.write()

    def is_done(self, name: str, metrics: Sequence[str]) -> bool:
        """Return whether a run is trained and has these scores."""
        run = RunFolder(self.folder / name)
        if self.states[name]["state"] != "done" or not run.is_run():
            return False
        scored = run.read_scores() or {}
        return set(metrics) <= scored.keys()
