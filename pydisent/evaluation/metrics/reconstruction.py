"""The score of reconstructions."""

import numpy as np

from pydisent.evaluation.registry import IMAGES, metric
from pydisent.evaluation.subject import Subject
from pydisent.metrics import MetricResult, reconstruction_error

RECONSTRUCTED = 10_000  # images, at most


@metric("reconstruction", needs=IMAGES, label="Reconstruction error", lower_is_better=True)
def score_reconstruction(subject: Subject) -> MetricResult:
    """Return the mean squared error per pixel, on images that training did not see if any."""
    system = subject.run.system
    source, part = subject.images_of("test")
    # Not a permutation, which for a grid of hundreds of millions of images would take gigabytes.
    count = min(RECONSTRUCTED, len(source))
    drawn = np.random.default_rng(subject.seed).choice(len(source), count, replace=False)
    result = reconstruction_error(
        lambda images: system.decode(system.encode(images)),
        source,
        np.sort(drawn),
        device=system.device,
    )
    return result.with_details({"split": part, "seed": subject.seed})
