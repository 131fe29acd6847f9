"""IRS: robustness of codes to interventions on all factors but their own."""

from __future__ import annotations

import numpy as np

from pydisent._checks import check_number
from pydisent.metrics._active import activity
from pydisent.metrics._information import discretise
from pydisent.metrics._result import MetricResult
from pydisent.metrics._table import Array, check_bins, check_table


def irs(
    codes: Array, factors: Array, *, quantile: float = 0.99, bins: int | None = 20
) -> MetricResult:
    """Interventional robustness score (Suter et al. 2019).

    For code i and factor j: 1 minus the mean, over the factor's values v, of the deviations'
    quantile Q(abs(z_i − E[z_i | v])), relative to the largest deviation from the code's mean. Each
    code counts with its best factor, weighted by that largest deviation.

    Parameters
    ----------
    codes : array
        (N, d) codes, one row per image.
    factors : array
        (N, f) integers or booleans.
    quantile : float
        Quantile of the deviations, in (0, 1]; 1 is the paper's maximum, 0.99 is
        disentanglement_lib's.
    bins : int or None
        The range of a factor with more values is cut into this many equal bins, as in
        disentanglement_lib; None uses all values unchanged.

    Returns
    -------
    MetricResult
        Score in [0, 1], 0 if every code is constant; details: ``matrix`` (d, f) and the
        ``weights`` of the codes (both 0 for a constant one), the ``parents`` (the best factor of
        each code; None for a constant one), ``num_active_dims`` (the number of non-constant codes),
        and ``active_codes``, with a ``notice`` if that is at most one.

    Raises
    ------
    ValueError, TypeError
        If codes are not finite, factors are not integers or are constant, or an option is out of
        range.
    """
    table = check_table(codes, factors)
    check_number("quantile", quantile, above=0, at_most=1)
    labels = table.labels
    if bins is not None:
        check_bins(bins, len(labels))
        labels = np.where(table.sizes > bins, discretise(table.values, bins), labels)
    active = np.ptp(table.codes, axis=0) > 0
    weights = np.where(active, np.abs(table.codes - table.codes.mean(0)).max(0), 0.0)
    matrix = np.zeros((len(active), labels.shape[1]))
    for j, column in enumerate(labels.T):
        groups = [table.codes[column == value][:, active] for value in np.unique(column)]
        deviations = [np.quantile(np.abs(g - g.mean(0)), quantile, axis=0) for g in groups]
        matrix[active, j] = 1 - np.mean(deviations, axis=0) / weights[active]
    best = matrix.max(1)
    return MetricResult(
        float(np.average(best, weights=weights)) if active.any() else 0.0,
        {
            "matrix": matrix.tolist(),
            "weights": weights.tolist(),
            "parents": [int(j) if on else None for j, on in zip(matrix.argmax(1), active)],
            "num_active_dims": int(active.sum()),
            "quantile": quantile,
            "bins": bins,
            "samples": len(table.codes),
            **activity(table.codes),
        },
    )
