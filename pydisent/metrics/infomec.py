"""InfoMEC: modularity, explicitness and compactness from normalised mutual information."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from pydisent._checks import check_integer
from pydisent._extras import optional
from pydisent.metrics._active import activity
from pydisent.metrics._result import MetricResult
from pydisent.metrics._table import Array, Table, check_table, standardised

NEIGHBOURS = 10  # for estimating mutual information
ACTIVE_RANGE = 1 / 20  # of the largest range of a code


def infomec(
    codes: Array, factors: Array, *, discrete_codes: bool = False, seed: int = 0
) -> MetricResult:
    """InfoM, InfoE and InfoC (Hsu et al. 2023, "Disentanglement via Latent Quantization").

    With n_ij = I(z_j; v_i) / H(v_i), f factors and d' active codes:

    - modularity InfoM = (mean_j max_i n_ij / sum_i n_ij − 1/f) / (1 − 1/f);
    - compactness InfoC = (mean_i max_j n_ij / sum_j n_ij − 1/d') / (1 − 1/d');
    - explicitness InfoE = mean_i (H_V(v_i) − H_V(v_i | z)) / H_V(v_i), with H_V the cross-entropy
      of a logistic regression on all codes, including inactive ones, on the samples that it is
      fitted to.

    As in the authors' program, the regression has no penalty, weights classes equally and takes at
    most 100 iterations of L-BFGS, so that H_V(v_i) is the logarithm of the number of values; and I
    is Ross's (2014) estimate with 10 nearest neighbours, or the plug-in estimate for discrete
    codes.

    Parameters
    ----------
    codes : array
        (N, d) codes, one row per image.
    factors : array
        (N, f) integers or booleans, f at least 2.
    discrete_codes : bool
        Whether codes are quantised: their values are then classes, which the regression takes as
        indicators. Otherwise codes are standardised. A discrete code is active if it varies, a
        continuous one if its range exceeds a twentieth of the largest.
    seed : int
        Seed of the noise, 1e-10 of a code, that separates equal codes for the nearest neighbours.

    Returns
    -------
    MetricResult
        InfoM in [0, 1]; details: ``explicitness`` (at most 1) and ``compactness`` in [0, 1], None
        if at most one code is active; ``normalised_information`` n (d, f); which codes are
        ``active``; ``explicitness_by_factor``; the number of regressions ``not_converged``;
        ``active_codes``, with a ``notice`` if that is at most one. A code or factor without any
        information counts as evenly shared; without an active code InfoM is 0.

    Raises
    ------
    ValueError, TypeError
        If codes are not finite, factors are not integers or are constant, or no two samples share a
        factor's value; if there is only one factor; if a discrete code takes more values than half
        the number of samples.
    """
    check_integer("seed", seed, at_least=0, at_most=2**32 - 1)
    table = check_table(codes, factors)
    count, f = table.labels.shape
    if f < 2:
        raise ValueError("factors must have at least 2 columns to tell one from the rest, got 1")
    for j, size in enumerate(table.sizes):
        if size == count:
            raise ValueError(f"factors must repeat values; column {j} takes {size} in {count} rows")
    if discrete_codes:
        values = _classes(table.codes)
        information = _by_counts(values, table)
        active = np.ptp(table.codes, axis=0) > 0
    else:
        values = standardised(table.codes)
        information = _by_neighbours(values, table, seed)
        active = np.ptp(table.codes, axis=0) > ACTIVE_RANGE * np.ptp(table.codes, axis=0).max()
    by_factor, unconverged = _explicitness(values, table, discrete_codes)
    pruned = information[active]
    details: dict[str, Any] = {
        "explicitness": float(by_factor.mean()),
        "compactness": _concentration(pruned.T) if len(pruned) > 1 else None,
        "explicitness_by_factor": by_factor.tolist(),
        "normalised_information": information.tolist(),
        "active": active.tolist(),
        "not_converged": unconverged,
        "discrete_codes": bool(discrete_codes),
        "samples": count,
        "seed": seed,
        **activity(table.codes),
    }
    return MetricResult(_concentration(pruned) if len(pruned) else 0.0, details)


def _concentration(information: np.ndarray) -> float:
    """Return the mean over rows of the largest share, rescaled from [1/columns, 1] to [0, 1]."""
    columns = information.shape[1]
    total, largest = information.sum(1), information.max(1)
    share = np.divide(largest, total, out=np.full(len(total), 1 / columns), where=total > 0)
    return float((share.mean() - 1 / columns) / (1 - 1 / columns))


def _classes(codes: np.ndarray) -> np.ndarray:
    numbers = np.empty(codes.shape, np.int64)
    for j, column in enumerate(codes.T):
        found, numbers[:, j] = np.unique(column, return_inverse=True)
        if len(found) > max(2, len(codes) // 2):
            raise ValueError(
                "codes must repeat values where discrete_codes is True; column "
                f"{j} takes {len(found)} in {len(codes)} rows"
            )
    return numbers


def _by_neighbours(codes: np.ndarray, table: Table, seed: int) -> np.ndarray:
    """Return n (d, f) for continuous codes."""
    with optional("InfoMEC"):
        from sklearn.feature_selection import mutual_info_classif

    information = np.empty((codes.shape[1], len(table.sizes)))
    for (j, i), _ in np.ndenumerate(information):
        found = mutual_info_classif(
            codes[:, [j]],
            table.labels[:, i],
            discrete_features=False,
            n_neighbors=NEIGHBOURS,
            random_state=seed,
        )
        information[j, i] = found[0] if np.ptp(codes[:, j]) else 0.0
    return information / _entropy(table)


def _by_counts(classes: np.ndarray, table: Table) -> np.ndarray:
    """Return n (d, f) for discrete codes."""
    with optional("InfoMEC"):
        from sklearn.metrics import mutual_info_score

    pairs = [[mutual_info_score(v, z) for v in table.labels.T] for z in classes.T]
    return np.array(pairs).clip(min=0) / _entropy(table)


def _entropy(table: Table) -> np.ndarray:
    shares = [np.bincount(labels) / len(labels) for labels in table.labels.T]
    return np.array([-(share * np.log(share)).sum() for share in shares])


def _explicitness(values: np.ndarray, table: Table, discrete: bool) -> tuple[np.ndarray, int]:
    """Return the fraction of each factor's entropy that codes explain, and non-converged fits."""
    with optional("InfoMEC"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import log_loss
        from sklearn.preprocessing import OneHotEncoder

    given = OneHotEncoder().fit_transform(values) if discrete else values
    found, unconverged = np.empty(len(table.sizes)), 0
    for i, labels in enumerate(table.labels.T):
        model = LogisticRegression(C=np.inf, class_weight="balanced")  # L-BFGS, 100 iterations
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(given, labels)
        unconverged += int(model.n_iter_.max() >= model.max_iter)
        found[i] = 1 - log_loss(labels, model.predict_proba(given)) / np.log(table.sizes[i])
    return found, unconverged
