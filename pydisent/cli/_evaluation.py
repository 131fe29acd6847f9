"""The commands that score and rank runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydisent.cli._arguments import set_threads
from pydisent.cli._output import say, say_table, say_written
from pydisent.cli._tables import print_comparison, show_scores
from pydisent.cli._tyro import Positional

if TYPE_CHECKING:
    from pydisent.training import Run
    from pydisent.training.perception import Perception


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

    set_threads(threads)
    opened = open_run(run)
    perception = Perception(vgg16, lpips, inception, threshold)
    try:
        _evaluate(opened, metrics, all_images, perception)
    except MetricsFailedError:
        show_scores(opened)  # what could be scored
        raise
    show_scores(opened)


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
    print_comparison(runs, out or (runs[0] if swept else runs[0].parent) / "comparison", udr)


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
    from pydisent.reports.selection import select as rank
    from pydisent.reports.selection import write_selection
    from pydisent.training.perception import Perception

    set_threads(threads)
    perception = Perception(vgg16, lpips, threshold=threshold)
    selection = rank(folder, active=active, perception=perception, again=again, say=say)
    say_table(selection.header, selection.rows(), title="lower TPL is better", whole=True)
    for remark in selection.remarks():
        say(remark)
    say_written(write_selection(selection))


def _evaluate(
    run: "Run",
    metrics: Sequence[str],
    all_images: bool,
    perception: "Perception",
) -> None:
    """Score `run` by `metrics`, or all that fit, and add the scores to it and its folder."""
    from pydisent.data import FactorDataset
    from pydisent.training import RunFolder
    from pydisent.training.scoring import MAX_IMAGES, applicable, score

    if not metrics and not isinstance(run.dataset, FactorDataset):
        say(f"{run.dataset.name} has no ground-truth factors: no scores against them")
    chosen = metrics or applicable(run)
    say(f"scoring {run.path}: {', '.join(chosen)}")
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
