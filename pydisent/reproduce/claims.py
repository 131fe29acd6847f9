"""A paper's conclusions from scores, tested on ours over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pydisent._extras import optional
from pydisent.reproduce.results import spread

RunScores = Sequence[Mapping[str, Any]]
LEVEL = 0.05


@dataclass(frozen=True)
class Verdict:
    """The verdict of scores on a claim.

    Attributes
    ----------
    ours : str
        The compared figures.
    p, opposite : float or None
        One-sided p-values of the claim and of its opposite: the probability, if there is no
        difference, of figures at least as favourable to it. None if there are too few figures for
        a p-value of at most `LEVEL`.
    """

    ours: str
    p: float | None
    opposite: float | None

    @property
    def outcome(self) -> str:
        """Return "holds", "the opposite holds" or "open"."""
        if self.p is None or self.opposite is None:
            return "open"
        if self.opposite <= LEVEL:
            return "the opposite holds"
        return "holds" if self.p <= LEVEL else "open"

    @property
    def text(self) -> str:
        """Return the outcome with its p-value."""
        p = self.opposite if self.outcome == "the opposite holds" else self.p
        return f"{self.outcome} (p = {p:.2g})" if p is not None else "open: too few seeds"


@dataclass(frozen=True)
class Claim:
    """A conclusion that scores can decide.

    Attributes
    ----------
    text : str
        The paper's statement.
    judge : callable
        Returns the verdict of runs, each a mapping with "row", "seed" and "scores"; None if the
        scores are missing.
    """

    text: str
    judge: Callable[[RunScores], Verdict | None]


def exceeds(
    text: str,
    first: str,
    second: str,
    key: str,
    *,
    margin: float = 0.0,
    scale: float = 1.0,
    digits: int = 2,
) -> Claim:
    """Claim that the score `key` of the row `first` is above that of `second`.

    The claim is tested by a one-sided rank test over seeds, exact if there are few permutations.

    Parameters
    ----------
    text : str
        The paper's statement.
    first, second : str
        Names of rows.
    key : str
        Key of a column.
    margin : float
        The claim is that `first` is above `second` minus this, i.e. not worse by more than this.
    scale : float
        Factor by which figures are multiplied in print.
    digits : int
        Digits after the decimal point.
    """

    def judge(runs: RunScores) -> Verdict | None:
        sides = _of_row(runs, first, key), _of_row(runs, second, key)
        return _compared(*sides, margin, scale, digits)

    return Claim(text, judge)


def falls_below(
    text: str, first: str, second: str, key: str, *, margin: float = 0.0, digits: int = 2
) -> Claim:
    """Claim that the score `key` of the row `first` is below that of `second`.

    Parameters are those of :func:`exceeds`, but with a `margin` the claim is that `first` is below
    `second` plus this.
    """

    def judge(runs: RunScores) -> Verdict | None:
        sides = _of_row(runs, first, key), _of_row(runs, second, key)
        return _compared(*sides, margin, digits=digits, sign=-1)

    return Claim(text, judge)


def curve_above(
    text: str, first: str, second: str, key: str, error: str, *, digits: int = 2
) -> Claim:
    """Claim that a system's curve of `key` against `error` is above another's.

    A seed's figure is the mean height of a system's curve, linear between its rows, over the range
    of errors covered by both systems' rows of that seed.

    Parameters
    ----------
    text : str
        The paper's statement.
    first, second : str
        Names of systems.
    key, error : str
        Keys of columns.
    digits : int
        Digits after the decimal point.
    """

    def judge(runs: RunScores) -> Verdict | None:
        heights: tuple[list[float], list[float]] = ([], [])
        for seed in sorted({run["seed"] for run in runs}):
            own = [
                run for run in runs if run["seed"] == seed and {key, error} <= run["scores"].keys()
            ]
            found = _heights(*(_curve(own, system, key, error) for system in (first, second)))
            for side, height in zip(heights, found or ()):
                side.append(height)
        return _compared(*heights, digits=digits)

    return Claim(text, judge)


def ranks_as(
    text: str, first: str, second: str, *, sign: int = 1, where: tuple[str, float] | None = None
) -> Claim:
    """Claim that one score ranks all runs as another does, by Spearman's rank correlation.

    Parameters
    ----------
    text : str
        The paper's statement.
    first, second : str
        Keys of columns.
    sign : {1, -1}
        −1 if lower is better for `first`.
    where : tuple of str and float or None
        Restricts the runs to those whose score of that key is above the number.
    """

    def judge(runs: RunScores) -> Verdict | None:
        scored = [run["scores"] for run in runs if {first, second} <= run["scores"].keys()]
        if where is not None:
            scored = [each for each in scored if each.get(where[0], -np.inf) > where[1]]
        if len(scored) < 3:
            return None
        with optional():
            from scipy.stats import spearmanr
        pairs = np.array([(sign * each[first], each[second]) for each in scored], float)
        found, opposite = (spearmanr(*pairs.T, alternative=a) for a in ("greater", "less"))
        if not np.isfinite(found.statistic):
            return None
        ours = f"ρ = {found.statistic:.2f} over {len(scored)} models"
        return Verdict(ours, float(found.pvalue), float(opposite.pvalue))

    return Claim(text, judge)


def _of_row(runs: RunScores, row: str, key: str) -> list[float]:
    return [run["scores"][key] for run in runs if run["row"] == row and key in run["scores"]]


def _compared(
    first: Sequence[float],
    second: Sequence[float],
    margin: float = 0.0,
    scale: float = 1.0,
    digits: int = 2,
    sign: int = 1,
) -> Verdict | None:
    if not first or not second:
        return None
    ours = " against ".join(
        spread([scale * value for value in side], digits) for side in (first, second)
    )
    if margin:
        ours += f", at most {scale * margin:g} {'less' if sign > 0 else 'more'}"
    first = [sign * value + margin for value in first]
    second = [sign * value for value in second]
    return Verdict(ours, rank_test(first, second), rank_test(second, first))


def rank_test(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the one-sided p-value of the Wilcoxon-Mann-Whitney test that `first` exceeds `second`.

    It permutes over all divisions of the figures into two such groups, or 10⁴ random ones if there
    are more, and so is valid with ties. None if no division can have a p-value of at most `LEVEL`.
    """
    with optional():
        from scipy.special import comb
        from scipy.stats import permutation_test, rankdata
    count = len(first)
    if comb(count + len(second), count) * LEVEL < 1:
        return None
    ranks = rankdata([*first, *second])
    found = permutation_test(
        (ranks[:count], ranks[count:]),
        lambda x, y, axis=-1: x.sum(axis=axis),
        vectorized=True,
        alternative="greater",
        rng=0,
    )
    return float(found.pvalue)


def _curve(
    runs: RunScores, system: str, key: str, error: str
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the errors of a system's rows in ascending order, and their scores."""
    points = sorted(
        (run["scores"][error], run["scores"][key]) for run in runs if run["system"] == system
    )
    return tuple(np.array(points, float).T) if len(points) > 1 else None


def _heights(
    first: tuple[np.ndarray, np.ndarray] | None, second: tuple[np.ndarray, np.ndarray] | None
) -> tuple[float, float] | None:
    """Return the mean heights of two curves over the errors that both cover."""
    if first is None or second is None:
        return None
    low = max(first[0][0], second[0][0])
    high = min(first[0][-1], second[0][-1])
    if not low < high:
        return None
    corners = np.union1d(first[0], second[0]).clip(low, high)
    heights = [np.trapezoid(np.interp(corners, *side), corners) for side in (first, second)]
    return heights[0] / (high - low), heights[1] / (high - low)
