"""The commands that draw pictures of runs."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from pydisent._checks import check_int64, check_number
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
    """Draw images along each coordinate of a run's code, and the codes' masks, if any.

    Parameters
    ----------
    run : Path
        The run folder.
    out : Path
        Folder for the pictures; RUN/figures by default.
    sort : str
        tpl: by perceptual length of the traversals, longest first, measured if not among the run's
        scores; code: in the order of the code; auto: by length if it is known and no penalty
        aligns the first coordinates.
    origin : str
        prior: start from random codes; data: from the codes of images of the data.
    split : str
        With --from data: train, or auto: images that training saw; test: images that it did not.
    accelerator : str
        cpu, cuda, mps, or auto for the GPU if there is one.
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
        Folder for the pictures; RUN/figures by default.
    codes : tuple of str
        Coordinates copied in each picture, separated by commas; by default the three with the
        longest traversals, one per picture, measured if not among the run's scores.
    origin : str
        prior: generated images; data: images of the data, encoded.
    sources : int
        Number of images to change.
    attributes : int
        Number of images that provide the attributes.
    split : str
        With --from data: train, or auto: images that training saw; test: images that it did not.
    seed : int
        Seed of the images.
    accelerator : str
        cpu, cuda, mps, or auto for the GPU if there is one.
    """
    check_int64("seed", seed, at_least=0)
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
    """Plot the perceptual distance along an axis while it rotates in a plane (Zhu, Fig. 3 d).

    Parameters
    ----------
    run : Path
        The run folder.
    out : Path
        Folder for the plot; RUN/figures by default.
    codes : str
        The two coordinates of the plane; by default those with the longest traversals, measured if
        not among the run's scores.
    seed : int
        Seed of the code, whose other coordinates stay fixed.
    accelerator : str
        cpu, cuda, mps, or auto for the GPU if there is one.
    """
    check_int64("seed", seed, at_least=0)
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
        Which eigenvectors to follow; 1 is the leading one.
    steps : int
        N, the number of steps along each path.
    alpha : float
        Length of a step.
    rho : float
        Decay in [0, 1): how much a step keeps the direction of the previous one.
    bases : int
        Number of codes that paths start from.
    shown : int
        Number of evenly spaced points drawn along a path; 11 by default.
    epsilon : tuple of float
        Also draw the spectra, and steps of these lengths along eigenvectors and along random
        directions (Fig. 13).
    directions : int
        Number of directions of each kind.
    seed : int
        Seed of the codes and the random directions.
    out : Path
        Folder for the pictures; RUN/figures by default.
    accelerator : str
        cpu, cuda, mps, or auto for the GPU if there is one.
    """
    check_number("alpha", alpha, above=0)
    check_number("rho", rho, at_least=0, below=1)
    for distance in epsilon:
        check_number("epsilon", distance, above=0)
    check_int64("seed", seed, at_least=0)
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
        Run folders, or sweep folders for all of their runs.
    out : Path
        Folder for the page; by default the folder report in the first run, or in the sweep if only
        one sweep is given.
    split : str
        Images to reconstruct: train: those that training saw; test: those that it did not; auto:
        unseen ones if there are any.
    accelerator : str
        cpu, cuda, mps, or auto for the GPU if there is one.
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
