"""Gradient boosted classification trees on binned codes, all trees of a stage grown at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STAGES, DEPTH, RATE = 100, 3, 0.1
BINS = 256


@dataclass(frozen=True)
class BoostedTrees:
    """What a fit leaves behind.

    Attributes
    ----------
    importance : numpy.ndarray
        (d,) each code's share of the squared error that the splits removed; 0 if none was made.
    train, test : float
        Accuracy on the training and on the test samples (NaN without them).
    """

    importance: np.ndarray
    train: float
    test: float


class BinnedCodes:
    """Codes in at most 256 bins each, and where in the bins the samples are.

    Parameters
    ----------
    codes : numpy.ndarray
        (N, d) the training samples', which the bins are made for, equally full.
    test_codes : numpy.ndarray or None
        (M, d).
    """

    def __init__(self, codes: np.ndarray, test_codes: np.ndarray | None) -> None:
        from scipy.sparse import csr_matrix

        edges = [bin_edges(column) for column in codes.T]
        self.train = _binned(codes, edges)
        self.test = _binned(codes[:0] if test_codes is None else test_codes, edges)
        count, d = codes.shape
        cells = self.train.astype(np.int64) + BINS * np.arange(d)
        rows, columns = cells.T.ravel(), np.tile(np.arange(count), d)
        ones = np.ones(count * d, np.float32)
        # Times a table of the samples (N, C), it sums the table over each bin of each code.
        self.sum_over_bins = csr_matrix((ones, (rows, columns)), shape=(d * BINS, count))

    def histogram(self, table: np.ndarray) -> np.ndarray:
        """Return the sums of ``table`` (N, C) over the samples of each bin, (d, bins, C)."""
        return (self.sum_over_bins @ table).reshape(self.train.shape[1], BINS, -1)


def bin_edges(column: np.ndarray) -> np.ndarray:
    """Return at most 255 cuts of a column, midway between neighbours, in equally full bins."""
    values, counts = np.unique(column, return_counts=True)
    if len(values) > BINS:
        wanted = np.arange(1, BINS) * (len(column) / BINS)
        last = np.unique(np.searchsorted(np.cumsum(counts), wanted))
        last = last[last < len(values) - 1]
    else:
        last = np.arange(len(values) - 1)
    return (values[last] + values[last + 1]) / 2


def _binned(codes: np.ndarray, edges: list[np.ndarray]) -> np.ndarray:
    columns = [np.searchsorted(cuts, column) for cuts, column in zip(edges, codes.T)]
    return np.stack(columns, 1).astype(np.uint8)


def boost(
    codes: BinnedCodes,
    labels: np.ndarray,
    test_labels: np.ndarray | None,
    classes: int,
    rng: np.random.Generator,
) -> BoostedTrees:
    """Fit scikit-learn's ``GradientBoostingClassifier()`` to binned codes.

    Friedman's (2001) multinomial (two classes: binomial) boosting: a hundred stages, each with a
    regression tree of depth 3 a class fitted to that class's residual y − p by squared error; leaf
    values by one Newton step, at a rate of 0.1. The trees of a stage see the same p, so they are
    grown together, a level at a time, from histograms of the residuals.

    Parameters
    ----------
    codes : BinnedCodes
        Of N training samples, and M test samples.
    labels, test_labels : numpy.ndarray
        (N,) in [0, classes), and (M,).
    classes : int
        At least 2.
    rng : numpy.random.Generator
        Which of several equally good codes a split takes.
    """
    target = np.eye(classes, dtype=np.float32)[labels][:, classes == 2 :]
    prior = target.mean(0, dtype=np.float64)
    start = np.log(prior / (1 - prior)) if classes == 2 else np.log(prior)
    scores, test_scores = (np.tile(start, (len(x), 1)) for x in (codes.train, codes.test))
    removed = np.zeros(codes.train.shape[1])
    for _ in range(STAGES):
        chance = _chance(scores)
        residual = target - chance
        trees = grow(codes, residual.astype(np.float32), rng)
        removed += trees.removed
        value = RATE * _newton(residual, chance, trees.leaf, classes)
        tree = np.arange(target.shape[1])
        scores += value[tree, trees.leaf]
        if len(test_scores):
            test_scores += value[tree, trees.leaves_of(codes.test)]
    total = removed.sum()
    test = np.nan if test_labels is None else (_decide(test_scores) == test_labels).mean()
    return BoostedTrees(
        removed / total if total > 0 else removed,
        float((_decide(scores) == labels).mean()),
        float(test),
    )


def _chance(scores: np.ndarray) -> np.ndarray:
    if scores.shape[1] == 1:
        return 1 / (1 + np.exp(-scores))
    power = np.exp(scores - scores.max(1, keepdims=True))
    return power / power.sum(1, keepdims=True)


def _decide(scores: np.ndarray) -> np.ndarray:
    return (scores[:, 0] >= 0).astype(np.int64) if scores.shape[1] == 1 else scores.argmax(1)


def _newton(
    residual: np.ndarray, chance: np.ndarray, leaf: np.ndarray, classes: int
) -> np.ndarray:
    """Return each tree's leaf values, (K, leaves): Friedman's Newton step, 0 for an empty leaf."""
    trees = residual.shape[1]
    where = (leaf + 2**DEPTH * np.arange(trees)).ravel()
    size = trees * 2**DEPTH
    rise = np.bincount(where, residual.ravel(), size).reshape(trees, -1)
    bend = np.bincount(where, (chance * (1 - chance)).ravel(), size).reshape(trees, -1)
    factor = 1.0 if classes == 2 else (classes - 1) / classes
    return factor * np.divide(rise, bend, out=np.zeros_like(rise), where=bend > 1e-150)


@dataclass(frozen=True)
class Trees:
    """The K trees of a stage.

    Attributes
    ----------
    splits : list of (numpy.ndarray, numpy.ndarray)
        At each level the code and the bin (K, nodes) that a node splits at; larger bins go right.
    leaf : numpy.ndarray
        (N, K) where each training sample ends.
    removed : numpy.ndarray
        (d,) squared error that splits at each code removed.
    """

    splits: list[tuple[np.ndarray, np.ndarray]]
    leaf: np.ndarray
    removed: np.ndarray

    def leaves_of(self, bins: np.ndarray) -> np.ndarray:
        """Return the leaf of each tree that these binned codes (M, d) end in, (M, K)."""
        node = np.zeros((len(bins), len(self.splits[0][0])), np.int64)
        for split in self.splits:
            node = descend(bins, node, *split)
        return node


def descend(bins: np.ndarray, node: np.ndarray, code: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Return the child of each node (N, K) that binned codes (N, d) go to."""
    tree = np.arange(node.shape[1])
    value = np.take_along_axis(bins, code[tree, node], 1)
    return 2 * node + (value > cut[tree, node])


