"""Scores of a run's images by a perceptual distance or a feature net: TPL, PPL and FID."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from pydisent.data import ImageDataset
from pydisent.evaluation.codes import prior_codes
from pydisent.evaluation.registry import Need, metric
from pydisent.evaluation.subject import Subject
from pydisent.metrics import MetricResult, fid, ppl, tpl
from pydisent.metrics.perceptual import MIN_SIZE
from pydisent.training.run import Run

# Decoding takes nearly all of the time. With these numbers of images, TPL and PPL have a standard
# error of 1 to 2 %, recorded in the details; FID has no images to spare, as its bias falls with
# their number.
TRAVERSALS, TRAVERSED_IMAGES = 16, 8_192
PAIRS = 2_000
IMAGES = 10_000
# As published; traversals have 50 segments for VAEs, and 48 as usual for GANs.
PUBLISHED_TRAVERSALS, PUBLISHED_VAE_SEGMENTS = 300, 50
PUBLISHED_PAIRS = PUBLISHED_IMAGES = 50_000
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
    segments, count = settings["segments"], PUBLISHED_TRAVERSALS
    if not subject.published:
        each = len(system.code_names) * (segments + 1)
        count = max(4, min(TRAVERSALS, TRAVERSED_IMAGES // each))
    elif hasattr(system, "posterior"):
        segments = PUBLISHED_VAE_SEGMENTS
    result = tpl(
        subject.counted("tpl", count * len(system.code_names) * (segments + 1), system.decode),
        prior_codes(system, count, subject.seed),
        distance=perception.length,
        segments=segments,
        span=settings["span"],
        threshold=settings["threshold"],
    )
    about = {"codes": system.code_names, "seed": subject.seed}
    return result.with_details(about | _counts(subject))


@metric("ppl", needs=_VISIBLE, label="PPL", lower_is_better=True, slow=True)
def score_ppl(subject: Subject) -> MetricResult:
    """Return PPL at the ends of straight paths between codes drawn from the prior."""
    system = subject.run.system
    pairs = PUBLISHED_PAIRS if subject.published else PAIRS
    result = ppl(
        subject.counted("ppl", 2 * pairs, system.decode),
        lambda count: prior_codes(system, count, subject.seed),
        distance=subject.perception.squared,
        pairs=pairs,
        seed=subject.seed,
    )
    return result.with_details(_counts(subject))


@metric("fid", needs=_VISIBLE, label="FID", lower_is_better=True, slow=True)
def score_fid(subject: Subject) -> MetricResult:
    """Return FID between real and generated images."""
    source, part = subject.images_of()
    count = PUBLISHED_IMAGES if subject.published else IMAGES
    result = fid(
        _real(subject, source, min(count, len(source))),
        _generated(
            subject.counted("fid", count, subject.run.system.decode),
            prior_codes(subject.run.system, count, subject.seed),
        ),
        features=subject.perception.features,
    )
    return result.with_details({"split": part, "seed": subject.seed} | _counts(subject))


def _counts(subject: Subject) -> dict[str, str]:
    return {"counts": "published"} if subject.published else {}


def _real(subject: Subject, source: ImageDataset, count: int) -> Iterator[Tensor]:
    numbers = np.random.default_rng(subject.seed).choice(len(source), count, replace=False)
    numbers.sort()
    for start in range(0, count, _BATCH):
        images = source.images(numbers[start : start + _BATCH])
        yield images.to(subject.run.system.device)


def _generated(decode: Callable[[Tensor], Tensor], codes: Tensor) -> Iterator[Tensor]:
    for batch in codes.split(_BATCH):
        with torch.no_grad():
            yield decode(batch)
