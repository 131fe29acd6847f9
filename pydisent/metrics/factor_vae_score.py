"""FactorVAE score: the least-varying code identifies the fixed factor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from pydisent._checks import check_counts, check_integer, check_number, check_one_of
from pydisent.metrics._active import activity
from pydisent.metrics._encode import CodeTable, Encoder, FactorGrid
from pydisent.metrics._result import MetricResult
from pydisent.metrics._sampling import (
    check_factor_dataset,
    check_varying,
    draw_sharing,
    draw_uniform,
    image_pool,
)

CHUNK = 1024


@dataclass(frozen=True)
class Settings:
    """Counts and the pruning threshold of a variant."""

    batch: int = 64
    train_votes: int = 10_000
    eval_votes: int = 5_000
    variance_samples: int = 10_000
    prune_std: float = 0.05


VARIANTS = {
    "locatello": Settings(),
    "zhu": Settings(batch=60, prune_std=0.1),
    # The threshold applies to the variance, and the score is the accuracy on the training votes.
    "jeon": Settings(batch=100, train_votes=800, eval_votes=0, prune_std=0.05**0.5),
}


def factor_vae_score(
    encode: Encoder,
    dataset: FactorGrid,
    *,
    variant: Literal["locatello", "zhu", "jeon"] = "locatello",
    seed: int = 0,
    batch: int | None = None,
    train_votes: int | None = None,
    eval_votes: int | None = None,
    variance_samples: int | None = None,
    prune_std: float | None = None,
    compat: Literal["disentanglement_lib"] | None = None,
    max_images: int | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
) -> MetricResult:
    """Accuracy of the majority-vote classifier from least-varying code to fixed factor.

    A vote fixes one factor at one value, draws images, and casts argmin_j of the codes' variance
    over them relative to that over the data, among codes not pruned as constant (Kim and Mnih
    2018). Each distinct image drawn is encoded once.

    Parameters
    ----------
    encode : callable
        From images (N, C, H, W), float32 in [0, 1], to codes (N, d).
    dataset : FactorDataset or ObservedFactorDataset
        Images with their ground-truth factors.
    variant : {"locatello", "zhu", "jeon"}
        Defaults of the numbers below: 64 images per vote, 10 000 and 5 000 votes, pruning below
        0.05 (Locatello et al.); 60 images and 0.1 (Zhu et al.); 100 images, 800 votes for both
        training and scoring, pruning of variances below 0.05 (Jeon et al., appendix).
    seed : int
        Determines the result.
    batch : int
        Images per vote, at least 2.
    train_votes, eval_votes : int
        Votes that build the classifier, and votes that score it; with 0 ``eval_votes`` the score is
        the accuracy on the training votes.
    variance_samples : int
        Images, at least 2, for estimating the codes' (unbiased) variance over the data.
    prune_std : float
        Codes with a smaller standard deviation never win a vote; neither do constant ones.
    compat : {"disentanglement_lib"}, optional
        Report its ``num_active_dims`` in the details: the number of codes, pruned or not (a fault).
    max_images : int, optional
        Draw only from this many images, themselves drawn uniformly from the grid; by default, the
        definition, from all.
    batch_size : int, optional
        Images per call of ``encode``; see `encode_dataset`.
    device : torch.device, optional
        Device of the images passed to ``encode``; the CPU by default.

    Returns
    -------
    MetricResult
        Score in [0, 1], 0 if every code is pruned; details: both accuracies, the codes' standard
        deviations, ``num_active_dims``, votes (d, f) of the training set, images encoded, and
        ``active_codes``, with a ``notice`` if that is at most one.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, a factor has one value, or ``encode`` does not return
        finite (N, d) codes.
    """
    given = {
        "batch": batch,
        "train_votes": train_votes,
        "eval_votes": eval_votes,
        "variance_samples": variance_samples,
        "prune_std": prune_std,
    }
    settings = check_settings(variant, compat, given)
    check_integer("seed", seed, at_least=0)
    check_factor_dataset(dataset)
    check_varying(dataset, range(len(dataset.factor_sizes)))
    pool = image_pool(dataset, max_images, seed)
    rng = np.random.default_rng(seed)
    population = draw_uniform(dataset, settings.variance_samples, rng, pool)
    factor = rng.integers(0, len(dataset.factor_sizes), settings.train_votes + settings.eval_votes)
    draws = draw_sharing(dataset, factor, (settings.batch,), rng, pool)
    table = CodeTable(encode, dataset, population, draws, batch_size=batch_size, device=device)
    variance = table[population].var(0, ddof=1, dtype=np.float64)
    active = (np.sqrt(variance) >= settings.prune_std) & (variance > 0)
    details = {
        "variant": variant,
        **vars(settings),
        "std": np.sqrt(variance).tolist(),
        "num_active_dims": len(active) if compat else int(active.sum()),
        "images_encoded": len(table),
        "images_drawn_from": len(dataset) if pool is None else len(pool),
        "seed": seed,
        **activity(table[population], settings.prune_std),
    }
    if not active.any():
        return MetricResult(0.0, {**details, "train_accuracy": 0.0, "eval_accuracy": 0.0})
    winner = least_varying(table, draws, variance, active)
    votes = np.zeros((len(active), len(dataset.factor_sizes)), np.int64)
    found = _majority_votes(winner, factor, votes, settings.train_votes)
    score = found["eval_accuracy" if settings.eval_votes else "train_accuracy"]
    return MetricResult(score, {**details, **found, "votes": votes.tolist()})


def _majority_votes(
    winner: np.ndarray, factor: np.ndarray, votes: np.ndarray, train: int
) -> dict[str, Any]:
    """Count the training votes into ``votes`` (d, f), and return the classifier's accuracies."""
    np.add.at(votes, (winner[:train], factor[:train]), 1)
    right = votes.argmax(1)[winner] == factor
    held_out = float(right[train:].mean()) if len(right) > train else None
    return {"train_accuracy": float(right[:train].mean()), "eval_accuracy": held_out}


def check_settings(
    variant: str, compat: str | None, given: dict[str, int | float | None]
) -> Settings:
    """Return the variant's settings, overridden by those given.

    Raises
    ------
    ValueError, TypeError
        If a name is unknown or a number out of range; the message names it.
    """
    check_one_of("variant", variant, tuple(VARIANTS))
    if compat not in (None, "disentanglement_lib"):
        raise ValueError(f"compat must be 'disentanglement_lib' or None, got {compat!r}")
    changed = {name: value for name, value in given.items() if value is not None}
    settings = replace(VARIANTS[variant], **changed)  # type: ignore[arg-type]
    check_counts(train_votes=settings.train_votes)
    if settings.eval_votes:
        check_counts(eval_votes=settings.eval_votes)
    for name in ("batch", "variance_samples"):
        count = getattr(settings, name)
        check_counts(**{name: count})
        if count < 2:
            raise ValueError(f"{name} must be at least 2, to have a variance, got {count}")
    check_number("prune_std", settings.prune_std, at_least=0)
    return settings


def least_varying(
    table: CodeTable, draws: np.ndarray, variance: np.ndarray, active: np.ndarray
) -> np.ndarray:
    """Return the active code of least relative variance for each row of ``draws`` (n, batch)."""
    scale = np.where(active, variance, 1.0)
    winners = []
    for part in np.array_split(draws, -(-len(draws) // CHUNK)):
        relative = table[part].var(1, ddof=1, dtype=np.float64) / scale
        winners.append(np.where(active, relative, np.inf).argmin(1))
    return np.concatenate(winners)
