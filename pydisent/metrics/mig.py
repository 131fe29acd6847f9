"""MIG: gap in mutual information between the two codes most informative about a factor."""

from __future__ import annotations

from pydisent.metrics._active import activity
from pydisent.metrics._information import entropies, mutual_information
from pydisent.metrics._result import MetricResult
from pydisent.metrics._table import Array, check_table, top_two_gap


def mig(codes: Array, factors: Array, *, bins: int = 20) -> MetricResult:
    """Mutual information gap (Chen et al. 2018), with disentanglement_lib's binned estimate.

    The mean over factors v of (I(z_j; v) − max_{i ≠ j} I(z_i; v)) / H(v), with j the code of
    largest mutual information; codes are binned into equal parts of their range.

    Parameters
    ----------
    codes : array
        (N, d) codes, one row per image.
    factors : array
        (N, f) integers or booleans, the values of the ground-truth factors.
    bins : int
        Bins per code; there must be at least as many samples.

    Returns
    -------
    MetricResult
        Score in [0, 1]; details: ``mutual_information`` (d, f) and ``entropy`` (f,), both in
        nats, the ``gap`` of each factor, and ``active_codes``, with a ``notice`` if that is at most
        one. A lone code's gap is to 0.

    Raises
    ------
    ValueError, TypeError
        If codes are not finite, factors are not integers or are constant, or there are too few
        samples.
    """
    table = check_table(codes, factors)
    information, entropy = mutual_information(table, bins), entropies(table)
    gap = top_two_gap(information) / entropy
    return MetricResult(
        float(gap.mean()),
        {
            "gap": gap.tolist(),
            "entropy": entropy.tolist(),
            "mutual_information": information.tolist(),
            "bins": bins,
            "samples": len(table.codes),
            **activity(table.codes),
        },
    )
