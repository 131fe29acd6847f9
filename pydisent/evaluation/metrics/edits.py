"""Scores of attributes and classes: read from codes, and edited in them."""

from typing import Literal

import numpy as np

from pydisent.evaluation.registry import Need, metric
from pydisent.evaluation.subject import Subject
from pydisent.metrics import (
    MetricResult,
    attribute_classification,
    attribute_flips,
    class_swaps,
    encode_dataset,
    trained_classifier,
)
from pydisent.training.run import Run

ATTRIBUTE_TRAIN, ATTRIBUTE_TEST = 10_000, 5_000
# Images that the classifiers of class swaps and attribute flips are trained on, at most.
CLASSIFIER_TRAIN = 20_000
# Images whose attributes are flipped, one attribute at a time.
FLIP_VALIDATION, FLIP_TEST = 200, 500

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
    """Return the attribute classification of Kumar et al., on images drawn without replacement."""
    system, source = subject.run.system, subject.run.dataset
    assert source.attributes is not None
    order = np.random.default_rng(subject.seed).permutation(len(source))
    train = min(ATTRIBUTE_TRAIN, 2 * len(source) // 3)
    numbers = order[: train + ATTRIBUTE_TEST]
    codes = encode_dataset(system.encode, source, numbers, device=system.device)
    attributes = source.attributes[numbers]
    result = attribute_classification(
        codes[:train], attributes[:train], codes[train:], attributes[train:]
    )
    return result.with_details({"attributes": list(source.attribute_names), "seed": subject.seed})


@metric("class-swaps", needs=_LABELS_HELD_OUT)
def score_class_swaps(subject: Subject) -> MetricResult:
    """Return Table 1 of Lezama on held-out images, by a classifier trained on the others.

    The details include the figure of the authors' code, which agrees with the published ones: its
    targets are the classes that the classifier gives the reconstructions.
    """
    run, test = subject.run, subject.run.held_out
    assert test is not None
    assert run.dataset.labels is not None
    assert test.labels is not None
    numbers = _classifier_images(run)
    images, labels = run.dataset.images(numbers), run.dataset.labels[numbers]
    classify = trained_classifier(images, labels, name=f"{run.dataset.name}-classes")
    shown = test.images(np.arange(len(test)))
    accuracy = float((classify(shown).argmax(1) == test.labels).float().mean())
    system, labels = run.system, test.labels

    def swapped(variant: Literal["paper", "author_code"]) -> MetricResult:
        return class_swaps(
            system.encode,
            system.decode,
            shown,
            labels,
            classify,
            factors=system.factor_columns,
            seed=subject.seed,
            variant=variant,
            device=system.device,
        )

    try:
        authors = swapped("author_code").score
    except ValueError:  # all reconstructions are of one class: there is nothing to swap
        authors = None
    return swapped("paper").with_details({"classifier_accuracy": accuracy, "author_code": authors})


@metric("attribute-flips", needs=_ATTRIBUTES_IN_CODE)
def score_attribute_flips(subject: Subject) -> MetricResult:
    """Return Table 2 of Lezama on some held-out images, with alpha chosen on others."""
    run, unseen = subject.run, subject.run.held_out
    assert unseen is not None
    assert run.dataset.attributes is not None
    assert unseen.attributes is not None
    numbers = _classifier_images(run)
    classify = trained_classifier(
        run.dataset.images(numbers),
        run.dataset.attributes[numbers],
        kind="attributes",
        name=f"{run.dataset.name}-attributes",
    )
    count = min(FLIP_VALIDATION, len(unseen) // 2)
    shown = np.arange(count, min(count + FLIP_TEST, len(unseen)))
    validation, test = unseen.images(np.arange(count)), unseen.images(shown)
    accuracy = float(((classify(test) > 0) == unseen.attributes[shown]).float().mean())
    system = run.system
    result = attribute_flips(
        system.encode,
        system.decode,
        test,
        classify,
        factors=system.factor_columns,
        validation=validation,
        device=system.device,
    )
    return result.with_details(
        {
            "classifier_accuracy": accuracy,
            "images": len(test),
            "attributes": list(unseen.attribute_names),
        }
    )


def _classifier_images(run: Run) -> np.ndarray:
    """Draw training images, the same for all runs; their files may be sorted by class."""
    count = min(CLASSIFIER_TRAIN, len(run.dataset))
    return np.sort(np.random.default_rng(0).choice(len(run.dataset), count, replace=False))
