"""Modularity: whether each code is informative about only one factor."""

from __future__ import annotations

import numpy as np

from pydisent.metrics._active import activity
from pydisent.metrics._information import mutual_information
from pydisent.metrics._result import MetricResult
from pydisent.metrics._table import Array, check_table


def modularity(codes: Array, factors: Array, *, bins: int = 20) -> MetricResult:
    """Modularity of Ridgeway and Mozer (2018), with disentanglement_lib's binned estimate.

    The mean over codes of 1 − sum_{j ≠ j*} m_j² / (m_{j*}² (f − 1)), with m_j = I(z; v_j) and j*
    the factor of the largest m_j: one minus the normalised squared distance to the template that
    has only m_{j*}.

    Parameters
    ----------
    codes : array
        (N, d) codes, one row per image.
    factors : array
        (N, f) integers or booleans, f at least 2.
    bins : int
        Bins per code; there must be at least as many samples.

    Returns
    -------
    MetricResult
        Score in [0, 1], where codes without any information count 0; details: the score
        ``by_code``, ``mutual_information`` (d, f) in nats, and ``active_codes``, with a ``notice``
        if that is at most one.

    Raises
    ------
    ValueError, TypeError
        If codes are not finite, factors are not integers or are constant, there is only one factor,
        or there are too few samples.
    """
    table = check_table(codes, factors)
    if len(table.sizes) < 2:
        raise ValueError("factors must have at least 2 columns to tell one from the rest, got 1")
    information = mutual_information(table, bins)
    squared = information**2
    most = squared.max(1)
    rest = (squared.sum(1) - most) / (len(table.sizes) - 1)
    by_code = 1 - np.divide(rest, most, out=np.ones_like(most), where=most > 0)
    return MetricResult(
        float(by_code.mean()),
        {
            "by_code": by_code.tolist(),
            "mutual_information": information.tolist(),
            "bins": bins,
            "samples": len(table.codes),
            **activity(table.codes),
        },
    )
