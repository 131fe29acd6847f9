"""Scores of a run, by the names the command line uses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor

from pydisent.data import FactorDataset
from pydisent.training.perception import (
    Perception,
    score_fid,
    score_ppl,
    score_tpl,
    shows_images,
)
from pydisent.training.run import Run

if TYPE_CHECKING:
    from pydisent.metrics import EncodedDataset, MetricResult
    from pydisent.metrics._samples import Samples

Score = dict[str, Any]

# z-diff and FactorVAE draw from so many images of a larger grid: their mean over seeds moves by
# less than their spread over seeds, and most of the encoding is saved.
MAX_IMAGES = 100_000
RECONSTRUCTED = 10_000
ATTRIBUTE_TRAIN, ATTRIBUTE_TEST = 10_000, 5_000
# Images that the classifiers of class swaps and attribute flips learn from, at most.
CLASSIFIER_TRAIN = 20_000
# Images whose attributes are flipped, each of them in turn.
FLIP_VALIDATION, FLIP_TEST = 200, 500


class MetricsFailedError(ValueError):
    """Some metrics could not be made; the others were."""


def metric_names() -> tuple[str, ...]:
    """Return the names that `score` accepts."""
    return tuple(_METRICS)


def applicable(run: Run) -> tuple[str, ...]:
    """Return the names of the metrics that the run's data and system allow."""
    return tuple(name for name in _METRICS if _fits(name, run))


def _fits(name: str, run: Run) -> bool:
    return _NEEDS[_METRICS[name].needs](run)


def score(
    run: Run,
    names: Sequence[str],
    *,
    max_images: int | None = MAX_IMAGES,
    seed: int = 0,
    perception: Perception | None = None,
    keep: Callable[[dict[str, Score]], None] | None = None,
) -> dict[str, Score]:
    """Return {name: {"score": float, "details": dict}} of a run, its data encoded once.

    A metric that cannot be made does not stop the others.

    Parameters
    ----------
    run : Run
        The run.
    names : sequence of str
        Which metrics.
    max_images : int or None
        Metrics of factors draw from so many images of the grid, the same for all; None for all.
    seed : int
        Of every draw.
    perception : Perception, optional
        The nets of TPL, PPL and FID; by default the fixed net, which needs no weights.
    keep : callable, optional
        Called with {name: score} as soon as each is made.

    Raises
    ------
    ValueError, FileNotFoundError
        If there is no such metric, the run's data or system does not allow it, or a net's weights
        or settings are wrong.
    MetricsFailedError
        If metrics raised a ValueError: at the end, with their names and the reasons.
    NotTrainedError
        If a metric needs codes before the run's system can encode.
    """
    for name in names:
        if name not in _METRICS:
            raise ValueError(f"metric is {name!r}; accepted: {', '.join(_METRICS)}")
        if not _fits(name, run):
            raise ValueError(
                f"metric {name!r} does not fit {run.system.name} on {run.dataset.name}: it needs "
                f"{_METRICS[name].needs}; accepted: {', '.join(applicable(run)) or 'none'}"
            )
    nets = perception or Perception()
    nets.check(names)
    subject = _Subject(run, max_images, seed, nets)
    scores: dict[str, Score] = {}
    failed: dict[str, ValueError] = {}
    for name in names:
        try:
            scores[name] = _plain(_METRICS[name].measure(subject))
        except ValueError as error:
            failed[name] = error
        else:
            if keep is not None:
                keep({name: scores[name]})
    if failed:
        reasons = "; ".join(f"{name}: {error}" for name, error in failed.items())
        raise MetricsFailedError(f"{len(failed)} of {len(names)} metrics failed: {reasons}")
    return scores


class _Subject:
    """A run under test; what several metrics share is made when the first one asks."""

    def __init__(self, run: Run, max_images: int | None, seed: int, perception: Perception) -> None:
        self.run, self.max_images, self.seed = run, max_images, seed
        self.perception = perception

    @cached_property
    def codes(self) -> "EncodedDataset":
        from pydisent.metrics import encode_once

        system, source = self.run.system, self.run.dataset
        assert isinstance(source, FactorDataset)
        return encode_once(
            system.encode,
            source,
            max_images=self.max_images,
            seed=self.seed,
            device=system.device,
        )

    @cached_property
    def samples(self) -> "Samples":
        from pydisent.metrics import sample_codes

        return sample_codes(self.codes.encode, self.codes, seed=self.seed)

    @property
    def names(self) -> Score:
        """Return what a metric's matrices stand for: their rows, their columns, which images."""
        pool = self.codes.pool
        return {
            "codes": self.run.system.code_names,
            "factors": list(self.codes.factor_names),
            "images_drawn_from": len(self.codes) if pool is None else len(pool),
        }


