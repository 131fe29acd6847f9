"""Rank correlations of TPL with supervised scores (Zhu et al., Table 1)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pydisent._extras import optional

SUPERVISED = ("z-diff", "dci", "factor-vae", "mig")
LEAST_ACTIVE = {"TPL (act > 0)": 0, "TPL (act > 4)": 4}


def rank_correlations(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return Spearman's correlation of −TPL, and of the FactorVAE score, with supervised scores.

    Lower TPL is better, hence the minus sign. The runs of a row are those with more active
    dimensions, by TPL, than its bound. A row of fewer than three runs is empty.
    """
    scored = [run["scores"] for run in runs if {"tpl", "tpl/active"} <= run["scores"].keys()]
    table = {}
    for name, bound in LEAST_ACTIVE.items():
        active = [each for each in scored if each["tpl/active"] > bound]
        table[name] = _row([-each["tpl"] for each in active], active)
    return table | {"FVM": _row([each.get("factor-vae", np.nan) for each in scored], scored)}


def _row(values: Sequence[float], scored: Sequence[dict[str, float]]) -> dict[str, float]:
    found = {}
    for key in SUPERVISED:
        pairs = [(value, each[key]) for value, each in zip(values, scored) if key in each]
        if len(pairs) >= 3:
            correlation = spearman(*(np.array(side, float) for side in zip(*pairs)))
            if np.isfinite(correlation):
                found[key] = correlation
    return found


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's rank correlation of x and y (N,); ties share their mean rank."""
    with optional():
        from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic)
