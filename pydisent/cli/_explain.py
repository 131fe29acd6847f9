"""The command that explains what a run's generator does."""

from pathlib import Path
from typing import Annotated, Literal

from pydisent._checks import check_integer, check_number
from pydisent.cli._arguments import key_values, opened, set_threads
from pydisent.cli._output import progress_bars, say, say_written
from pydisent.cli._tyro import Positional, arg


def explain(
    run: Positional[Path],
    out: Path | None = None,
    codes: int = 64,
    k: int | None = None,
    region: Annotated[tuple[str, ...], arg(metavar="NAME=TOP,LEFT,BOTTOM,RIGHT ...")] = (),
    region_nullspace: int = 0,
    points: int = 4,
    paths: int = 3,
    length: float | None = None,
    method: Literal["auto", "exact", "subspace"] = "auto",
    time_limit: float = 240.0,
    memory_limit: float | None = None,
    seed: int = 0,
    accelerator: str = "auto",
    threads: int | None = None,
) -> None:
    """Write an HTML page, and arrays, on what a run's generator does: its directions, ranked.

    Parameters
    ----------
    run : Path
        The run folder.
    out : Path
        Folder for the page and arrays.npz; RUN/explanation by default.
    codes : int
        Number of random codes over which directions are averaged.
    k : int
        Number of directions; 8, or the code's size, by default.
    region : tuple of str
        Boxes of pixels, to find the directions that act there.
    region_nullspace : int
        With region: take its directions orthogonal to this many that change the rest of the image
        most.
    points : int
        Number of codes from which pictures are drawn.
    paths : int
        Number of eigenpaths drawn; 0 for none.
    length : float
        The longest step in the pictures along each direction; by default chosen by how much it
        changes.
    method : str
        exact: all of J'J; subspace: only its leading directions; auto: exact if that takes little
        of the time.
    time_limit : float
        Seconds; the page says what was left out for lack of time.
    memory_limit : float
        GiB for computations besides the generator.
    seed : int
        Seed of the codes.
    accelerator : str
        cpu, cuda, mps, or auto for the GPU if there is one.
    threads : int
        CPU threads.
    """
    set_threads(threads)
    check_integer("codes", codes, at_least=1)
    if memory_limit is not None:
        check_number("memory_limit", memory_limit, above=0)
    regions = {name: _box(name, box) for name, box in key_values(region, "region").items()}
    shown = opened(run, accelerator)
    from pydisent.reports import explain as explained
    from pydisent.reports.files import check_folder

    folder = out or run / "explanation"
    check_folder(folder)
    names = list(shown.system.code_names)
    with progress_bars() as progress:
        found = explained(
            shown.system,
            codes,
            k=k,
            regions=regions or None,
            region_nullspace=region_nullspace,
            title=f"{shown.system.name} on {shown.plan.data}",
            names=names,
            progress=progress,
            points=points,
            paths=paths,
            length=length,
            value_range=(0.0, 1.0),
            method=method,
            time_limit=time_limit,
            memory_limit=None if memory_limit is None else int(memory_limit * 2**30),
            seed=seed,
        )
    for note in found.notes:
        say(note)
    say_written(found.save(folder))


def _box(name: str, text: str) -> tuple[int, ...]:
    try:
        top, left, bottom, right = map(int, text.split(","))
    except ValueError:
        raise ValueError(f"region must be NAME=TOP,LEFT,BOTTOM,RIGHT, got {name}={text}") from None
    return top, left, bottom, right
