"""MCC: mean correlation of factors with codes assigned to them one to one."""

from __future__ import annotations

from typing import Literal

import numpy as np

from pydisent._checks import check_one_of
from pydisent._extras import optional
from pydisent.metrics._active import activity
from pydisent.metrics._result import MetricResult
from pydisent.metrics._table import Array, check_table

CORRELATIONS = ("pearson", "spearman")


def mcc(
    codes: Array,
    factors: Array,
    *,
    correlation: Literal["pearson", "spearman"] = "pearson",
) -> MetricResult:
    """Mean correlation coefficient (Hyvärinen and Morioka 2016) of codes assigned to factors.

    The largest mean, over factors v_j, of the absolute correlation of v_j and the code z_{a(j)},
    among assignments a that give no code to two factors, found exactly (Hungarian method). Factors
    are treated as quantities, so the score says little about factors whose values are unordered
    classes.

    Parameters
    ----------
    codes : array
        (N, d) codes, one row per image.
    factors : array
        (N, f) integers or booleans, the values of the ground-truth factors.
    correlation : {"pearson", "spearman"}
        ``pearson``: linear correlation. ``spearman``: rank correlation, with mean ranks for ties,
        which is invariant to increasing functions of a factor.

    Returns
    -------
    MetricResult
        Score in [0, 1]; details: the absolute correlations ``matrix`` (d, f), the ``assignment`` of
        a code to each factor, counted from 0, their ``by_factor`` correlations, and
        ``active_codes``, with a ``notice`` if that is at most one. A constant code correlates with
        nothing. With fewer codes than factors, those without a code (None) count 0.

    Raises
    ------
    ValueError, TypeError
        If codes are not finite, factors are not integers or are constant, or ``correlation`` is
        unknown.
    """
    check_one_of("correlation", correlation, CORRELATIONS)
    with optional("MCC"):
        from scipy.optimize import linear_sum_assignment

    table = check_table(codes, factors)
    x, y = table.codes, table.values
    if correlation == "spearman":
        x, y = _ranks(x), _ranks(y)
    matrix = _correlations(x, y)
    rows, columns = linear_sum_assignment(matrix, maximize=True)
    assignment: list[int | None] = [None] * len(table.sizes)
    by_factor = np.zeros(len(table.sizes))
    for row, column in zip(rows, columns):
        assignment[column], by_factor[column] = int(row), matrix[row, column]
    return MetricResult(
        float(by_factor.mean()),
        {
            "assignment": assignment,
            "by_factor": by_factor.tolist(),
            "matrix": matrix.tolist(),
            "correlation": correlation,
            "samples": len(table.codes),
            **activity(table.codes),
        },
    )


def _ranks(values: np.ndarray) -> np.ndarray:
    with optional("MCC"):
        from scipy.stats import rankdata

    return np.asarray(rankdata(values, axis=0))


def _correlations(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return |corr| of each code (N, d) and factor (N, f): (d, f), 0 for constant codes."""
    varies = codes.max(0) > codes.min(0)
    matrix = np.zeros((codes.shape[1], factors.shape[1]))
    matrix[varies] = np.abs(_unit(codes[:, varies]).T @ _unit(factors))
    return matrix.clip(max=1)


def _unit(values: np.ndarray) -> np.ndarray:
    """Return varying columns, centred and scaled to unit length."""
    scaled = np.ascontiguousarray(values)  # the order of summation affects rounding
    scaled = scaled / np.abs(scaled).max(0)  # else squares of tiny codes would underflow
    centred = scaled - scaled.mean(0)
    return centred / np.sqrt((centred**2).sum(0))