def grow(codes: BinnedCodes, residual: np.ndarray, rng: np.random.Generator) -> Trees:
    """Grow a tree of depth 3 to each column of ``residual`` (N, K), by squared error."""
    count, trees = residual.shape
    node = np.zeros((count, trees), np.int64)
    sums = codes.histogram(residual)[..., None]
    counts = np.broadcast_to(codes.histogram(np.ones((count, 1), np.float32))[..., None], sums.shape)
    removed, splits = np.zeros(codes.train.shape[1]), []
    for level in range(DEPTH):
        code, cut, gain = best_splits(sums, counts, rng)
        removed += np.bincount(code.ravel(), gain.ravel(), len(removed))
        splits.append((code, cut))
        node = descend(codes.train, node, code, cut)
        if level < DEPTH - 1:
            sums, counts = _children(codes, residual, node, sums, counts)
    return Trees(splits, node, removed)


def _children(
    codes: BinnedCodes,
    residual: np.ndarray,
    node: np.ndarray,
    sums: np.ndarray,
    counts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the histograms of the nodes' children; a right child is its parent less the left."""
    trees, parents = residual.shape[1], sums.shape[-1]
    inside = [node == 2 * parent for parent in range(parents)]
    table = [residual * here for here in inside] + [here.astype(np.float32) for here in inside]
    left = codes.histogram(np.concatenate(table, 1))
    left = left.reshape(*sums.shape[:2], 2, parents, trees).swapaxes(-1, -2)
    both = [
        np.stack([left[:, :, i], parent - left[:, :, i]], -1).reshape(*sums.shape[:3], -1)
        for i, parent in enumerate((sums, counts))
    ]
    return both[0], both[1]


def best_splits(
    sums: np.ndarray, counts: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each tree and node the code, the bin and the squared error that a split removes.

    Between codes that are equally good, the choice is random, as it is in scikit-learn. A node
    that cannot be split sends all to the left and removes 0.

    Parameters
    ----------
    sums, counts : numpy.ndarray
        (d, bins, K, nodes) residuals' sums, and samples.
    rng : numpy.random.Generator
        Of the choice.
    """
    left, n_left = sums.cumsum(1, dtype=np.float64), counts.cumsum(1, dtype=np.float64)
    total, n = left[:, -1:], n_left[:, -1:]
    n_right = n - n_left
    can = (n_left > 0) & (n_right > 0)
    # S_l² / n_l + S_r² / n_r − S² / n, in one square
    difference = left * n - total * n_left
    scale = np.where(can, n * n_left * n_right, 1.0)
    gain = np.where(can, difference**2 / scale, 0.0)
    cut = gain.argmax(1)
    best = np.take_along_axis(gain, cut[:, None], 1)[:, 0]
    ties = best == best.max(0)
    code = np.where(ties, rng.random(best.shape), -1.0).argmax(0)
    picked = (np.take_along_axis(x, code[None], 0)[0] for x in (cut, best))
    cut, removed = picked
    return code, np.where(removed > 0, cut, BINS), removed
