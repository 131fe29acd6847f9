"""SAP: score gap between the two codes that best predict a factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from pydisent._checks import check_number, check_one_of
from pydisent._extras import optional
from pydisent.metrics._active import ACTIVE_STD, activity
from pydisent.metrics._result import MetricResult
from pydisent.metrics._table import (
    Array,
    Table,
    check_factors,
    check_tables,
    labelled,
    quantity_columns,
    top_two_gap,
)
from pydisent.metrics._thresholds import threshold_accuracy

VARIANTS = ("thresholds", "svm", "continuous")
SVM_C = 0.01
CONSTANT = 1e-12  # variance below which a code's correlation counts as 0


def sap(
    codes: Array,
    factors: Array,
    test_codes: Array | None = None,
    test_factors: Array | None = None,
    *,
    variant: Literal["thresholds", "svm", "continuous"] = "thresholds",
    continuous: Sequence[int] = (),
    prune_std: float = 0.05,
) -> MetricResult:
    """Separated attribute predictability: gap between the two best codes, averaged over factors.

    S_ij measures how well code i alone predicts factor j (Kumar et al. 2018, sec. 3).

    Parameters
    ----------
    codes, factors : array
        (N, d) codes, and (N, f) integers or booleans.
    test_codes, test_factors : array, optional
        (M, d) and (M, f); by default ``codes`` and ``factors``.
    variant : {"thresholds", "svm", "continuous"}
        ``thresholds``, as in the paper: the balanced accuracy of the best c − 1 thresholds for a
        factor with c values, fitted exactly to the test samples themselves; intervals may predict
        any class; a code whose standard deviation is below ``prune_std`` is inactive and scores 0.
        The paper's full definition needs `continuous`; without it, quantities are treated as
        classes. ``svm``, as in disentanglement_lib: test accuracy of a linear SVM (C = 0.01,
        balanced classes) trained on the first samples. ``continuous``, as in disentanglement_lib:
        squared correlation over the first samples.
    continuous : sequence of int
        Columns of factors that are quantities, for which ``thresholds`` uses the R² of a linear
        fit, as in the paper.
    prune_std : float
        Minimum standard deviation of an active code, for ``thresholds``.

    Returns
    -------
    MetricResult
        Score in [0, 1]; details: ``matrix`` S (d, f), the ``gap`` of each factor, and
        ``active_codes``, with a ``notice`` if that is at most one. A lone code's gap is to 0.

    Raises
    ------
    ValueError, TypeError
        If a table is malformed or incomplete, or an option is unknown or out of range.
    """
    check_one_of("variant", variant, tuple(VARIANTS))
    train, held_out = check_tables(codes, factors, test_codes, test_factors)
    columns = quantity_columns(continuous, len(train.sizes))
    _check_options(variant, columns, prune_std)
    test = train if held_out is None else held_out
    details: dict[str, Any] = {"variant": variant}
    if variant == "thresholds":
        if test_factors is not None:  # only test samples and their values matter
            values = check_factors(test_factors, len(test.codes), "test_factors")
            test = labelled(test.codes, values, "test_factors")
        matrix = _by_thresholds(test, columns, prune_std)
        details |= {"continuous": columns, "prune_std": prune_std}
    elif variant == "svm":
        matrix, details["not_converged"] = _by_svm(train, test)
    else:
        matrix = _squared_correlation(train.codes, train.values)
    least = {"thresholds": prune_std, "svm": ACTIVE_STD, "continuous": None}[variant]
    details |= activity(test.codes if variant == "thresholds" else train.codes, least)
    gap = top_two_gap(matrix)
    details |= {"gap": gap.tolist(), "matrix": matrix.tolist()}
    details |= {"samples": len(train.codes), "test_samples": len(held_out.codes) if held_out else 0}
    return MetricResult(float(gap.mean()), details)


def _check_options(variant: str, continuous: Sequence[int], prune_std: float) -> None:
    if continuous and variant != "thresholds":
        raise ValueError(f"continuous is for variant 'thresholds', got {variant!r} with it")
    check_number("prune_std", prune_std, at_least=0)


def _by_thresholds(test: Table, continuous: Sequence[int], prune_std: float) -> np.ndarray:
    active = test.codes.std(0) >= prune_std
    matrix = np.zeros((len(active), len(test.sizes)))
    if active.any():
        matrix[active] = np.stack(
            [
                _squared_correlation(test.codes[:, active], test.values[:, [j]])[:, 0]
                if j in continuous
                else threshold_accuracy(test.codes[:, active], labels, size)
                for j, (labels, size) in enumerate(zip(test.labels.T, test.sizes))
            ],
            1,
        )
    return matrix


def _by_svm(train: Table, test: Table) -> tuple[np.ndarray, int]:
    """Return S and the number of classifiers that did not converge."""
    import warnings

    with optional("SAP"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import LinearSVC

    matrix, unconverged = np.empty((train.codes.shape[1], len(train.sizes))), 0
    for i, j in np.ndindex(matrix.shape):
        classifier = LinearSVC(C=SVM_C, class_weight="balanced", random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(train.codes[:, [i]], train.labels[:, j])
        unconverged += int(classifier.n_iter_ >= classifier.max_iter)
        matrix[i, j] = (classifier.predict(test.codes[:, [i]]) == test.labels[:, j]).mean()
    return matrix, unconverged


def _squared_correlation(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return R² of a linear fit from each code (N, d) to each factor (N, f): (d, f)."""
    x, y = codes - codes.mean(0), factors - factors.mean(0)
    varies = (x**2).mean(0) > CONSTANT
    squared = np.zeros((x.shape[1], y.shape[1]))
    x = x[:, varies]
    squared[varies] = (x.T @ y) ** 2 / np.outer((x**2).sum(0), (y**2).sum(0))
    return squared
