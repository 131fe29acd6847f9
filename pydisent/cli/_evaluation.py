"""The commands that score, compare and rank runs."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydisent.cli._arguments import opened, set_threads
from pydisent.cli._output import progress_bars, say, say_table, say_written
from pydisent.cli._tables import print_comparison, show_scores
from pydisent.cli._tyro import Positional

if TYPE_CHECKING:
    from pydisent.training import Run


def evaluate(
    run: Positional[Path],
    metrics: tuple[str, ...] = (),
    all_images: bool = False,
    split: Literal["auto", "train", "test"] = "auto",
    published: bool = False,
    vgg16: Path | None = None,
    lpips: Path | None = None,
    inception: Path | None = None,
    threshold: float | None = None,
    accelerator: str = "auto",
    threads: int | None = None,
) -> None:
    """Score a run: print a table, write its scores.json, and draw codes against factors.

    Parameters
    ----------
    run : Path
        The run folder.
    metrics : tuple of str
        Metrics to measure; by default all that apply to the run's data and system, except variants
        of others such as sap-kumar or z-diff-ramesh.
    all_images : bool
        Draw from all images of the factor grid instead of 100 000.
    split : str
        test: images that training did not see, held out or from the official test set; train:
        those it saw; auto: the latter, except for reconstruction errors and attributes, which use
        unseen images if there are any. Class swaps and attribute flips always use unseen images.
    published : bool
        Measure tpl, ppl and fid on as many images as the published figures: 300 traversals, of 50
        segments for VAEs, 50 000 pairs and 50 000 images; takes hours without a GPU.
    vgg16 : Path
        VGG16 weights with torchvision's names, .pth or .safetensors, for tpl and ppl; by default a
        fixed random net, whose scores are comparable only with each other.
    lpips : Path
        LPIPS channel weights for VGG16.
    inception : Path
        Inception-v3 weights, from pytorch-fid or torchvision, for fid; the fixed net by default.
    threshold : float
        The length from which tpl considers a dimension active; required with --vgg16.
    accelerator : str
        cpu, cuda, mps, or auto for the GPU if there is one.
    threads : int
        CPU threads.
    """
    from pydisent.evaluation.perception import Perception
    from pydisent.evaluation.scoring import MAX_IMAGES, MetricsFailedError

    set_threads(threads)
    scored = opened(run, accelerator)
    options = {
        "max_images": None if all_images else MAX_IMAGES,
        "perception": Perception(vgg16, lpips, inception, threshold),
        "split": split,
        "published": published,
    }
    try:
        _evaluate(scored, metrics, options)
    except MetricsFailedError:
        show_scores(scored)  # from the other metrics
        raise
    show_scores(scored)


def compare(
    runs: Positional[tuple[Path, ...]],
    out: Path | None = None,
    udr: bool = False,
    accelerator: str = "auto",
) -> None:
    """Compare scores over seeds, in tables and against the reconstruction error (Kumar, Fig. 1).

    Parameters
    ----------
    runs : tuple of Path
        Run folders, or sweep folders for all of their runs.
    out : Path
        Folder for the tables and the picture; by default the folder comparison beside the first
        run, or in the sweep's folder if only one sweep is given.
    udr : bool
        Also measure the agreement of runs that differ only in their seeds (UDR); this opens them
        and encodes 1000 images with each.
    accelerator : str
        Device for UDR: cpu, cuda, mps, or auto for the GPU if there is one.
    """
    if not runs:
        raise ValueError("runs must be at least one run folder, got none")
    swept = len(runs) == 1 and (runs[0] / "sweep.json").exists()
    folder = out or (runs[0] if swept else runs[0].parent) / "comparison"
    from pydisent.reports.files import check_folder

    check_folder(folder)
    print_comparison(runs, folder, udr, accelerator)


def select(
    folder: Positional[Path],
    active: int = 1,
    vgg16: Path | None = None,
    lpips: Path | None = None,
    threshold: float | None = None,
    again: bool = False,
    accelerator: str = "auto",
    threads: int | None = None,
) -> None:
    """Rank all finished runs below a folder by TPL, without ground truth (Zhu et al.).

    The lowest TPL is best. Runs without one are scored first.

    Parameters
    ----------
    folder : Path
        Searched for runs at any depth; selection.json is written there.
    active : int
        Runs with fewer active dimensions get no rank: a run that encodes little has short
        traversals.
    vgg16 : Path
        VGG16 weights for scoring; see evaluate.
    lpips : Path
        LPIPS channel weights for VGG16.
    threshold : float
        The length from which a dimension is active; required with --vgg16.
    again : bool
        Score all runs again.
    accelerator : str
        cpu, cuda, mps, or auto for the GPU if there is one.
    threads : int
        CPU threads.
    """
    from pydisent.evaluation.devices import device_of
    from pydisent.evaluation.perception import Perception
    from pydisent.evaluation.selection import select as rank
    from pydisent.evaluation.selection import write_selection

    set_threads(threads)
    perception = Perception(vgg16, lpips, threshold=threshold)
    selection = rank(
        folder,
        active=active,
        perception=perception,
        again=again,
        device=device_of(accelerator),
        say=say,
    )
    say_table(selection.header, selection.rows(), title="lower TPL is better", whole=True)
    for remark in selection.remarks():
        say(remark)
    say_written(write_selection(selection))


def _evaluate(run: "Run", metrics: Sequence[str], options: dict[str, Any]) -> None:
    """Score a run by the given metrics, or all that apply; add the scores to it and its folder.

    The options are those of `pydisent.evaluation.score`.
    """
    from pydisent.data import FactorDataset, ObservedFactorDataset
    from pydisent.evaluation.scoring import applicable, score
    from pydisent.training import RunFolder

    if not metrics and not isinstance(run.dataset, FactorDataset | ObservedFactorDataset):
        but = ""
        if run.dataset.attributes is not None:
            but = " unless they are named: they treat its attributes as factors"
        say(f"{run.dataset.name} has no ground-truth factors: no scores against them{but}")
    chosen = metrics or applicable(run)
    say(f"scoring {run.path}: {', '.join(chosen)}")
    folder = RunFolder(run.path)
    try:
        with progress_bars() as progress:
            keep = partial(folder.add_scores, step=run.step)
            score(run, chosen, keep=keep, progress=progress, **options)
    finally:
        run.scores = folder.read_scores(run.step)
