"""UDR: agreement between codes of models with different seeds, up to order and sign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from pydisent._checks import check_integer, check_one_of
from pydisent._extras import optional
from pydisent.data.indices import plain_array
from pydisent.metrics._result import MetricResult
from pydisent.metrics._table import Array, check_codes, standardised

LASSO_ALPHA = 0.1


def udr(
    codes: Sequence[Array],
    kl: Sequence[Array],
    *,
    similarity: Literal["lasso", "spearman"] = "lasso",
    kl_threshold: float = 0.01,
    seed: int = 0,
) -> MetricResult:
    """Unsupervised disentanglement ranking of models by their codes for the same images.

    R_ab measures the similarity of code a of one model and code b of another; a pair of models
    scores the mean of (max_a R_ab)² / sum_a R_ab over b, averaged with the same over a
    (Duan et al. 2020, as in disentanglement_lib). Only informative codes are used. A model scores
    the median over its pairs with all others, and the result is the median over all pairs.

    Parameters
    ----------
    codes : sequence of array
        (N, d) codes of the same N images, from each of two or more models.
    kl : sequence of array
        (d,) each model's mean KL(q(z_a | x) ‖ p(z_a)) in nats.
    similarity : {"lasso", "spearman"}
        ``lasso``: the absolute weights of a lasso (α = 0.1) from one model's standardised codes to
        each of the other's; ``spearman``: absolute rank correlation.
    kl_threshold : float
        Codes with a larger KL are informative.
    seed : int
        Seed of the lasso.

    Returns
    -------
    MetricResult
        Score in [0, 1], up to overshoot of the lasso; details: ``models`` (n,), ``pairs`` (n, n)
        with None on the diagonal (row: the model regressed from), ``informative`` codes of each
        model.

    Raises
    ------
    ValueError, TypeError
        If there are fewer than two models, codes are malformed or for different numbers of images,
        or an option is unknown or out of range.
    """
    check_one_of("similarity", similarity, ("lasso", "spearman"))
    check_integer("seed", seed, at_least=0, at_most=2**32 - 1)
    if not 0 <= kl_threshold < float("inf"):
        raise ValueError(f"kl_threshold must be finite and at least 0, got {kl_threshold}")
    models = _informative(codes, kl, kl_threshold)
    pairs = np.full((len(models), len(models)), np.nan)
    for i, j in np.ndindex(pairs.shape):
        if i != j:
            pairs[i, j] = _agreement(models[i], models[j], similarity, seed)
    off = ~np.eye(len(models), dtype=bool)
    return MetricResult(
        float(np.median(pairs[off])),
        {
            "models": [float(np.median(pairs[off[:, j], j])) for j in range(len(models))],
            "pairs": [[None if np.isnan(x) else float(x) for x in row] for row in pairs],
            "informative": [model.shape[1] for model in models],
            "similarity": similarity,
            "kl_threshold": kl_threshold,
        },
    )


def _informative(codes: Sequence[Array], kl: Sequence[Array], threshold: float) -> list[np.ndarray]:
    """Return the informative codes of each model, standardised."""
    if len(codes) < 2 or len(kl) != len(codes):
        raise ValueError(
            f"codes and kl must be of the same two models or more, got {len(codes)} and {len(kl)}"
        )
    models: list[np.ndarray] = []
    for number, (given, divergence) in enumerate(zip(codes, kl)):
        table = check_codes(given, f"codes[{number}]")
        flat = np.reshape(plain_array(divergence, f"kl[{number}]"), (1, -1))
        nats = check_codes(flat, f"kl[{number}]")[0]
        if len(nats) != table.shape[1]:
            raise ValueError(
                f"kl[{number}] must have one value per code, {table.shape[1]}, got {len(nats)}"
            )
        if models and len(table) != len(models[0]):
            raise ValueError(
                f"codes[{number}] must be of the same {len(models[0])} images, got {len(table)}"
            )
        models.append(standardised(table[:, (nats > threshold) & (np.ptp(table, axis=0) > 0)]))
    return models


def _agreement(first: np.ndarray, second: np.ndarray, similarity: str, seed: int) -> float:
    if not first.shape[1] or not second.shape[1]:
        return 0.0
    matrix = _lasso(first, second, seed) if similarity == "lasso" else _spearman(first, second)
    sides = [_strength(matrix, axis) for axis in (0, 1)]
    return float(np.mean(sides))


def _strength(matrix: np.ndarray, axis: int) -> float:
    total = matrix.sum(axis)
    squared = matrix.max(axis) ** 2
    return float(np.divide(squared, total, out=np.zeros_like(total), where=total > 0).mean())


def _lasso(first: np.ndarray, second: np.ndarray, seed: int) -> np.ndarray:
    with optional("UDR"):
        from sklearn.linear_model import Lasso

    model = Lasso(alpha=LASSO_ALPHA, random_state=seed).fit(first, second)
    return np.abs(model.coef_).reshape(second.shape[1], first.shape[1]).T


def _spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    with optional("UDR"):
        from scipy.stats import rankdata

    ranks = [rankdata(codes, axis=0) for codes in (first, second)]
    x, y = (r - r.mean(0) for r in ranks)
    return np.abs(x.T @ y) / np.sqrt(np.outer((x**2).sum(0), (y**2).sum(0)))
