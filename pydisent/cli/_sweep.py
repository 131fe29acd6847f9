"""The command that trains and scores a grid of runs."""

from pathlib import Path
from typing import Annotated, Literal

from pydisent.cli._arguments import key_values, listed, seed_list
from pydisent.cli._engines import engine_for
from pydisent.cli._output import fail, say
from pydisent.cli._tables import print_comparison
from pydisent.cli._tyro import Positional, arg


def sweep(
    systems: Positional[str],
    out: Path,
    grid: Annotated[tuple[str, ...], arg(metavar="[SYSTEM.]KEY=V1,V2 ...")] = (),
    seeds: str = "0",
    data: str | None = None,
    data_path: Path | None = None,
    factors: Path | None = None,
    bins: int | None = None,
    partial: bool = False,
    image_size: int | None = None,
    split: str | None = None,
    crop: int | None = None,
    mirror: bool | None = None,
    preset: str = "quick",
    steps: int | None = None,
    metrics: tuple[str, ...] = (),
    score_every: int | None = None,
    workers: int | None = None,
    threads: int | None = None,
    accelerator: str = "auto",
    engine: Literal["local", "ray"] = "local",
    ray_address: str | None = None,
) -> None:
    """Train and score a grid of systems, settings and seeds in parallel, and compare the runs.

    Started again, it skips finished runs, resumes interrupted ones and retries failed ones. A run
    whose process is killed, for example for lack of memory, resumes automatically from its last
    checkpoint, three times in all.

    Parameters
    ----------
    systems : str
        Names of systems, separated by commas.
    out : Path
        Folder of the sweep: one folder per run, sweep.json and the comparison.
    grid : tuple of str
        Values of settings, run in all combinations. SYSTEM.KEY applies only to that system.
    seeds : str
        Seeds of each combination, separated by commas.
    data : str
        Data set of all runs; by default the systems' own, if they share it.
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
    preset : str
        smoke, quick or paper.
    steps : int
        Updates per run; the preset's by default.
    metrics : tuple of str
        Metrics of each run; all that apply to its data and system by default.
    score_every : int
        Number of updates between scores in training by these metrics, which are logged.
    workers : int
        Concurrent processes; by default one per CPU core, or 1 on a GPU; on an existing Ray
        cluster, as many as its CPU cores and GPUs allow.
    threads : int
        CPU threads per process; by default the cores divided by the workers, or 1 on an existing
        Ray cluster.
    accelerator : str
        cpu, cuda, mps or auto.
    engine : str
        local: processes on this machine; ray: a Ray cluster, started on this machine for the
        duration of the sweep unless an address is given. Its machines must share the folders of
        the sweep and the data, and have pydisent installed.
    ray_address : str
        The Ray cluster to join: HOST:PORT, ray://HOST:PORT or auto; RAY_ADDRESS by default.
    """
    from pydisent.sweeps import SweepPlan, common_data, run_sweep

    plan = SweepPlan(
        systems=listed(systems),
        data=data or common_data(listed(systems)),
        data_path=None if data_path is None else str(data_path.absolute()),
        factors=None if factors is None else str(factors.absolute()),
        bins=bins,
        partial=partial,
        image_size=image_size,
        split=split,
        crop=crop,
        mirror=mirror,
        preset=preset,
        steps=steps,
        grid={key: listed(values) for key, values in key_values(grid, "--grid").items()},
        seeds=seed_list(seeds),
    )
    chosen, suited = engine_for(engine, ray_address, len(plan.runs()), workers, accelerator)
    states = run_sweep(
        plan,
        out,
        engine=chosen,
        metrics=metrics,
        score_every=score_every,
        accelerator=accelerator,
        threads=suited if threads is None else threads,
        say=say,
    )
    if done := [out / name for name, state in states.items() if state == "done"]:
        print_comparison(done, out / "comparison")
    if failed := [name for name, state in states.items() if state != "done"]:
        raise SystemExit(
            fail(f"{len(failed)} of {len(states)} runs failed: {', '.join(failed)}", 1)
        )
