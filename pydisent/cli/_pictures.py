"""The commands that draw pictures of runs."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from pydisent.cli._arguments import listed, opened
from pydisent.cli._output import say_written
from pydisent.cli._tyro import Positional, arg


def traverse(
    run: Positional[Path],
    out: Path | None = None,
    sort: Literal["auto", "tpl", "code"] = "auto",
    origin: Annotated[Literal["prior", "data"], arg(name="from")] = "prior",
    split: Literal["auto", "train", "test"] = "auto",
    accelerator: str = "auto",
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
    origin : str
        prior: from codes drawn at random; data: from those of images of the data, encoded.
    split : str
        With --from data: of images that training saw, as auto is, or test: that it did not.
    accelerator : str
        cpu, cuda, mps or auto: the GPU where there is one.
    """
    shown, folder = opened(run, accelerator), out or run / "figures"
    from pydisent.evaluation.masks import has_masks
    from pydisent.reports import write_masks, write_traversals

    say_written(write_traversals(shown, folder, sort=sort, origin=origin, split=split))
    if has_masks(shown):
        say_written(write_masks(shown, folder))


def transfer(
    run: Positional[Path],
    out: Path | None = None,
    codes: Annotated[tuple[str, ...], arg(metavar="NAME[,NAME...] ...")] = (),
    origin: Annotated[Literal["prior", "data"], arg(name="from")] = "prior",
    sources: int = 7,
    attributes: int = 4,
    split: Literal["auto", "train", "test"] = "auto",
    seed: int = 0,
    accelerator: str = "auto",
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
    split : str
        With --from data: of images that training saw, as auto is, or test: that it did not.
    seed : int
        Of the images.
    accelerator : str
        cpu, cuda, mps or auto: the GPU where there is one.
    """
    shown = opened(run, accelerator)
    from pydisent.reports import write_transfer

    groups = [listed(group) for group in codes] or None
    say_written(
        write_transfer(
            shown,
            out or run / "figures",
            coordinates=groups,
            origin=origin,
            sources=sources,
            attributes=attributes,
            seed=seed,
            split=split,
        )
    )


def rotate(
    run: Positional[Path],
    out: Path | None = None,
    codes: Annotated[str | None, arg(metavar="NAME,NAME")] = None,
    seed: int = 0,
    accelerator: str = "auto",
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
    accelerator : str
        cpu, cuda, mps or auto: the GPU where there is one.
    """
    shown = opened(run, accelerator)
    from pydisent.reports import write_rotation

    chosen = None if codes is None else listed(codes)
    say_written(write_rotation(shown, out or run / "figures", coordinates=chosen, seed=seed))


def trace(
    run: Positional[Path],
    ordinals: tuple[int, ...] = (1, 2, 3),
    steps: int = 200,
    alpha: float = 1.5e-2,
    rho: float = 0.0,
    bases: int = 3,
    shown: int | None = None,
    epsilon: tuple[float, ...] = (),
    directions: int = 13,
    seed: int = 0,
    out: Path | None = None,
    accelerator: str = "auto",
) -> None:
    """Draw images along paths that follow the generator's eigenvectors (Ramesh et al., Alg. 1).

    Parameters
    ----------
    run : Path
        The run folder.
    ordinals : tuple of int
        Which eigenvectors, 1 the leading one.
    steps : int
        N, the steps along each path.
    alpha : float
        The length of a step.
    rho : float
        The decay, from 0 to below 1: how far a step keeps the direction of the one before.
    bases : int
        Number of codes that paths start from.
    shown : int
        How many points of a path are drawn, evenly spaced; 11 by default.
    epsilon : tuple of float
        Also draw the spectra, and steps of these lengths along eigenvectors and along random
        directions (Fig. 13).
    directions : int
        How many of each.
    seed : int
        Of the codes and the random directions.
    out : Path
        Folder of the pictures; RUN/figures by default.
    accelerator : str
        cpu, cuda, mps or auto: the GPU where there is one.
    """
    traced, folder = opened(run, accelerator), out or run / "figures"
    from pydisent.reports import write_eigenpaths, write_local_svd

    written = write_eigenpaths(
        traced,
        folder,
        ordinals=ordinals,
        steps=steps,
        step_size=alpha,
        decay=rho,
        shown=shown,
        bases=bases,
        seed=seed,
    )
    say_written(written)
    if epsilon:
        say_written(
            write_local_svd(
                traced,
                folder,
                distances=epsilon,
                directions=directions,
                bases=min(2, bases),
                seed=seed,
            )
        )


def report(
    runs: Positional[tuple[Path, ...]],
    out: Path | None = None,
    split: Literal["auto", "train", "test"] = "auto",
    accelerator: str = "auto",
) -> None:
    """Write one HTML page about a run, or comparing several.

    Parameters
    ----------
    runs : tuple of Path
        The run folders, or folders of sweeps for all of their runs.
    out : Path
        Folder of the page; by default the folder report of the first run, or of the sweep if it is
        given alone.
    split : str
        Of which images reconstructions are: train: that training saw; test: that it did not; auto:
        of those if there are any.
    accelerator : str
        cpu, cuda, mps or auto: the GPU where there is one.
    """
    from pydisent.evaluation.comparison import run_folders
    from pydisent.reports import write_report

    folders = list(run_folders(runs))
    if not folders:
        raise ValueError("runs must be at least one run folder, got none")
    shown = [opened(folder, accelerator) for folder in folders]
    if out is None and len(runs) == 1 and runs[0] != folders[0]:
        out = runs[0] / "report"
    say_written(write_report(shown, out, ["pydisent", *sys.argv[1:]], split=split))
