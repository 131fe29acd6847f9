"""DCI: disentanglement, completeness and informativeness from code importances."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from pydisent._checks import check_integer, check_one_of
from pydisent._extras import optional
from pydisent.metrics._active import activity
from pydisent.metrics._boosting import SortedCodes, boost
from pydisent.metrics._result import MetricResult
from pydisent.metrics._table import Array, Table, check_tables, for_trees

TINY = 1e-11
# Codes times classes above which several processes repay their start-up: seconds of work.
WORTH_PROCESSES = 2_000_000

Fit = tuple[np.ndarray, np.ndarray, np.ndarray]


def dci(
    codes: Array,
    factors: Array,
    test_codes: Array | None = None,
    test_factors: Array | None = None,
    *,
    estimator: Literal["presorted", "gbt"] = "presorted",
    seed: int = 0,
) -> MetricResult:
    """Disentanglement, completeness and informativeness (Eastwood and Williams 2018).

    Boosted trees predict each factor from the codes; R_ij is the importance of code i for factor
    j. Disentanglement is the mean over codes of 1 − H_f(R's row i), weighted by the codes'
    importance; completeness is the analogous mean of 1 − H_d(R's column j) over factors, as in
    disentanglement_lib.

    Parameters
    ----------
    codes, factors : array
        (N, d) codes, and (N, f) integers or booleans, both d and f at least 2.
    test_codes, test_factors : array, optional
        (M, d) and (M, f); without them there is no test accuracy.
    estimator : {"presorted", "gbt"}
        ``gbt``: scikit-learn's ``GradientBoostingClassifier``, the definition, which takes minutes
        for ten thousand samples. ``presorted``: the same algorithm, which sorts the codes only once
        and, where that pays off, distributes factors over as many processes as PyTorch has threads.
    seed : int
        Seed of the choice among equally good splits.

    Returns
    -------
    MetricResult
        Disentanglement in [0, 1]; details: ``completeness``, ``informativeness`` (test accuracy)
        and ``informativeness_train``, means over factors; ``importance`` R (d, f);
        ``active_codes``, with a ``notice`` if that is at most one.

    Raises
    ------
    ValueError, TypeError
        If a table is malformed, incomplete or has a single column, or ``estimator`` is unknown.
    """
    check_one_of("estimator", estimator, tuple(ESTIMATORS))
    check_integer("seed", seed, at_least=0)
    train, test = check_tables(codes, factors, test_codes, test_factors)
    for name, columns in (("codes", train.codes.shape[1]), ("factors", len(train.sizes))):
        if columns < 2:
            raise ValueError(f"{name} must have at least 2 columns to share importance, got 1")
    importance, fitted, held_out = ESTIMATORS[estimator](*for_trees(train, test), seed)
    return MetricResult(
        concentration(importance),
        {
            "completeness": concentration(importance.T),
            "informativeness": None if test is None else float(held_out.mean()),
            "informativeness_train": float(fitted.mean()),
            "importance": importance.tolist(),
            "estimator": estimator,
            "samples": len(train.codes),
            "test_samples": 0 if test is None else len(test.codes),
            "seed": seed,
            **activity(train.codes),
        },
    )


def concentration(importance: np.ndarray) -> float:
    """Return the mean over rows of 1 − H(row) / log(columns), weighted by the rows' sums.

    1e-11 is added to each entry for the entropy, as in disentanglement_lib; if all importances are
    zero, rows have equal weight.
    """
    share = importance + TINY
    share /= share.sum(1, keepdims=True)
    entropy = -(share * np.log(share)).sum(1) / np.log(share.shape[1])
    mass = importance.sum(1) if importance.sum() else np.ones(len(importance))
    return float(((1 - entropy) * mass).sum() / mass.sum())


def _by_presorted(train: Table, test: Table | None, seed: int) -> Fit:
    with optional("DCI"):
        from joblib import Parallel, delayed

    held_out = train.codes[:0] if test is None else test.codes
    answers = train.labels[:0] if test is None else test.labels
    codes = SortedCodes(train.codes, held_out)
    # Processes, as threads would contend for the interpreter lock every few microseconds.
    pays = train.codes.size * sum(train.sizes) >= WORTH_PROCESSES
    workers = min(torch.get_num_threads(), len(train.sizes)) if pays else 1
    longest_first = np.argsort(train.sizes)[::-1]
    fits = Parallel(n_jobs=workers)(
        delayed(boost)(
            codes,
            train.labels[:, j],
            answers[:, j],
            train.sizes[j],
            np.random.default_rng([seed, j]),
        )
        for j in longest_first
    )
    ordered = [fits[place] for place in np.argsort(longest_first)]
    importance = np.stack([fit.importance for fit in ordered], 1)
    return importance, np.array([f.train for f in ordered]), np.array([f.test for f in ordered])


def _by_gbt(train: Table, test: Table | None, seed: int) -> Fit:
    with optional("DCI"):
        from sklearn.ensemble import GradientBoostingClassifier

    importance, fitted, held_out = [], [], []
    for j, labels in enumerate(train.labels.T):
        model = GradientBoostingClassifier(random_state=seed).fit(train.codes, labels)
        importance.append(model.feature_importances_)
        fitted.append(model.score(train.codes, labels))
        held_out.append(np.nan if test is None else model.score(test.codes, test.labels[:, j]))
    return np.stack(importance, 1), np.array(fitted), np.array(held_out)


ESTIMATORS = {"presorted": _by_presorted, "gbt": _by_gbt}
