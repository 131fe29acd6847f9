"""The command line: train, sweep, evaluate, compare, select, traverse, report, ..."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydisent._extras import install_command, optional
from pydisent._terminal import command, readable_output, warnings_of_one_line
from pydisent.parallel import is_first

with optional("the command line"):
    from tyro.conf import Positional, arg
    from tyro.extras import subcommand_cli_from_dict

if TYPE_CHECKING:
    from pydisent.training import Plan, Run, RunFolder
    from pydisent.training.engine import Engine
    from pydisent.training.perception import Perception


def train(
    system: Positional[str],
    preset: str | None = None,
    data: str | None = None,
    data_path: Path | None = None,
    partial: bool = False,
    out: Path | None = None,
    seed: int | None = None,
    steps: int | None = None,
    settings: Annotated[tuple[str, ...], arg(name="set", metavar="KEY=VALUE ...")] = (),
    resume: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    accelerator: str = "auto",
    devices: int | None = None,
    cuda_graphs: bool = False,
    timeout: float | None = None,
) -> None:
    """Train a system into a run folder.

    Parameters
    ----------
    system : str
        Which system; `pydisent list` names them all.
    preset : str
        smoke (seconds), quick (minutes; the default) or paper.
    data : str
        Data set, sprites by default; `pydisent list` names them all.
    data_path : Path
        The data set's file or folder.
    partial : bool
        Take a part of the data set, the pictures that are there; of celeba.
    out : Path
        The run folder; runs/SYSTEM-DATA-PRESET-SEED by default.
    seed : int
        Fixes the run bit for bit on one machine, thread count and number of devices; 0 by default.
    steps : int
        Updates of the system, the preset's by default.
    settings : tuple of str
        Settings of the system; `pydisent list SYSTEM` shows them all.
    resume : bool
        Continue the run in the folder from its last checkpoint, or start it if there is none.
    overwrite : bool
        Delete the run in the folder first.
    threads : int
        CPU threads of each process; a resumed run goes on with as many as before by default.
    accelerator : str
        cpu, cuda, mps or auto.
    devices : int
        How many share every batch, each by a process of its own; as many as torchrun started, or
        as the resumed run had, or 1, by default. They change the result by rounding alone.
    cuda_graphs : bool
        Replay steps as CUDA graphs where the system allows it: fewer, larger launches.
    timeout : float
        Seconds after which devices give up one that does not answer; half an hour by default.
    """
    from pydisent.training import RunFolder
    from pydisent.training.processes import torchrun_processes

    _set_threads(threads)
    given = {
        "preset": preset,
        "data": data,
        "data_path": data_path,
        "partial": partial or None,
        "seed": seed,
        "steps": steps,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    path = out or Path("runs") / "-".join(
        [system, data or "sprites", preset or "quick", str(seed or 0)]
    )
    folder = RunFolder(path)
    if resume and folder.is_run():
        plan = _resumed_plan(folder, system, asked, _pairs(settings))
        before = folder.read_environment() if folder.environment.exists() else {}
        # Another number rounds differently.
        threads = threads or before.get("threads")
        if devices is None:
            devices = torchrun_processes() or before.get("devices")
    else:
        plan = _new_plan(system, asked, _pairs(settings))
    _train(
        plan,
        path,
        resume=resume,
        overwrite=overwrite,
        accelerator=accelerator,
        devices=devices,
        threads=threads,
        cuda_graphs=cuda_graphs,
        timeout=timeout,
    )
    _say(f"trained: {path}  (next: {command('evaluate', path)}; {command('report', path)})")


def evaluate(
    run: Positional[Path],
    metrics: tuple[str, ...] = (),
    all_images: bool = False,
    vgg16: Path | None = None,
    lpips: Path | None = None,
    inception: Path | None = None,
    threshold: float | None = None,
    threads: int | None = None,
) -> None:
    """Score a run: print a table, write its scores.json, and draw codes against factors.

    Parameters
    ----------
    run : Path
        The run folder.
    metrics : tuple of str
        Which metrics; all that the run's data and system allow by default.
    all_images : bool
        Draw from all images of the grid of factors, not from 100 000 of them.
    vgg16 : Path
        Weights of VGG16 by torchvision's names, .pth or .safetensors, for tpl and ppl; by default
        a fixed random net, whose figures compare with each other alone.
    lpips : Path
        LPIPS's channel weights for VGG16.
    inception : Path
        Weights of Inception-v3, pytorch-fid's or torchvision's, for fid; the fixed net by default.
    threshold : float
        The length from which tpl takes a dimension for active; needed with --vgg16.
    threads : int
        CPU threads.
    """
    from pydisent.training import open_run
    from pydisent.training.perception import Perception
    from pydisent.training.scoring import MetricsFailedError

    _set_threads(threads)
    opened = open_run(run)
    perception = Perception(vgg16, lpips, inception, threshold)
    try:
        _evaluate(opened, metrics, all_images, perception)
    except MetricsFailedError:
        _show_scores(opened)  # what could be scored
        raise
    _show_scores(opened)


def traverse(
    run: Positional[Path],
    out: Path | None = None,
    sort: Literal["auto", "tpl", "code"] = "auto",
) -> None:
    """Draw images along each coordinate of a run's code, and the codes' masks if there are any.

    Parameters
    ----------
    run : Path
        The run folder.
    out : Path
        Where the pictures go; RUN/figures by default.
    sort : str
        tpl: by the perceptual length of the traversals, the longest first, measured if it is not
        among the run's scores; code: in the code's order; auto: by length if it is known and no
        penalty aligns the first coordinates.
    """
    from pydisent.training import open_run

    opened, folder = open_run(run), out or run / "figures"
    from pydisent.reports import write_masks, write_traversals
    from pydisent.reports._masks import has_masks

    _say_written(write_traversals(opened, folder, sort=sort))
    if has_masks(opened):
        _say_written(write_masks(opened, folder))


def transfer(
    run: Positional[Path],
    out: Path | None = None,
    codes: Annotated[tuple[str, ...], arg(metavar="NAME[,NAME...] ...")] = (),
    origin: Annotated[Literal["prior", "data"], arg(name="from")] = "prior",
    sources: int = 7,
    attributes: int = 4,
    seed: int = 0,
) -> None:
    """Draw images with some coordinates of other images' codes (Zhu et al., Fig. 10).

    Parameters
    ----------
    run : Path
        The run folder.
    out : Path
        Where the pictures go; RUN/figures by default.
    codes : tuple of str
        For each picture the coordinates that are copied, with commas between them; by default
        the three whose traversals are longest, one a picture, measured if that is not among the
        run's scores.
    origin : str
        prior: generated images; data: images of the data, encoded.
    sources : int
        Images that are changed.
    attributes : int
        Images that provide the attributes.
    seed : int
        Of the images.
    """
    from pydisent.training import open_run

    opened = open_run(run)
    from pydisent.reports import write_transfer

    groups = [_listed(group) for group in codes] or None
    _say_written(
        write_transfer(
            opened,
            out or run / "figures",
            coordinates=groups,
            origin=origin,
            sources=sources,
            attributes=attributes,
            seed=seed,
        )
    )


def rotate(
    run: Positional[Path],
    out: Path | None = None,
    codes: Annotated[str | None, arg(metavar="NAME,NAME")] = None,
    seed: int = 0,
) -> None:
    """Plot the perceptual distance along an axis of two coordinates that turn (Zhu, Fig. 3 d).

    Parameters
    ----------
    run : Path
        The run folder.
    out : Path
        Where the plot goes; RUN/figures by default.
    codes : str
        The two coordinates; those whose traversals are longest by default, measured if that is
        not among the run's scores.
    seed : int
        Of the code whose other coordinates are kept.
    """
    from pydisent.training import open_run

    opened = open_run(run)
    from pydisent.reports import write_rotation

    chosen = None if codes is None else _listed(codes)
    _say_written(write_rotation(opened, out or run / "figures", coordinates=chosen, seed=seed))


def trace(
    run: Positional[Path],
    ordinals: tuple[int, ...] = (1, 2, 3),
    steps: int = 200,
    out: Path | None = None,
) -> None:
    """Draw images along paths that follow the generator's eigenvectors (Ramesh et al., Alg. 1).

    Parameters
    ----------
    run : Path
        The run folder.
    ordinals : tuple of int
        Which eigenvectors, 1 the leading one.
    steps : int
        Steps along each path.
    out : Path
        Where the pictures go; RUN/figures by default.
    """
    from pydisent.training import open_run

    opened = open_run(run)
    from pydisent.reports import write_eigenpaths

    _say_written(write_eigenpaths(opened, out or run / "figures", ordinals=ordinals, steps=steps))


def report(runs: Positional[tuple[Path, ...]], out: Path | None = None) -> None:
    """Write one HTML page about a run, or comparing several.

    Parameters
    ----------
    runs : tuple of Path
        The run folders.
    out : Path
        Where the page goes; the first run's report folder by default.
    """
    from pydisent.training import open_run

    if not runs:
        raise ValueError("runs is empty; accepted: one run folder or more")
    opened = [open_run(run) for run in runs]
    from pydisent.reports import write_report

    _say_written(write_report(opened, out, ["pydisent", *sys.argv[1:]]))


def sweep(
    systems: Positional[str],
    out: Path,
    grid: Annotated[tuple[str, ...], arg(metavar="[SYSTEM.]KEY=V1,V2 ...")] = (),
    seeds: str = "0",
    data: str = "sprites",
    data_path: Path | None = None,
    partial: bool = False,
    preset: str = "quick",
    steps: int | None = None,
    metrics: tuple[str, ...] = (),
    workers: int | None = None,
    threads: int | None = None,
    accelerator: str = "auto",
    engine: Literal["local", "ray"] = "local",
    ray_address: str | None = None,
) -> None:
    """Train and score a grid of systems, settings and seeds in parallel, and compare the runs.

    Started again, it skips what is finished, goes on with what was interrupted, and tries again
    what failed. A run whose process is killed, as when memory is short, is started again by
    itself and goes on from its last checkpoint, three times in all.

    Parameters
    ----------
    systems : str
        Names of systems, with commas between them.
    out : Path
        Holds a run folder for each run, sweep.json and the comparison.
    grid : tuple of str
        Values of settings: all combinations are run. SYSTEM.KEY is for that system alone.
    seeds : str
        Seeds of each combination, with commas between them.
    data : str
        Data set of all runs.
    data_path : Path
        The data set's file or folder.
    partial : bool
        Take a part of the data set, the pictures that are there; of celeba.
    preset : str
        smoke, quick or paper.
    steps : int
        Updates of each run, the preset's by default.
    metrics : tuple of str
        Scores of each run; all that its data and system allow by default.
    workers : int
        Processes at a time; as many as CPU cores by default, and 1 on a GPU; on a Ray cluster that
        is joined, as many as it has CPU cores and GPUs for.
    threads : int
        CPU threads of each; the cores divided by the workers by default, and 1 on such a cluster.
    accelerator : str
        cpu, cuda, mps or auto.
    engine : str
        Where the processes run: local, on this machine, or ray, on a Ray cluster: one of this
        machine that ends with the sweep, unless an address is given. Its machines must share the
        folders of the sweep and the data, and have pydisent installed.
    ray_address : str
        The Ray cluster to join: HOST:PORT, ray://HOST:PORT or auto; RAY_ADDRESS by default.
    """
    from pydisent.training.sweep import SweepPlan, run_sweep

    plan = SweepPlan(
        systems=_listed(systems),
        data=data,
        data_path=None if data_path is None else str(data_path.absolute()),
        partial=partial,
        preset=preset,
        steps=steps,
        grid={key: _listed(values) for key, values in _pairs(grid, "--grid").items()},
        seeds=_numbers(seeds),
    )
    chosen, suited = _engine(engine, ray_address, len(plan.runs()), workers, accelerator)
    states = run_sweep(
        plan,
        out,
        engine=chosen,
        metrics=metrics,
        accelerator=accelerator,
        threads=suited if threads is None else threads,
        say=_say,
    )
    if done := [out / name for name, state in states.items() if state == "done"]:
        _compare(done, out / "comparison")
    if failed := [name for name, state in states.items() if state != "done"]:
        raise SystemExit(
            _fail(f"{len(failed)} of {len(states)} runs failed: {', '.join(failed)}", 1)
        )


def compare(runs: Positional[tuple[Path, ...]], out: Path | None = None, udr: bool = False) -> None:
    """Compare scores over seeds, in tables and against the reconstruction error (Kumar, Fig. 1).

    Parameters
    ----------
    runs : tuple of Path
        Run folders, or folders of sweeps, which stand for all runs in them.
    out : Path
        Where tables and picture go; the folder comparison beside the first run by default, and in
        a sweep's folder if that is all that is given.
    udr : bool
        Also measure how well runs that differ by their seeds alone agree (UDR); this opens them
        and encodes 1000 images with each.
    """
    if not runs:
        raise ValueError("runs is empty; accepted: one run folder or more")
    swept = len(runs) == 1 and (runs[0] / "sweep.json").exists()
    _compare(runs, out or (runs[0] if swept else runs[0].parent) / "comparison", udr)


def select(
    folder: Positional[Path],
    active: int = 1,
    vgg16: Path | None = None,
    lpips: Path | None = None,
    threshold: float | None = None,
    again: bool = False,
    threads: int | None = None,
) -> None:
    """Rank all finished runs below a folder by TPL, which needs no ground truth (Zhu et al.).

    The lowest is the best. Runs that have no TPL yet are scored.

    Parameters
    ----------
    folder : Path
        Where the runs are, at any depth; selection.json is written there.
    active : int
        Runs with fewer active dimensions are set apart: what encodes little has short traversals.
    vgg16 : Path
        Weights of VGG16, to score with; see evaluate.
    lpips : Path
        LPIPS's channel weights for VGG16.
    threshold : float
        The length from which a dimension is active; needed with --vgg16.
    again : bool
        Score all runs, those that are scored as well.
    threads : int
        CPU threads.
    """
    with optional():
        from rich.table import Table

    from pydisent.reports.selection import select as rank
    from pydisent.reports.selection import write_selection
    from pydisent.training.perception import Perception

    _set_threads(threads)
    perception = Perception(vgg16, lpips, threshold=threshold)
    selection = rank(folder, active=active, perception=perception, again=again, say=_say)
    table = Table(*selection.header, title="lower TPL is better")
    for row in selection.rows():
        table.add_row(*row)
    _say(table, whole=True)
    for remark in selection.remarks():
        _say(remark)
    _say_written(write_selection(selection))


def list_(system: Positional[str | None] = None) -> None:
    """List systems, data sets, presets and metrics, or one system's settings.

    Parameters
    ----------
    system : str
        Show this system's settings and their value in each preset.
    """
    with optional():
        from rich.table import Table

    from pydisent import data, systems
    from pydisent.training.scoring import metric_names

    if system is not None:
        _list_settings(system)
        return
    table = Table("system", *systems.PRESETS, title="systems: steps of each preset")
    for name in systems.names():
        sizes = [systems.preset(name, p, "sprites") for p in systems.PRESETS]
        table.add_row(name, *(f"{size.steps:,}: {size.note}" for size in sizes))
    _say(table)
    _say(f"data sets: {', '.join(data.names())}")
    _say(f"metrics: {', '.join(metric_names())}")


def info() -> None:
    """Say what is installed, which kernels are active, and why any is not."""
    from pydisent import _info

    _info.info()


def demo(
    out: Path = Path("runs/demo"),
    preset: str = "quick",
    seed: int = 0,
    threads: int = 1,
) -> None:
    """Train the spectral GAN and its plain twin on sprites, score both, and compare them.

    They are trained side by side where there are cores for both; each prints into its folder. The
    first pictures come with the first checkpoints. What is there already is kept, and what was
    interrupted goes on.

    Parameters
    ----------
    out : Path
        Holds both run folders and the report.
    preset : str
        Of both runs.
    seed : int
        Of both runs.
    threads : int
        CPU threads of each; networks this small gain little from more, and lose much on a busy
        machine.
    """
    from pydisent._demo import RunsFailedError, train_and_score
    from pydisent.reports import write_report
    from pydisent.training import RunFolder, open_run
    from pydisent.training.engine import LocalEngine

    _set_threads(threads)
    asked, plans = {"preset": preset, "seed": seed}, {}
    for name, settings in (("spectral-gan", {}), ("plain-gan", {"penalty_weight": "0"})):
        folder = RunFolder(out / name)
        if folder.is_run():
            plans[name] = _resumed_plan(folder, "spectral-gan", asked, settings)
        else:
            plans[name] = _new_plan("spectral-gan", asked, settings)
    at_once = max(1, min(len(plans), _workers("auto") // threads))
    try:
        train_and_score(plans, out, engine=LocalEngine(at_once), threads=threads, say=_say)
    except RunsFailedError as error:
        raise SystemExit(_fail(str(error), 1)) from None
    opened = [open_run(out / name) for name in plans]
    page = write_report(opened, out / "report", ["pydisent", *sys.argv[1:]])
    _print_scores(opened)
    _say_written(page)


_COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "evaluate": evaluate,
    "traverse": traverse,
    "transfer": transfer,
    "rotate": rotate,
    "trace": trace,
    "report": report,
    "compare": compare,
    "select": select,
    "sweep": sweep,
    "list": list_,
    "info": info,
    "demo": demo,
}


# Options that take several values, and may be written several times.
_REPEATABLE = ("--set", "--grid", "--metrics", "--codes")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 2 for bad input, 1 for a failure, 128 + n on signal n."""
    with readable_output(), warnings_of_one_line():
        return _main(sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> int:
    try:
        subcommand_cli_from_dict(
            _COMMANDS,
            prog="pydisent",
            description="Disentangled representation learning: train, score, picture.",
            args=_gathered(argv),
        )
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except Exception as error:
        if os.environ.get("PYDISENT_TRACEBACK") == "1":
            raise
        return _fail(*_explain(error))
    return 0


def _gathered(argv: Sequence[str]) -> list[str]:
    """Return `argv` with the values of a repeated option at its first place.

    Of ``--set a=1 --set b=2`` the parser would keep the last alone.
    """
    gathered: list[str] = []
    values: dict[str, list[str]] = {}
    into: list[str] | None = None
    for word in argv:
        option, equals, value = word.partition("=")
        if option in _REPEATABLE:
            if option not in values:
                gathered.append(option)
                values[option] = []
            into = values[option]
            into += [value] if equals else []
        elif word.startswith("--"):
            into = None
            gathered.append(word)
        else:
            (gathered if into is None else into).append(word)
    return [v for word in gathered for v in (word, *values.get(word, ()))]


def _explain(error: Exception) -> tuple[str, int]:
    """Return the message and exit code of an expected error; raise any other."""
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("pydisent"):
        extra = "sweep" if error.name == "ray" else "all"  # Ray is large, and all leaves it out.
        return f"this needs the package {error.name}: {install_command(extra)}", 2
    if isinstance(error, (ValueError, OSError)):
        return str(error), 2
    from pydisent.systems import NotTrainedError
    from pydisent.training import Interrupted, NonFiniteError
    from pydisent.training.processes import ProcessLostError

    if isinstance(error, NotTrainedError):
        return str(error), 2
    if isinstance(error, Interrupted):
        return str(error), 128 + error.signum
    if isinstance(error, NonFiniteError | ProcessLostError):
        return str(error), 1
    raise error


def _fail(message: str, code: int) -> int:
    if is_first():
        with suppress(OSError):
            print(f"pydisent: {message}", file=sys.stderr)
    return code


def _say(what: Any, *, whole: bool = False) -> None:
    """Print text or a table; a `whole` table is as wide as it must be, for cut numbers mislead."""
    with optional():
        from rich.console import Console
        from rich.measure import Measurement

    if not is_first():
        return
    console = Console(soft_wrap=isinstance(what, str), highlight=False, markup=False)
    if whole:
        wide = console.options.update(width=10_000)
        console.width = max(console.width, Measurement.get(console, wide, what).maximum)
    console.print(what)


def _say_written(paths: Any) -> None:
    for path in paths if isinstance(paths, (list, tuple)) else [paths]:
        _say(f"wrote {path}")


def _set_threads(threads: int | None) -> None:
    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"threads is {threads}; accepted: an integer >= 1")
    import torch

    torch.set_num_threads(threads)


