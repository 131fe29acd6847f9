"""UDR: the agreement of runs that differ only in their seeds, without ground truth."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from pydisent.evaluation.comparison import Comparison, Group
from pydisent.evaluation.divergences import posteriors
from pydisent.evaluation.scored_run import ScoredRun
from pydisent.metrics import udr
from pydisent.training.run import open_run

UDR = "udr"
_BATCH = 256


def with_udr(
    comparison: Comparison,
    images: int = 1000,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Comparison:
    """Return the comparison with each run's UDR within its group (Duan et al., 2020).

    All runs of a group encode the same images. A run's score is the median over its pairs
    with the others. Groups of one run and systems without a posterior are returned unchanged.

    Parameters
    ----------
    comparison : Comparison
        The comparison, whose run folders are opened.
    images : int
        Number of images, >= 2; at most all.
    seed : int
        Seed of the images.
    device : device
        Device of the systems that encode.

    Raises
    ------
    ValueError, FileNotFoundError
        If `images` is below 2, or a run cannot be opened.
    """
    if images < 2:
        raise ValueError(f"images must be an integer >= 2, got {images}")
    groups = tuple(_ranked(group, images, seed, device) for group in comparison.groups)
    return Comparison(comparison.data, groups)


def _ranked(group: Group, images: int, seed: int, device: str | torch.device) -> Group:
    if len(group.runs) < 2:
        return group
    opened = [open_run(run.path, device) for run in group.runs]
    if not all(hasattr(run.system, "posterior") for run in opened):
        return group
    dataset = opened[0].dataset
    count = min(images, len(dataset))
    numbers = np.random.default_rng(seed).choice(len(dataset), count, replace=False)
    pictures = [dataset.images(part) for part in np.array_split(numbers, -(-count // _BATCH))]
    codes, divergences = zip(*(posteriors(run, pictures) for run in opened))
    scores: Sequence[float] = udr(codes, divergences).details["models"]
    runs = tuple(_scored(run, score) for run, score in zip(group.runs, scores))
    return replace(group, runs=runs)


def _scored(run: ScoredRun, score: float) -> ScoredRun:
    return replace(run, scores=run.scores | {UDR: score})
