"""Scores of the images of a run by a perceptual distance or a feature net: TPL, PPL and FID."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pydisent.evaluation.codes import prior_codes
from pydisent.evaluation.registry import Need, metric
from pydisent.evaluation.subject import Subject
from pydisent.metrics import MetricResult, fid, ppl, tpl
from pydisent.metrics.perceptual import MIN_SIZE
from pydisent.training.run import Run

# Nearly all of the time goes into decoding images. With these numbers TPL and PPL have a standard
# error of 1 to 2 %, which is among the details; FID, whose bias falls with the number of images,
# can spare none. Published: 300 to 500 traversals, 50 000 pairs, 50 000 images.
TRAVERSALS, TRAVERSED_IMAGES = 16, 8_192
PAIRS = 2_000
IMAGES = 10_000
_BATCH = 32


def _shows_images(run: Run) -> bool:
    channels, *sides = run.dataset.image_shape
    return channels in (1, 3) and min(sides) >= MIN_SIZE


_VISIBLE = Need("images of one or three channels and at least 8 x 8 pixels", _shows_images)


@metric("tpl", needs=_VISIBLE, label="TPL", lower_is_better=True, slow=True)
def score_tpl(subject: Subject) -> MetricResult:
    """Return TPL over codes drawn from the prior."""
    system, perception = subject.run.system, subject.perception
    settings = perception.tpl_settings()
    each = len(system.code_names) * (settings["segments"] + 1)
    count = max(4, min(TRAVERSALS, TRAVERSED_IMAGES // each))
    result = tpl(
        system.decode,
        prior_codes(system, count, subject.seed),
        distance=perception.length,
        segments=settings["segments"],
        span=settings["span"],
        threshold=settings["threshold"],
    )
    return result.with_details({"codes": system.code_names, "seed": subject.seed})


@metric("ppl", needs=_VISIBLE, label="PPL", lower_is_better=True, slow=True)
def score_ppl(subject: Subject) -> MetricResult:
    """Return PPL at the ends of straight paths between codes drawn from the prior."""
    system = subject.run.system
    return ppl(
        system.decode,
        lambda count: prior_codes(system, count, subject.seed),
        distance=subject.perception.squared,
        pairs=PAIRS,
        seed=subject.seed,
    )


@metric("fid", needs=_VISIBLE, label="FID", lower_is_better=True, slow=True)
def score_fid(subject: Subject) -> MetricResult:
    """Return FID between images of the data and generated images."""
    run, seed = subject.run, subject.seed
    result = fid(_real(run, seed), _generated(run, seed), features=subject.perception.features)
    return result.with_details({"seed": seed})


def _real(run: Run, seed: int) -> Iterator[Tensor]:
    source = run.dataset
    count = min(IMAGES, len(source))
    numbers = np.random.default_rng(seed).choice(len(source), count, replace=False)
    for start in range(0, count, _BATCH):
        yield source.images(np.sort(numbers)[start : start + _BATCH]).to(run.system.device)


def _generated(run: Run, seed: int) -> Iterator[Tensor]:
    for batch in prior_codes(run.system, IMAGES, seed).split(_BATCH):
        with torch.no_grad():
            yield run.system.decode(batch)