def _f_diagonal(subject: _Subject) -> "MetricResult":
    """Return the mean of the first k diagonal entries of F (Ramesh et al., Eq. 6)."""
    from pydisent.metrics import MetricResult
    from pydisent.reports import alignment_summary

    summary = alignment_summary(subject.run)
    details = {name: summary[name] for name in ("k", "codes", "seed", "diagonal")}
    return MetricResult(summary["mean"], details)


def _mask_overlap(subject: _Subject) -> "MetricResult":
    """Return how far the masks of the codes overlap, and where each one is."""
    from pydisent.reports._masks import mask_summary

    details = {"codes": subject.run.system.code_names, "seed": subject.seed}
    return _with(mask_summary(subject.run, seed=subject.seed), details)


def _z_diff(subject: _Subject) -> "MetricResult":
    from pydisent.metrics import z_diff

    return z_diff(subject.codes.encode, subject.codes, seed=subject.seed)


def _factor_vae(subject: _Subject) -> "MetricResult":
    """Return disentanglement_lib's score, and Zhu et al.'s and Jeon et al.'s beside it."""
    from pydisent.metrics import factor_vae_score

    def scored(variant: Literal["locatello", "zhu", "jeon"]) -> "MetricResult":
        encode = subject.codes.encode
        return factor_vae_score(encode, subject.codes, variant=variant, seed=subject.seed)

    variants: tuple[Literal["zhu", "jeon"], ...] = ("zhu", "jeon")
    others: Score = {name: scored(name).score for name in variants}
    return _with(scored("locatello"), subject.names | others)


def _sap(subject: _Subject) -> "MetricResult":
    """Return Kumar et al.'s score, and disentanglement_lib's two beside it."""
    from pydisent.metrics import sap

    samples = subject.samples
    variants: tuple[Literal["svm", "continuous"], ...] = ("svm", "continuous")
    others: Score = {name: sap(*samples, variant=name).score for name in variants}
    return _with(sap(*samples), subject.names | others)


def _mig(subject: _Subject) -> "MetricResult":
    from pydisent.metrics import mig

    return _with(mig(*subject.samples[:2]), subject.names)


def _dci(subject: _Subject) -> "MetricResult":
    from pydisent.metrics import dci

    return _with(dci(*subject.samples, seed=subject.seed), subject.names)


def _modularity(subject: _Subject) -> "MetricResult":
    from pydisent.metrics import modularity

    return _with(modularity(*subject.samples[:2]), subject.names)


def _irs(subject: _Subject) -> "MetricResult":
    from pydisent.metrics import irs

    return _with(irs(*subject.samples[:2]), subject.names)


def _reconstruction(subject: _Subject) -> "MetricResult":
    from pydisent.metrics import reconstruction_error

    system, source = subject.run.system, subject.run.dataset
    # Not a permutation: that of a grid of hundreds of millions takes gigabytes.
    count = min(RECONSTRUCTED, len(source))
    drawn = np.random.default_rng(subject.seed).choice(len(source), count, replace=False)
    numbers = np.sort(drawn)
    result = reconstruction_error(
        lambda images: system.decode(system.encode(images)),
        source,
        numbers,
        device=system.device,
    )
    return _with(result, {"seed": subject.seed})


def _tpl(subject: _Subject) -> "MetricResult":
    result = score_tpl(subject.run, subject.perception, subject.seed)
    return _with(result, {"codes": subject.run.system.code_names, "seed": subject.seed})


def _ppl(subject: _Subject) -> "MetricResult":
    return score_ppl(subject.run, subject.perception, subject.seed)


def _fid(subject: _Subject) -> "MetricResult":
    result = score_fid(subject.run, subject.perception, subject.seed)
    return _with(result, {"seed": subject.seed})


def _attributes(subject: _Subject) -> "MetricResult":
    """Return Kumar et al.'s attribute classification, of images that are drawn once each."""
    from pydisent.metrics import attribute_classification, encode_dataset

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
    return _with(result, {"attributes": list(source.attribute_names), "seed": subject.seed})


