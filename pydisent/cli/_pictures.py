"""The commands that draw pictures of runs."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from pydisent.cli._arguments import listed
from pydisent.cli._output import say_written
from pydisent.cli._tyro import Positional, arg


def traverse(
    run: Positional[Path],
    out: Path | None = None,
    sort: Literal["auto", "tpl", "code"] = "auto",
) -> None:
    """Draw images along each coordinate of a run's code, and the masks of the codes, if any.

    Parameters
    ----------
    run : Path
        The run folder.
    out : Path
        Folder of the pictures; RUN/figures by default.
    sort : str
        tpl: by the perceptual length of the traversals, the longest first, measured if it is not
        among the run's scores; code: in the order of the code; auto: by length if it is known and
        no penalty aligns the first coordinates.
    """
    from pydisent.training import open_run

    opened, folder = open_run(run), out or run / "figures"
    from pydisent.evaluation.masks import has_masks
    from pydisent.reports import write_masks, write_traversals

    say_written(write_traversals(opened, folder, sort=sort))
    if has_masks(opened):
        say_written(write_masks(opened, folder))


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
        Folder of the pictures; RUN/figures by default.
    codes : tuple of str
        The coordinates copied in each picture, separated by commas; by default the three with the
        longest traversals, one per picture, measured if that is not among the run's scores.
    origin : str
        prior: generated images; data: images of the data, encoded.
    sources : int
        Number of images that are changed.
    attributes : int
        Number of images that provide the attributes.
    seed : int
        Of the images.
    """
    from pydisent.training import open_run

    opened = open_run(run)
    from pydisent.reports import write_transfer

    groups = [listed(group) for group in codes] or None
    say_written(
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
        Folder of the plot; RUN/figures by default.
    codes : str
        The two coordinates; by default those with the longest traversals, measured if that is not
        among the run's scores.
    seed : int
        Of the code whose other coordinates stay fixed.
    """
    from pydisent.training import open_run

    opened = open_run(run)
    from pydisent.reports import write_rotation

    chosen = None if codes is None else listed(codes)
    say_written(write_rotation(opened, out or run / "figures", coordinates=chosen, seed=seed))


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
        Folder of the pictures; RUN/figures by default.
    """
    from pydisent.training import open_run

    opened = open_run(run)
    from pydisent.reports import write_eigenpaths

    say_written(write_eigenpaths(opened, out or run / "figures", ordinals=ordinals, steps=steps))


def report(runs: Positional[tuple[Path, ...]], out: Path | None = None) -> None:
    """Write one HTML page about a run, or comparing several.

    Parameters
    ----------
    runs : tuple of Path
        The run folders.
    out : Path
        Folder of the page; the folder report of the first run by default.
    """
    from pydisent.training import open_run

    if not runs:
        raise ValueError("runs must be at least one run folder, got none")
    opened = [open_run(run) for run in runs]
    from pydisent.reports import write_report

    say_written(write_report(opened, out, ["pydisent", *sys.argv[1:]]))
