"""DCI-ES: explicitness from loss-capacity curves, and the size of a code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from pydisent._checks import check, check_counts, check_integer
from pydisent._extras import optional
from pydisent.metrics._active import activity
from pydisent.metrics._result import MetricResult
from pydisent.metrics._table import Array, Table, check_tables, for_trees, quantity_columns
from pydisent.metrics.dci import concentration

DEPTHS = (1, 2, 3, 4, 8, 10, 12, 14, 16, 18, 20, 32)


def dci_es(
    codes: Array,
    factors: Array,
    test_codes: Array,
    test_factors: Array,
    *,
    continuous: Sequence[int] = (),
    depths: Sequence[int] = DEPTHS,
    trees: int = 100,
    seed: int = 0,
) -> MetricResult:
    """Explicitness and size, with D, C and I from the same probes (Eastwood et al. 2023, DCI-ES).

    Probes are the authors' random forests, with capacity κ_t, the depth of their trees. A factor's
    loss ℓ_t is measured on test samples, as 1 − accuracy, or 1 − R² for a quantity: the least up to
    κ_t. With ℓ* the last of these and ℓ_b the loss of a constant prediction, 1 − 1/c for c values
    and 1 for a quantity,

        E = 1 − sum_t ((ℓ_t + ℓ_{t+1}) / 2 − ℓ*) (κ_{t+1} − κ_t) / (ℓ_b (κ_T − κ_1) / 2),

    averaged over factors. E measures how little capacity suffices for whatever the codes tell:
    codes that tell nothing have a flat curve and E = 1, and show only in their informativeness.
    Size is S = f / d.

    Parameters
    ----------
    codes, factors : array
        (N, d) codes, and (N, f) integers or booleans, both d and f at least 2.
    test_codes, test_factors : array
        (M, d) and (M, f), for measuring losses.
    continuous : sequence of int
        Columns of factors that are quantities, to be regressed; the others are classified.
    depths : sequence of int
        κ, at least two depths in ascending order.
    trees : int
        Trees per forest.
    seed : int
        Seed of the forests.

    Returns
    -------
    MetricResult
        E, at most 1; details: ``size``; ``disentanglement``, ``completeness`` and
        ``informativeness`` (mean accuracy or R²) at the most informative ``depth``;
        ``explicitness_by_factor``, the ``losses`` (T, f) as measured, ``baseline_losses`` (f,) and
        ``importance`` (d, f); ``active_codes``, with a ``notice`` if that is at most one.

    Raises
    ------
    ValueError, TypeError
        If a table is malformed or has a single column, a quantity is constant among test samples,
        or an option is out of range.
    """
    check_counts(trees=trees)
    check_integer("seed", seed, at_least=0, at_most=2**32 - 1)
    _check_depths(depths)
    train, test = check_tables(codes, factors, test_codes, test_factors)
    if test is None:
        raise ValueError("test_codes must be given, got None")
    for name, columns in (("codes", train.codes.shape[1]), ("factors", len(train.sizes))):
        check(columns >= 2, name, "of at least 2 columns to share importance", columns)
    columns = quantity_columns(continuous, len(train.sizes))
    train, test = for_trees(train, test)
    assert test is not None
    probes = [
        _probe(train, test, j, j in columns, depths, trees, seed) for j in range(len(train.sizes))
    ]
    losses = np.stack([probe.losses for probe in probes], 1)
    baseline = np.array([probe.baseline for probe in probes])
    best = int((1 - losses).mean(1).argmax())
    importance = np.stack([probe.importance[best] for probe in probes], 1)
    by_factor = explicitness(losses, np.array(depths, float), baseline)
    details: dict[str, Any] = {
        "size": importance.shape[1] / importance.shape[0],
        "disentanglement": concentration(importance),
        "completeness": concentration(importance.T),
        "informativeness": float(1 - losses[best].mean()),
        "depth": int(depths[best]),
        "explicitness_by_factor": by_factor.tolist(),
        "losses": losses.tolist(),
        "baseline_losses": baseline.tolist(),
        "importance": importance.tolist(),
        "depths": [int(depth) for depth in depths],
        "continuous": columns,
        "trees": trees,
        "samples": len(train.codes),
        "test_samples": len(test.codes),
        "seed": seed,
        **activity(train.codes),
    }
    return MetricResult(float(by_factor.mean()), details)


def explicitness(losses: np.ndarray, capacities: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """Return E of each factor, (f,).

    Parameters
    ----------
    losses : numpy.ndarray
        (T, f), of which the running minimum is used.
    capacities : numpy.ndarray
        (T,) in ascending order.
    baseline : numpy.ndarray
        (f,) the losses without any code.
    """
    least = np.minimum.accumulate(losses, axis=0)
    above = least - least[-1]
    area = ((above[1:] + above[:-1]) / 2 * np.diff(capacities)[:, None]).sum(0)
    return np.asarray(1 - 2 * area / (baseline * (capacities[-1] - capacities[0])))


def _check_depths(depths: Sequence[int]) -> None:
    for depth in depths:
        check_integer("depths", depth, at_least=1)
    ascending = len(depths) > 1 and all(a < b for a, b in pairwise(depths))
    check(ascending, "depths", "at least two integers in ascending order", tuple(depths))


@dataclass(frozen=True)
class _Probe:
    losses: np.ndarray  # (T,)
    baseline: float
    importance: list[np.ndarray]  # (d,) of each depth


def _probe(
    train: Table,
    test: Table,
    column: int,
    quantity: bool,
    depths: Sequence[int],
    trees: int,
    seed: int,
) -> _Probe:
    """Fit forests of all depths to a factor, as a quantity or as classes."""
    with optional("DCI-ES"):
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind: Any = RandomForestClassifier
    known, asked = train.labels[:, column], test.labels[:, column]
    baseline = 1 - 1 / float(train.sizes[column])
    if quantity:
        kind, baseline = RandomForestRegressor, 1.0
        known, asked = (table.values[:, column] for table in (train, test))
        varies = asked.min() < asked.max()
        check(varies, "test_factors", f"varying in column {column}, a quantity", asked[0])
    losses: list[float] = []
    importance: list[np.ndarray] = []
    whole = False
    for depth in depths:
        if whole:  # no tree was truncated: deeper ones are identical
            losses.append(losses[-1])
            importance.append(importance[-1])
            continue
        forest = kind(trees, max_depth=int(depth), random_state=seed)
        forest.set_params(n_jobs=torch.get_num_threads()).fit(train.codes, known)
        losses.append(1 - float(forest.score(test.codes, asked)))
        importance.append(forest.feature_importances_)
        whole = max(tree.get_depth() for tree in forest.estimators_) < depth
    return _Probe(np.array(losses), baseline, importance)
