"""Scores of a run, by the names of metrics."""

import statistics
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pydisent import data, systems
from pydisent.evaluation import metrics  # noqa: F401  (registers them)
from pydisent.evaluation.codes import Split
from pydisent.evaluation.perception import Perception
from pydisent.evaluation.registry import FACTORS, METRICS, TWO_FACTORS, TWO_FACTORS_AND_CODES
from pydisent.evaluation.subject import MAX_IMAGES, Progress, Subject
from pydisent.metrics import MetricResult
from pydisent.systems import NotTrainedError
from pydisent.training.plan import Plan
from pydisent.training.run import Run

Score = dict[str, Any]


class MetricsFailedError(ValueError):
    """Some metrics raised errors; the others were measured."""


def metric_names() -> tuple[str, ...]:
    """Return the names of all metrics."""
    return tuple(METRICS)


def metric_label(name: str) -> str:
    """Return a metric's label in reports; its name if it is not registered."""
    return METRICS[name].label if name in METRICS else name


def fitting(run: Run) -> tuple[str, ...]:
    """Return the names of all metrics that apply to the run's data and system."""
    return tuple(name for name, metric in METRICS.items() if metric.needs.met(run))


def applicable(run: Run) -> tuple[str, ...]:
    """Return those of `fitting` that are measured when no metric is named.

    This excludes variants of others and, for data with attributes only, metrics against factors;
    see `FACTORS`.
    """
    found = ((name, METRICS[name]) for name in fitting(run))
    return tuple(name for name, one in found if one.by_default and one.needs.usual(run))


def fitting_to(plan: Plan) -> tuple[str, ...]:
    """Return the names of all metrics that apply to the runs of a plan."""
    return fitting(_untrained(plan))


def applicable_to(plan: Plan) -> tuple[str, ...]:
    """Return those of `fitting_to` that are measured when no metric is named."""
    return applicable(_untrained(plan))


def _untrained(plan: Plan) -> Run:
    images = data.load(**plan.data_arguments())
    system = systems.build(plan.system, plan.config, images.image_shape)
    return Run(Path(), plan, {}, [], None, system, 0, images)


def why_missing(run: Run, name: str) -> str:
    """Return why a run lacks a metric's score: it cannot be measured, or has not been."""
    metric = METRICS.get(name)
    if metric is None:
        return "not measured"
    try:
        met = metric.needs.met(run)
    except Exception as error:  # such as missing data
        return f"not measurable: {error}"
    if not met:
        return f"not measurable: it needs {metric.needs.words}"
    if metric.needs in (FACTORS, TWO_FACTORS, TWO_FACTORS_AND_CODES):
        try:
            with torch.no_grad():
                run.system.encode(torch.zeros(1, *run.system.image_shape, device=run.system.device))
        except NotTrainedError as error:
            return f"not measurable: {error}"
    return "not measured yet"


def check_names(names: Iterable[str]) -> None:
    """Raise ValueError if one of the metrics does not exist."""
    for name in names:
        METRICS.find(name)


def score(
    run: Run,
    names: Sequence[str],
    *,
    max_images: int | None = MAX_IMAGES,
    seed: int = 0,
    perception: Perception | None = None,
    keep: Callable[[dict[str, Score]], None] | None = None,
    split: Split = "auto",
    published: bool = False,
    progress: Progress | None = None,
) -> dict[str, Score]:
    """Return {name: {"score": float, "details": dict}} of a run, encoding its data once.

    A metric that fails does not stop the others.

    Parameters
    ----------
    run : Run
        The run.
    names : sequence of str
        The metrics.
    max_images : int or None
        Factor metrics draw from this many images of the grid, the same for all metrics; None for
        all images.
    seed : int
        Seed of every draw.
    perception : Perception, optional
        The nets of TPL, PPL and FID; by default the fixed net, which needs no weights.
    keep : callable, optional
        Called with {name: score} as soon as each is measured.
    split : str
        "test": images that training did not see; "train": those that it saw. "auto": the latter,
        except for reconstruction errors and attributes, which use unseen images if there are any.
        Class swaps and attribute flips always use unseen images.
    published : bool
        Measure TPL, PPL and FID on as many images as the published figures; takes hours without a
        GPU.
    progress : callable, optional
        Called with the metric, the number of images decoded so far and their total.

    Raises
    ------
    ValueError, FileNotFoundError
        If a metric does not exist or does not apply to the run, or weights or settings of a net
        are invalid.
    MetricsFailedError
        If metrics raised a ValueError; it is raised at the end, with their names and reasons.
    NotTrainedError
        If a metric needs codes before the run's system can encode.
    """
    check_names(names)
    for name in names:
        needs = METRICS[name].needs
        if not needs.met(run):
            accepted = ", ".join(map(repr, fitting(run))) or "none"
            raise ValueError(
                f"metric must be one of {accepted} for {run.system.name} on {run.dataset.name}, "
                f"got {name!r}, which needs {needs.words}"
            )
    nets = perception or Perception()
    nets.check(names)
    subject = Subject(
        run,
        seed=seed,
        max_images=max_images,
        perception=nets,
        split=split,
        published=published,
        progress=progress,
    )
    subject.images_of()  # refuses a missing split
    scores: dict[str, Score] = {}
    failed: dict[str, ValueError] = {}
    for name in names:
        try:
            scores[name] = _as_plain(_measure(name, subject))
        except ValueError as error:
            failed[name] = error
        else:
            if keep is not None:
                keep({name: scores[name]})
    if failed:
        reasons = "; ".join(f"{name}: {error}" for name, error in failed.items())
        raise MetricsFailedError(f"{len(failed)} of {len(names)} metrics failed: {reasons}")
    return scores


def figure(scores: Mapping[str, Score], key: str) -> float | None:
    """Return a figure among scores, or None if it is not there.

    Parameters
    ----------
    scores : mapping of str to dict
        Scores by metric, as in scores.json.
    key : str
        "METRIC"; "METRIC/DETAIL" for a figure in its details (the mean, if a list); or
        "METRIC/DETAIL:ATTRIBUTE" for that of an attribute.
    """
    name, _, detail = key.partition("/")
    entry = scores.get(name)
    if entry is None:
        return None
    detail, _, attribute = detail.partition(":")
    value = entry["details"].get(detail) if detail else entry["score"]
    if attribute:
        names = entry["details"].get("attributes", [])
        return value[names.index(attribute)] if attribute in names else None
    if isinstance(value, list):
        known = [each for each in value if each is not None]
        return statistics.fmean(known) if known else None
    return None if value is None else float(value)


def _measure(name: str, subject: Subject) -> MetricResult:
    with warnings.catch_warnings():  # a notice is kept, and shown with the scores
        warnings.filterwarnings("ignore", "pydisent: at most one code is active")
        return METRICS[name].measure(subject)


def _as_plain(result: MetricResult) -> Score:
    return {"score": float(result.score), "details": _values(result.details)}


def _values(value: Any) -> Any:
    """Return `value` with tensors and arrays as lists."""
    if isinstance(value, dict):
        return {str(key): _values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_values(item) for item in value]
    return value.tolist() if isinstance(value, (Tensor, np.ndarray, np.generic)) else value