def _class_swaps(subject: _Subject) -> "MetricResult":
    """Return Lezama's Table 1 on the images held out; the classifier has seen the others alone.

    The details have the authors' figure, too, with which the published ones agree: its targets are
    what the classifier says of the reconstructions.
    """
    from pydisent.metrics import class_swaps, trained_classifier

    run, test = subject.run, subject.run.held_out
    assert test is not None
    assert run.dataset.labels is not None
    assert test.labels is not None
    numbers = _seen_by_classifier(run)
    images, labels = run.dataset.images(numbers), run.dataset.labels[numbers]
    classify = trained_classifier(images, labels, name=f"{run.dataset.name}-classes")
    shown = test.images(np.arange(len(test)))
    accuracy = float((classify(shown).argmax(1) == test.labels).float().mean())
    system, labels = run.system, test.labels

    def swapped(variant: Literal["paper", "author_code"]) -> "MetricResult":
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
    details = {"classifier_accuracy": accuracy, "author_code": authors}
    return _with(swapped("paper"), details)


def _attribute_flips(subject: _Subject) -> "MetricResult":
    """Return Lezama's Table 2 on some images held out; some others choose alpha."""
    from pydisent.metrics import attribute_flips, trained_classifier

    run, unseen = subject.run, subject.run.held_out
    assert unseen is not None
    assert run.dataset.attributes is not None
    assert unseen.attributes is not None
    numbers = _seen_by_classifier(run)
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
    details = {"classifier_accuracy": accuracy, "images": len(test)}
    return _with(result, details | {"attributes": list(unseen.attribute_names)})


def _seen_by_classifier(run: Run) -> np.ndarray:
    """Return numbers of training images, drawn alike for all runs: files may be in some order."""
    count = min(CLASSIFIER_TRAIN, len(run.dataset))
    return np.sort(np.random.default_rng(0).choice(len(run.dataset), count, replace=False))


def _with(result: "MetricResult", details: dict[str, Any]) -> "MetricResult":
    from pydisent.metrics import MetricResult

    return MetricResult(result.score, {**result.details, **details})


def _plain(result: "MetricResult") -> Score:
    return {"score": float(result.score), "details": _values(result.details)}


def _values(value: Any) -> Any:
    """Return `value` with tensors and arrays as lists."""
    if isinstance(value, dict):
        return {str(key): _values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_values(item) for item in value]
    return value.tolist() if isinstance(value, (Tensor, np.ndarray, np.generic)) else value


@dataclass(frozen=True)
class _Metric:
    measure: Callable[[_Subject], "MetricResult"]
    needs: str


_FACTORS = "a data set with ground-truth factors"
_ATTRIBUTES = "a data set with attributes"
_IMAGES = "images"
_LEADING = "a system with the setting k"
_MASKS = "a system with masks of its codes"

_SWAPS = "a system with factors in its code, on data with labels of which some was held out"
_FLIPS = "a system with attributes in its code, and some of its data held out"

_SEEN = "images of one or three channels and at least 8 x 8 pixels"


def _has_masks(run: Run) -> bool:
    from pydisent.reports._masks import has_masks

    return has_masks(run)


_NEEDS: dict[str, Callable[[Run], bool]] = {
    _FACTORS: lambda run: isinstance(run.dataset, FactorDataset),
    _ATTRIBUTES: lambda run: run.dataset.attributes is not None,
    _IMAGES: lambda run: True,
    _SEEN: shows_images,
    _LEADING: lambda run: "k" in run.config["config"],
    _MASKS: _has_masks,
    _SWAPS: lambda run: (
        bool(run.system.factor_columns)
        and not run.system.needs_attributes
        and run.held_out is not None
        and run.held_out.labels is not None
    ),
    _FLIPS: lambda run: run.system.needs_attributes and run.held_out is not None,
}

_METRICS = {
    "f-diagonal": _Metric(_f_diagonal, _LEADING),
    "z-diff": _Metric(_z_diff, _FACTORS),
    "factor-vae": _Metric(_factor_vae, _FACTORS),
    "sap": _Metric(_sap, _FACTORS),
    "mig": _Metric(_mig, _FACTORS),
    "dci": _Metric(_dci, _FACTORS),
    "modularity": _Metric(_modularity, _FACTORS),
    "irs": _Metric(_irs, _FACTORS),
    "reconstruction": _Metric(_reconstruction, _IMAGES),
    "attributes": _Metric(_attributes, _ATTRIBUTES),
    "class-swaps": _Metric(_class_swaps, _SWAPS),
    "attribute-flips": _Metric(_attribute_flips, _FLIPS),
    "mask-overlap": _Metric(_mask_overlap, _MASKS),
    "tpl": _Metric(_tpl, _SEEN),
    "ppl": _Metric(_ppl, _SEEN),
    "fid": _Metric(_fid, _SEEN),
}
