"""Scores of a run, by the names the command line uses."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pydisent.training.run import Run

_HEATMAP_CODES = 256


def metric_names() -> tuple[str, ...]:
    """Return the names that `score` accepts."""
    return tuple(_METRICS)


def score(run: Run, name: str) -> dict[str, Any]:
    """Return {"score": float, "details": dict} of one metric on a run.

    Raises
    ------
    ValueError
        If there is no such metric, or the run's data or system does not allow it.
    """
    if name not in _METRICS:
        raise ValueError(f"metric is {name!r}; accepted: {', '.join(_METRICS)}")
    return _METRICS[name](run)


def _of_factors(function: str) -> Callable[[Run], dict[str, Any]]:
    """Return a scorer by a function of `pydisent.metrics` that needs ground-truth factors."""

    def measure(run: Run) -> dict[str, Any]:
        from pydisent import metrics
        from pydisent.data import FactorDataset

        if not isinstance(run.dataset, FactorDataset):
            raise ValueError(
                f"this metric compares codes with ground-truth factors, and the data set "
                f"{run.dataset.name!r} has none; accepted: one with factors, such as 'sprites'"
            )
        result = getattr(metrics, function)(_encoder(run), run.dataset, seed=0)
        return {"score": float(result.score), "details": _plain(result.details)}

    return measure


def _encoder(run: Run) -> Callable[[Tensor], Tensor]:
    @torch.no_grad()
    def encode(images: Tensor) -> Tensor:
        return run.system.encode(images.to(run.system.device)).cpu()

    return encode


def _f_diagonal(run: Run) -> dict[str, Any]:
    """Return the mean of the first k diagonal entries of F (Ramesh et al., Eq. 6)."""
    from pydisent import eigenvector_heatmap

    k = getattr(run.system.config, "k", None)
    if k is None:
        raise ValueError(f"f-diagonal needs a system with the setting k, not {run.system.name}")
    codes = run.system.sample_code(_HEATMAP_CODES, torch.Generator().manual_seed(0))
    heatmap = eigenvector_heatmap(run.system.decode, codes)
    diagonal = heatmap.diagonal()[:k]
    return {"score": float(diagonal.mean()), "details": {"diagonal": diagonal.tolist()}}


def _plain(value: Any) -> Any:
    """Return `value` with tensors and arrays as lists."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


_METRICS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "f-diagonal": _f_diagonal,
    "z-diff": _of_factors("z_diff"),
    "factor-vae": _of_factors("factor_vae_score"),
}
