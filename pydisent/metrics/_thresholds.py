"""The optimal classification of a factor by thresholds on one code, computed exactly."""

from __future__ import annotations

import numpy as np


def threshold_accuracy(codes: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the largest balanced accuracy of ``classes`` − 1 thresholds on each code, (d,).

    The thresholds cut the line into as many intervals as there are classes, and each interval
    predicts the class that is best for it: classes may appear on the line in any order, be absent,
    or repeat. Along the sorted codes, ``best[i, m, c]`` is the best score so far with m thresholds,
    given that the current interval predicts c.

    Parameters
    ----------
    codes : numpy.ndarray
        (N, d).
    labels : numpy.ndarray
        (N,) in [0, classes).
    classes : int
        Number of classes; those without samples do not count.
    """
    count, d = codes.shape
    present = np.bincount(labels, minlength=classes)
    weight = 1 / (np.maximum(present, 1) * np.count_nonzero(present))
    order = codes.argsort(0)
    label = labels[order]
    sorted_codes = np.take_along_axis(codes, order, 0)
    # No threshold separates equal codes: a switch there costs more than any possible gain.
    cost = np.where(np.diff(sorted_codes, axis=0) > 0, 0.0, 2.0)[:, :, None, None]
    best = np.full((d, classes, classes), -2.0)
    best[:, 0] = 0
    every, gain = np.arange(d), weight[label]
    best[every, :, label[0]] += gain[0][:, None]
    for row in range(1, count):
        switched = best[:, :-1].max(2, keepdims=True) - cost[row - 1]
        np.maximum(best[:, 1:], switched, out=best[:, 1:])
        best[every, :, label[row]] += gain[row][:, None]
    return best.max((1, 2))
