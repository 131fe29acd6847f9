"""The registry of run metrics."""

from collections.abc import Callable
from dataclasses import dataclass

from pydisent._plugins import Registry
from pydisent.data import FactorDataset, ObservedFactorDataset, has_factors
from pydisent.evaluation.subject import Subject
from pydisent.metrics import MetricResult
from pydisent.training.run import Run

Measure = Callable[[Subject], MetricResult]


@dataclass(frozen=True)
class Need:
    """A metric's requirement on a run.

    Attributes
    ----------
    words : str
        The requirement, for messages.
    met : callable
        Whether a run meets it.
    usual : callable
        Whether the metric is then also measured when no metric is named.
    """

    words: str
    met: Callable[[Run], bool]
    usual: Callable[[Run], bool] = lambda run: True


# Attributes by the dozen and codes by the hundred take hours: only if the metric is named.
FACTORS = Need(
    "a data set with factors or attributes",
    lambda run: has_factors(run.dataset),
    lambda run: isinstance(run.dataset, FactorDataset | ObservedFactorDataset),
)
TWO_FACTORS = Need(  # to tell one from the others
    "a data set with at least 2 factors or attributes",
    lambda run: FACTORS.met(run) and _factor_count(run) >= 2,
    FACTORS.usual,
)
TWO_FACTORS_AND_CODES = Need(
    f"{TWO_FACTORS.words}, and a code of at least 2 numbers",
    lambda run: TWO_FACTORS.met(run) and len(run.system.code_names) >= 2,
    FACTORS.usual,
)
IMAGES = Need("images", lambda run: True)


def _factor_count(run: Run) -> int:
    """Return the number of factors of a run's data, or else of its attributes."""
    data = run.dataset
    return len(data.factor_names if hasattr(data, "factor_names") else data.attribute_names)


@dataclass(frozen=True)
class Metric:
    """A metric of runs.

    Attributes
    ----------
    name : str
        Name on the command line and in scores.json.
    measure : callable
        Returns the `MetricResult` of a `Subject`.
    needs : Need
        Requirement on a run.
    label : str
        Name in reports.
    lower_is_better : bool
        Whether lower scores are better.
    slow : bool
        Whether it takes minutes.
    by_default : bool
        Whether it is measured when no metric is named.
    """

    name: str
    measure: Measure
    needs: Need
    label: str
    lower_is_better: bool = False
    slow: bool = False
    by_default: bool = True


METRICS: Registry[Metric] = Registry("metric", "pydisent.metrics")


def metric(
    name: str,
    *,
    needs: Need,
    label: str | None = None,
    lower_is_better: bool = False,
    slow: bool = False,
    by_default: bool = True,
) -> Callable[[Measure], Measure]:
    """Register the decorated function as a metric; the arguments are those of `Metric`.

    Raises
    ------
    ValueError
        If the name is malformed or taken.
    """

    def register(measure: Measure) -> Measure:
        made = Metric(name, measure, needs, label or name, lower_is_better, slow, by_default)
        METRICS.add(name, made, measure.__module__)
        return measure

    return register