def _pairs(settings: Sequence[str], option: str = "--set") -> dict[str, str]:
    """Return {key: value} of "key=value" texts."""
    pairs: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ValueError(f"{option} got {setting!r}; accepted: KEY=VALUE")
        if key in pairs:
            raise ValueError(f"{option} got {key} twice; accepted: each key once")
        pairs[key] = value
    return pairs


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in _listed(text))
    except ValueError:
        raise ValueError(f"seeds is {text!r}; accepted: integers, such as 0,1,2") from None


def _workers(accelerator: str) -> int:
    """Return how many processes train well at a time: one a core, or one on the GPU."""
    import torch

    from pydisent.training.engine import cores

    return 1 if accelerator != "cpu" and torch.cuda.is_available() else cores()


def _engine(
    name: str, ray_address: str | None, runs: int, workers: int | None, accelerator: str
) -> "tuple[Engine, int]":
    """Return the engine for so many runs, and how many threads suit each of its processes."""
    from pydisent.training.engine import LocalEngine, cores

    if name == "local":
        if ray_address is not None:
            raise ValueError(f"ray_address is {ray_address!r}; accepted: with --engine ray alone")
        chosen = min(runs, _workers(accelerator)) if workers is None else workers
        return LocalEngine(chosen), max(1, cores() // chosen)
    from pydisent.training.ray_engine import RayEngine, joined

    elsewhere = joined(ray_address) is not None
    fitting = runs if elsewhere else min(runs, _workers(accelerator))
    chosen = fitting if workers is None else workers
    engine = RayEngine(chosen, ray_address, gpu=accelerator != "cpu")
    return engine, 1 if elsewhere else max(1, cores() // chosen)


def _new_plan(system: str, asked: dict[str, Any], settings: dict[str, str]) -> "Plan":
    from pydisent.training import Plan

    return Plan.from_preset(system, settings=settings, command=("pydisent", *sys.argv[1:]), **asked)


def _resumed_plan(
    folder: "RunFolder", system: str, asked: dict[str, Any], settings: dict[str, str]
) -> "Plan":
    """Return the plan of a run, having made sure that it is what is asked for."""
    from pydisent import systems
    from pydisent.training.plan import same_setting

    plan = folder.read_plan()
    changed = systems.override(plan.config, settings)
    kept = plan.to_json()
    for name, value in {"system": system, **asked}.items():
        value = str(value.absolute()) if isinstance(value, Path) else value
        if kept[name] != value:
            raise ValueError(_mismatch(folder.path, name, kept[name], value))
    for name, _, value in systems.describe(changed):
        if not same_setting(name, kept["config"][name], value):
            raise ValueError(_mismatch(folder.path, name, kept["config"][name], value))
    return plan


def _mismatch(path: Path, name: str, kept: Any, asked: Any) -> str:
    return (
        f"{path} was trained with {name} {kept}, not {asked}: a run can only be resumed as it "
        "was started"
    )


def _train(
    plan: "Plan",
    path: Path,
    **options: Any,
) -> None:
    """Train and say so; `options` are those of `pydisent.training.train`."""
    from pydisent.training import Interrupted, train

    _say(f"{plan.system} on {plan.data}, preset {plan.preset}, seed {plan.seed} -> {path}")
    try:
        train(plan, path, **options)
    except Interrupted:
        with suppress(OSError):  # the terminal may be what was closed
            _say(f"continue with: {command('train', plan.system, '--out', path, '--resume')}")
        raise


def _evaluate(
    run: "Run",
    metrics: Sequence[str],
    all_images: bool = False,
    perception: "Perception | None" = None,
) -> None:
    """Score `run` by `metrics`, or all that fit, and add the scores to it and its folder."""
    from pydisent.data import FactorDataset
    from pydisent.training import RunFolder
    from pydisent.training.scoring import MAX_IMAGES, applicable, score

    if not metrics and not isinstance(run.dataset, FactorDataset):
        _say(f"{run.dataset.name} has no ground-truth factors: no scores against them")
    chosen = metrics or applicable(run)
    _say(f"scoring {run.path}: {', '.join(chosen)}")
    folder = RunFolder(run.path)
    try:
        score(
            run,
            chosen,
            max_images=None if all_images else MAX_IMAGES,
            perception=perception,
            keep=folder.add_scores,
        )
    finally:
        run.scores = folder.read_scores()


def _show_scores(run: "Run") -> None:
    """Print a run's scores, if it has any, and draw its codes against the factors."""
    from pydisent.reports import write_matrices
    from pydisent.reports.matrices import matrices_of

    if run.scores:
        _print_scores([run])
    if matrices_of(run.scores, run.path / "scores.json"):
        _say_written(write_matrices(run, run.path / "figures"))


def _print_scores(runs: Sequence["Run"]) -> None:
    with optional():
        from rich.table import Table

    names = list(dict.fromkeys(name for run in runs for name in run.scores or {}))
    table = Table("", *(str(run.path) for run in runs), title="scores")
    for name in names:
        found = [(run.scores or {}).get(name) for run in runs]
        table.add_row(name, *(f"{s['score']:.4f}" if s else "–" for s in found))
    _say(table)
    for remark in _remarks(runs):
        _say(remark)


def _remarks(runs: Sequence["Run"]) -> list[str]:
    """Return which nets looked at images, and what a reader of their figures must know."""
    made: dict[str, list[str]] = {}
    notices: dict[str, None] = {}
    for run in runs:
        for name, entry in (run.scores or {}).items():
            details = entry.get("details", {})
            if (net := details.get("distance")) is not None:
                made.setdefault(net, []).append(name)
            if (notice := details.get("notice")) is not None:
                notices[notice] = None
    return [f"by {net}: {', '.join(dict.fromkeys(names))}" for net, names in made.items()] + [
        *notices
    ]


def _compare(runs: Sequence[Path], out: Path, udr: bool = False) -> None:
    with optional():
        from rich.table import Table

    from pydisent.reports import compare, write_comparison

    comparison = compare(runs)
    if udr:
        from pydisent.reports.ranking import with_udr

        comparison = with_udr(comparison)
    title = f"{comparison.data}: mean ± standard deviation over seeds (n)"
    table = Table(*comparison.header, title=title)
    for row in comparison.rows():
        table.add_row(*row)
    _say(table, whole=True)
    for remark in comparison.remarks():
        _say(remark)
    _say_written(write_comparison(comparison, out))


def _list_settings(system: str) -> None:
    with optional():
        from rich.table import Table

    from pydisent import systems

    presets = [systems.preset(system, p, "sprites").config for p in systems.PRESETS]
    columns = [systems.describe(config) for config in presets]
    table = Table("setting", "type", *systems.PRESETS, title=f"{system}: set with --set")
    for rows in zip(*columns):
        table.add_row(*rows[0][:2], *(str(value) for _, _, value in rows))
    _say(table)
