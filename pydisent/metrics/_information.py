"""Mutual information of binned codes and factors."""

from __future__ import annotations

import numpy as np

from pydisent.metrics._table import Table, check_bins


def discretise(values: np.ndarray, bins: int) -> np.ndarray:
    """Return the bin of each value in each column, (N, d), counted from 0.

    The bins are equal parts of the column's range (±1/2 around the value of a constant column).
    """
    numbers = np.empty(values.shape, np.int64)
    for j, column in enumerate(values.T):
        low, high = column.min(), column.max()
        half = 0.5 if low == high else 0.0
        edges = np.linspace(low - half, high + half, bins + 1)[:-1]
        numbers[:, j] = np.digitize(column, edges) - 1
    return numbers


def mutual_information(table: Table, bins: int) -> np.ndarray:
    """Return I(code; factor) in nats for each code, in ``bins`` bins, and each factor, (d, f).

    Raises
    ------
    TypeError, ValueError
        If there are fewer samples than bins, or ``bins`` is not an integer >= 2.
    """
    check_bins(bins, len(table.codes))
    count, d = table.codes.shape
    cell = discretise(table.codes, bins) + bins * np.arange(d)
    information = np.empty((d, len(table.sizes)))
    for j, size in enumerate(table.sizes):
        cells = cell * size + table.labels[:, [j]]
        joint = np.bincount(cells.ravel(), minlength=d * bins * size).reshape(d, bins, size)
        # In integers, a constant code's ratio is exactly 1, and so its information exactly 0.
        chance = joint.sum(2, keepdims=True) * joint.sum(1, keepdims=True)
        ratio = np.divide(joint * count, chance, out=np.ones(joint.shape), where=joint > 0)
        information[:, j] = (joint * np.log(ratio)).sum((1, 2)) / count
    return information.clip(min=0)


def entropies(table: Table) -> np.ndarray:
    """Return the entropy of each factor in nats, (f,)."""
    found = []
    for labels, size in zip(table.labels.T, table.sizes):
        share = np.bincount(labels, minlength=size) / len(labels)
        found.append(-(share * np.log(share)).sum())
    return np.array(found)
