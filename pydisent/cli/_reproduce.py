"""The command that reproduces tables and figures of the papers."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydisent._checks import check, check_one_of
from pydisent.cli._arguments import key_values, seed_list
from pydisent.cli._engines import engine_for
from pydisent.cli._output import fail, say, say_table
from pydisent.cli._tyro import Positional, arg

if TYPE_CHECKING:
    from pydisent.reproduce import Scale


def reproduce(
    entries: Positional[tuple[str, ...]] = (),
    scale: Literal["smoke", "small", "paper"] = "small",
    out: Path = Path("runs/reproduce"),
    official: Annotated[tuple[str, ...], arg(metavar="DATA=PATH ...")] = (),
    seeds: str = "0",
    records: Path | None = None,
    missing: bool = True,
    workers: int | None = None,
    threads: int | None = None,
    accelerator: str = "auto",
    engine: Literal["local", "ray"] = "local",
    ray_address: str | None = None,
    vgg16: Path | None = None,
    lpips: Path | None = None,
    inception: Path | None = None,
    threshold: float | None = None,
) -> None:
    """Reproduce tables and figures of the papers, with the published figures beside ours.

    Without entries, all are listed. Models are trained in parallel, then scored. Started again, it
    keeps finished runs and resumes interrupted ones. Each entry's page and result.json are in
    OUT/SCALE/ENTRY.

    Parameters
    ----------
    entries : tuple of str
        Entries such as kumar/table1, or a paper for all of its tables and figures.
    scale : str
        smoke (seconds), small (minutes per run, on built-in data in place of the official files)
        or paper (the papers' models and updates, on the official files).
    out : Path
        Folder for all entries and scales.
    official : tuple of str
        Official data files by name, to replace the built-in data.
    seeds : str
        Seeds of each model, separated by commas.
    records : Path or None
        Folder in which each run is recorded as it ends; recorded runs are not trained again, so
        several machines can share a study.
    missing : bool
        Train missing runs; with --no-missing, write pages from the existing ones.
    workers, threads, accelerator, engine, ray_address
        As for sweep.
    vgg16, lpips, inception, threshold
        As for evaluate.
    """
    from pydisent.reproduce import Scale, Training, find
    from pydisent.reproduce import reproduce as make
    from pydisent.sweeps.engine import RunsFailedError

    if records is not None:
        reads = not missing or not entries  # only writing a record would create the folder
        there = records.is_dir() or not (reads or records.exists())
        check(there, "records", "an existing folder" if reads else "a folder", records)
    paths = {name: Path(path) for name, path in key_values(official, "--official").items()}
    chosen_scale = Scale(scale, seed_list(seeds), paths)
    if not entries:
        _list(chosen_scale, out, records)
        return
    chosen = tuple({entry.name: entry for name in entries for entry in find(name)}.values())
    used = {case.data for entry in chosen for case in entry.cases}
    for name in paths:
        check_one_of("official", name, tuple(sorted(used)))
    count = len(chosen_scale.seeds) * sum(len(case.rows) for e in chosen for case in e.cases)
    runner, suited = engine_for(engine, ray_address, max(1, count), workers, accelerator)
    nets = {"vgg16": vgg16, "lpips": lpips, "inception": inception, "threshold": threshold}
    options = [
        word
        for name, value in nets.items()
        if value is not None
        for word in (f"--{name}", str(value))
    ]
    if scale == "paper":
        options.append("--published")
    training = Training(
        runner, accelerator, suited if threads is None else threads, tuple(options), say, missing
    )
    try:
        command = " ".join(["pydisent", *sys.argv[1:]])
        make(chosen, chosen_scale, out, training, command, records)
    except RunsFailedError as error:
        raise SystemExit(fail(str(error), 1)) from None


def _list(scale: "Scale", out: Path, records: Path | None) -> None:
    """Print all entries with their requirements and state, and what cannot be reproduced."""
    from pydisent.reproduce import Reproduction, entries, unavailable
    from pydisent.reproduce.entry import STAND_INS
    from pydisent.reproduce.estimate import gpu_hours

    rows = []
    for entry in entries():
        data = [f"{case.data} ({STAND_INS.get(case.data, 'no stand-in')})" for case in entry.cases]
        rows.append(
            [
                entry.name,
                entry.title,
                ", ".join(data),
                f"{gpu_hours(entry):,.0f}",
                Reproduction(entry, scale, out, records).state(),
            ]
        )
    head = ("entry", "title", "data (built-in stand-in)", "GPU hours", f"at {scale.name}")
    say_table(head, rows, title="GPU hours are rough estimates of scale paper, all seeds")
    for part in unavailable():
        say(f"not possible: {part.name}, {part.title}: {part.reason}")
