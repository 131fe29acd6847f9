"""Scores of attributes and classes: predicted from codes, and edited in them."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pydisent.data import ImageDataset, Subset
from pydisent.evaluation.registry import Need, metric
from pydisent.evaluation.subject import Subject
from pydisent.metrics import (
    Classifier,
    MetricResult,
    attribute_classification,
    attribute_flips,
    class_swaps,
    encode_dataset,
    trained_classifier,
)
from pydisent.metrics.attribute_flips import ALPHAS
from pydisent.training.run import Run

ATTRIBUTE_TRAIN, ATTRIBUTE_TEST = 10_000, 5_000
# At most, for training the classifiers of class swaps and attribute flips.
CLASSIFIER_TRAIN = 20_000
# Images whose attributes are flipped one at a time.
FLIP_VALIDATION, FLIP_TEST = 200, 500
PUBLISHED_ALPHA = 40.0
_BATCH = 256

_ATTRIBUTES = Need("a data set with attributes", lambda run: run.dataset.attributes is not None)
_LABELS_HELD_OUT = Need(
    "a system with factors in its code, on data with labels of which some was held out",
    lambda run: (
        bool(run.system.factor_columns)
        and not run.system.needs_attributes
        and run.held_out is not None
        and run.held_out.labels is not None
    ),
)
_ATTRIBUTES_IN_CODE = Need(
    "a system with attributes in its code, and some of its data held out",
    lambda run: run.system.needs_attributes and run.held_out is not None,
)


@metric("attributes", needs=_ATTRIBUTES, label="Attribute classification")
def score_attributes(subject: Subject) -> MetricResult:
    """Return the attribute classification of Kumar et al., on images drawn without replacement.

    The classifiers are fitted to training images, and tested on images that training did not see,
    or on other training images if there are none.
    """
    run, (unseen, part) = subject.run, subject.images_of("test")
    rng = np.random.default_rng(subject.seed)
    order = rng.permutation(len(run.dataset))
    if part == "test":
        numbers = order[:ATTRIBUTE_TRAIN]
        tested = rng.permutation(len(unseen))[:ATTRIBUTE_TEST]
    else:
        train = min(ATTRIBUTE_TRAIN, 2 * len(order) // 3)
        numbers, tested = order[:train], order[train : train + ATTRIBUTE_TEST]
    result = attribute_classification(
        *_coded(run, run.dataset, numbers), *_coded(run, unseen, tested)
    )
    about = {"attributes": list(run.dataset.attribute_names), "split": part, "seed": subject.seed}
    return result.with_details(about)


def _coded(run: Run, source: ImageDataset, numbers: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the codes and the attributes of these images."""
    assert source.attributes is not None
    system = run.system
    codes = encode_dataset(system.encode, source, numbers, device=system.device)
    return codes, source.attributes[numbers]


@metric("class-swaps", needs=_LABELS_HELD_OUT)
def score_class_swaps(subject: Subject) -> MetricResult:
    """Return the score of Lezama's Table 1 on held-out images, by a classifier trained on the rest.

    The details include the score as in the authors' code, which agrees with the published ones: its
    targets are the classes that the classifier assigns to the reconstructions.
    """
    run, test = subject.run, subject.run.held_out
    assert test is not None
    assert test.labels is not None
    classify = _classifier(run, "label", f"{run.dataset.name}-classes")
    system, labels = run.system, test.labels
    accuracy = _share(test, lambda images, rows: classify(images).argmax(1).cpu() == labels[rows])

    def swapped(variant: Literal["paper", "author_code"]) -> MetricResult:
        return class_swaps(
            system.encode,
            system.decode,
            test,
            labels,
            classify,
            factors=system.factor_columns,
            seed=subject.seed,
            variant=variant,
            device=system.device,
        )

    try:
        authors = swapped("author_code").score
    except ValueError:  # all reconstructions have the same class: there is nothing to swap
        authors = None
    about = {"classifier_accuracy": accuracy, "author_code": authors, "split": "test"}
    return swapped("paper").with_details(about)


@metric("attribute-flips", needs=_ATTRIBUTES_IN_CODE)
def score_attribute_flips(subject: Subject) -> MetricResult:
    """Return the score of Lezama's Table 2 on held-out images, with alpha chosen on others."""
    return _flips(subject)


@metric(
    "attribute-flips-published",
    needs=_ATTRIBUTES_IN_CODE,
    label=f"attribute-flips, α = {PUBLISHED_ALPHA:g}",
    by_default=False,
)
def score_published_flips(subject: Subject) -> MetricResult:
    """Return the score of Lezama's Table 2 with the published alpha (sec. 4.3)."""
    return _flips(subject, PUBLISHED_ALPHA)


def _flips(subject: Subject, alpha: float | None = None) -> MetricResult:
    run, unseen = subject.run, subject.run.held_out
    assert unseen is not None
    assert unseen.attributes is not None
    classify = _classifier(run, "attributes", f"{run.dataset.name}-attributes")
    count = min(FLIP_VALIDATION, len(unseen) // 2)
    validation = Subset(unseen, np.arange(count))
    test = Subset(unseen, np.arange(count, min(count + FLIP_TEST, len(unseen))))
    attributes = test.attributes
    assert attributes is not None
    accuracy = _share(test, lambda images, rows: (classify(images) > 0).cpu() == attributes[rows])
    system, columns = run.system, run.system.factor_columns
    tried = 0 if alpha is not None else count * (1 + len(ALPHAS) * len(columns))
    made = tried + len(test) * (1 + len(columns))
    result = attribute_flips(
        system.encode,
        subject.counted("attribute-flips", made, system.decode),
        test,
        classify,
        factors=columns,
        alpha=alpha,
        validation=validation if alpha is None else None,
        device=system.device,
    )
    return result.with_details(
        {
            "classifier_accuracy": accuracy,
            "split": "test",
            "images": len(test),
            "attributes": list(unseen.attribute_names),
        }
    )


def _classifier(run: Run, kind: Literal["label", "attributes"], name: str) -> Classifier:
    """Return a classifier trained on some training images, the same for all runs."""
    count = min(CLASSIFIER_TRAIN, len(run.dataset))
    # At random, as files may be sorted by class.
    numbers = np.sort(np.random.default_rng(0).choice(len(run.dataset), count, replace=False))
    chosen = Subset(run.dataset, numbers)
    targets = chosen.labels if kind == "label" else chosen.attributes
    assert targets is not None
    return trained_classifier(chosen, targets, kind=kind, name=name).to(run.system.device)


def _share(source: ImageDataset, right: Callable[[Tensor, Tensor], Tensor]) -> float:
    """Return the mean of `right` over a data set, called with images and their indices."""
    found = [right(source.images(rows), rows) for rows in torch.arange(len(source)).split(_BATCH)]
    return float(torch.cat(found).float().mean())
