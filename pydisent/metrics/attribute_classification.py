"""Attribute classification: predicting binary attributes from mean differences of codes."""

from __future__ import annotations

import numpy as np

from pydisent.data.indices import plain_array
from pydisent.metrics._result import MetricResult
from pydisent.metrics._table import Array, check_codes


def attribute_classification(
    codes: Array, attributes: Array, test_codes: Array, test_attributes: Array
) -> MetricResult:
    """Test accuracy of classifying each attribute along the mean difference of its codes.

    w_k is the mean code of the training images with attribute k minus that of those without; an
    image is predicted to have it if w_k'z + b_k > 0, where b_k minimises the hinge loss over the
    training images exactly (Kumar et al. 2018, Table 2).

    Parameters
    ----------
    codes, test_codes : array
        (N, d) and (M, d).
    attributes, test_attributes : array
        (N, A) and (M, A), booleans or integers 0 and 1.

    Returns
    -------
    MetricResult
        Score in [0, 1], the mean over attributes; details: ``accuracy``, ``train_accuracy``,
        ``balanced_accuracy`` (None if the test set has one class), ``majority`` (the accuracy of
        always predicting the more common training value) and ``bias``, each (A,).

    Raises
    ------
    ValueError, TypeError
        If codes are malformed or not finite, attributes are not binary, or one is the same in all
        training images.
    """
    z, y = _checked(codes, attributes, "")
    test_z, test_y = _checked(test_codes, test_attributes, "test_")
    if (z.shape[1], y.shape[1]) != (test_z.shape[1], test_y.shape[1]):
        raise ValueError(
            f"test_codes and test_attributes must have {z.shape[1]} and {y.shape[1]} columns, got "
            f"{test_z.shape[1]} and {test_y.shape[1]}"
        )
    if (y.all(0) | ~y.any(0)).any():
        alone = np.flatnonzero(y.all(0) | ~y.any(0))[0]
        raise ValueError(
            f"attributes must have both values in training; column {alone} is {int(y[0, alone])} "
            f"in all {len(y)} rows"
        )
    share = y.mean(0)
    vectors = z.T @ (y / y.sum(0) - ~y / (~y).sum(0))
    along = z @ vectors
    bias = np.array([hinge_bias(a, k) for a, k in zip(along.T, y.T)])
    right = (test_z @ vectors + bias > 0) == test_y
    accuracy = right.mean(0)
    details = {
        "accuracy": accuracy.tolist(),
        "train_accuracy": ((along + bias > 0) == y).mean(0).tolist(),
        "balanced_accuracy": [_balanced(r, k) for r, k in zip(right.T, test_y.T)],
        "majority": (test_y == (share > 0.5)).mean(0).tolist(),
        "bias": bias.tolist(),
        "samples": len(z),
        "test_samples": len(test_z),
    }
    return MetricResult(float(accuracy.mean()), details)


def hinge_bias(projection: np.ndarray, label: np.ndarray) -> float:
    """Return the b that minimises sum max(0, 1 − s (p + b)), s = ±1; the midpoint if not unique.

    The loss is piecewise linear: an example with s = 1 has slope −1 below b = 1 − p, one with
    s = −1 has slope 1 above b = −1 − p. Each such corner adds 1 to the slope, which starts at minus
    the number of positives: in ascending order, the minimum lies between corner number n₊ and the
    next.
    """
    corners = np.sort(np.where(label, 1 - projection, -1 - projection))
    positives = int(label.sum())
    return float((corners[positives - 1] + corners[positives]) / 2)


def _balanced(right: np.ndarray, label: np.ndarray) -> float | None:
    if label.all() or not label.any():
        return None
    return float((right[label].mean() + right[~label].mean()) / 2)


def _checked(codes: Array, attributes: Array, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    z = check_codes(codes, f"{prefix}codes")
    given = plain_array(attributes, f"{prefix}attributes")
    if given.dtype != bool and not np.issubdtype(given.dtype, np.integer):
        raise TypeError(f"{prefix}attributes must be booleans or integers, got {given.dtype}")
    if given.ndim != 2 or len(given) != len(z) or not given.shape[1]:
        raise ValueError(f"{prefix}attributes must be ({len(z)}, A), got {given.shape}")
    if not np.isin(given, (0, 1)).all():
        raise ValueError(f"{prefix}attributes must be 0 or 1, got {given.min()} to {given.max()}")
    return z, given.astype(bool)
