"""Scores of a run, by the names the command line uses."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from pydisent.data import FactorDataset
from pydisent.training.run import Run

if TYPE_CHECKING:
    from pydisent.metrics import MetricResult

Score = dict[str, Any]


def metric_names() -> tuple[str, ...]:
    """Return the names that `score` accepts."""
    return tuple(_METRICS)


def applicable(run: Run) -> tuple[str, ...]:
    """Return the names of the metrics that the run's data and system allow."""
    lacking = set() if isinstance(run.dataset, FactorDataset) else {"z-diff", "factor-vae"}
    if "k" not in run.config["config"]:
        lacking.add("f-diagonal")
    return tuple(name for name in _METRICS if name not in lacking)


def score(run: Run, names: Sequence[str]) -> dict[str, Score]:
    """Return {name: {"score": float, "details": dict}} of a run, its data encoded once.

    Raises
    ------
    ValueError
        If there is no such metric, or the run's data or system does not allow it.
    NotTrainedError
        If a metric needs codes before the run's system can encode.
    """
    for name in names:
        if name not in _METRICS:
            raise ValueError(f"metric is {name!r}; accepted: {', '.join(_METRICS)}")
        if name not in applicable(run):
            raise ValueError(
                f"metric {name!r} does not fit {run.system.name} on {run.dataset.name}"
                + ("" if name == "f-diagonal" else ", a data set without ground-truth factors")
                + f"; accepted: {', '.join(applicable(run)) or 'none'}"
            )
    subject = _Subject(run)
    return {name: _METRICS[name](subject) for name in names}


class _CodeGrid(FactorDataset):
    """The data set with each image replaced by its code."""

    def __init__(self, source: FactorDataset, codes: Tensor) -> None:
        shape = (codes.shape[1], 1, 1)
        super().__init__(source.name, shape, source.factor_names, source.factor_sizes)
        self._codes = codes[:, :, None, None]

    def _read(self, indices: np.ndarray) -> Tensor:
        return self._codes[indices]


class _Subject:
    """A run under test; its data set is encoded when the first metric asks."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def codes(self) -> _CodeGrid:
        from pydisent.metrics import encode_dataset

        system, source = self.run.system, self.run.dataset
        assert isinstance(source, FactorDataset)
        return _CodeGrid(source, encode_dataset(system.encode, source, device=system.device))


def _z_diff(subject: _Subject) -> Score:
    from pydisent.metrics import z_diff

    return _plain(z_diff(_as_codes, subject.codes))


def _factor_vae(subject: _Subject) -> Score:
    from pydisent.metrics import factor_vae_score

    return _plain(factor_vae_score(_as_codes, subject.codes))


def _f_diagonal(subject: _Subject) -> Score:
    """Return the mean of the first k diagonal entries of F (Ramesh et al., Eq. 6)."""
    from pydisent.reports import alignment_summary

    summary = alignment_summary(subject.run)
    details = {name: summary[name] for name in ("k", "codes", "seed", "diagonal")}
    return {"score": summary["mean"], "details": details}


def _as_codes(images: Tensor) -> Tensor:
    return images.flatten(1)


def _plain(result: "MetricResult") -> Score:
    return {"score": float(result.score), "details": _values(result.details)}


def _values(value: Any) -> Any:
    """Return `value` with tensors and arrays as lists."""
    if isinstance(value, dict):
        return {str(key): _values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_values(item) for item in value]
    return value.tolist() if isinstance(value, (Tensor, np.ndarray, np.generic)) else value


_METRICS: dict[str, Callable[[_Subject], Score]] = {
    "f-diagonal": _f_diagonal,
    "z-diff": _z_diff,
    "factor-vae": _factor_vae,
}
