"""The command that trains one run."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydisent._checks import check
from pydisent._terminal import command
from pydisent.cli._arguments import key_values, set_threads
from pydisent.cli._output import say
from pydisent.cli._plans import chosen_run
from pydisent.cli._tyro import Positional, arg

if TYPE_CHECKING:
    from pydisent.training import Plan, RunFolder
    from pydisent.training.loop import Measure


def train(
    system: Positional[str | None] = None,
    preset: str | None = None,
    data: str | None = None,
    data_path: Path | None = None,
    factors: Path | None = None,
    bins: int | None = None,
    partial: bool = False,
    image_size: int | None = None,
    split: str | None = None,
    crop: int | None = None,
    mirror: bool | None = None,
    plan: Path | None = None,
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
    score_every: int | None = None,
    metrics: Annotated[tuple[str, ...], arg(metavar="METRIC ...")] = (),
) -> None:
    """Train a system into a run folder.

    Parameters
    ----------
    system : str
        Name of the system; `pydisent list` shows all.
    preset : str
        smoke (seconds), quick (minutes; the default) or paper.
    data : str
        Data set; the system's own by default. `pydisent list` shows all.
    data_path : Path
        The data set's file or folder.
    factors : Path
        For images: a CSV file with one row per picture and one column per factor.
    bins : int
        Number of equal-count bins for a quantitative factor, 10 by default.
    partial : bool
        For celeba and ffhq, accept an incomplete folder of pictures; for images, take only the
        pictures that have a row in the table of factors.
    image_size : int
        Side of the images in pixels; the preset's by default.
    split : str
        The part of the data to train on, such as train or all; the preset's by default.
    crop : int
        For celeba: side in pixels of the square cut out of each picture; the preset's by default.
    mirror : bool
        Whether to mirror the images at random; as in the preset by default.
    plan : Path
        A file with the whole plan, such as another run's config.json, in place of the system and
        its options.
    out : Path
        The run folder; runs/SYSTEM-DATA-PRESET-SEED by default.
    seed : int
        Determines the run bit for bit for a given machine, thread count and number of devices; 0
        by default.
    steps : int
        Updates of the system; the preset's by default.
    settings : tuple of str
        Settings of the system; `pydisent list SYSTEM` shows all.
    resume : bool
        Continue the run in the folder from its last checkpoint, or start it if there is none.
    overwrite : bool
        Delete the run in the folder first.
    threads : int
        CPU threads per process; a resumed run keeps its number by default.
    accelerator : str
        cpu, cuda, mps or auto.
    devices : int
        Number of devices that share every batch, each with its own process; by default the number
        started by torchrun, or that of the resumed run, or 1. Results agree up to rounding.
    cuda_graphs : bool
        Replay steps as CUDA graphs if the system supports it: fewer, larger launches. With the
        alignment penalty, spectral-gan needs a `rank` for it.
    timeout : float
        Seconds to wait for a device that does not respond; half an hour by default.
    score_every : int
        Number of updates between scores in training, which are logged as score/METRIC; training is
        the same with and without them.
    metrics : tuple of str
        The metrics of these scores; METRIC/DETAIL for a figure in a score's details.
    """
    set_threads(threads)
    given = {
        "preset": preset,
        "data": data,
        "data_path": data_path,
        "factors": factors,
        "bins": bins,
        "partial": partial or None,
        "image_size": image_size,
        "split": split,
        "crop": crop,
        "mirror": mirror,
        "seed": seed,
        "steps": steps,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    chosen, folder = chosen_run(system, asked, key_values(settings, "--set"), plan, out, resume)
    if resume and folder.is_run():
        threads, devices = _as_before(folder, threads, devices)
    _train(
        chosen,
        folder.path,
        resume=resume,
        overwrite=overwrite,
        accelerator=accelerator,
        devices=devices,
        threads=threads,
        cuda_graphs=cuda_graphs,
        timeout=timeout,
        measure=_figures(chosen, folder, score_every, metrics),
        measure_every=score_every,
    )
    path = folder.path
    say(f"trained: {path}  (next: {command('evaluate', path)}; {command('report', path)})")


def _figures(
    plan: "Plan", folder: "RunFolder", every: int | None, metrics: tuple[str, ...]
) -> "Measure | None":
    """Return what is measured in training; ValueError if only one of the options is given."""
    if every is None and not metrics:
        return None
    from pydisent.evaluation.during_training import figures_of

    check(
        every is not None and every >= 1, "--score-every", "an integer >= 1, with --metrics", every
    )
    return figures_of(plan, folder, metrics)


def _as_before(
    folder: "RunFolder", threads: int | None, devices: int | None
) -> tuple[int | None, int | None]:
    """Return the threads and devices of a resumed run: different ones would round differently."""
    from pydisent.training.processes import torchrun_processes

    before = folder.read_environment() if folder.environment.exists() else {}
    if devices is None:
        devices = torchrun_processes() or before.get("devices")
    return threads or before.get("threads"), devices


def _train(plan: "Plan", path: Path, **options: Any) -> None:
    """Train with progress messages; `options` are those of `pydisent.training.train`."""
    from pydisent.training import Interrupted, train

    say(f"{plan.system} on {plan.data}, preset {plan.preset}, seed {plan.seed} -> {path}")
    if remark := plan.remark():
        say(f"preset {plan.preset}: {remark}")
    try:
        train(plan, path, **options)
    except Interrupted:
        with suppress(OSError):  # the terminal may be closed
            say(f"continue with: {command('train', plan.system, '--out', path, '--resume')}")
        raise
