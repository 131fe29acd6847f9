"""Image numbers and factor values as integer arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

Indices = Sequence[int] | np.ndarray | Tensor


def integer_array(values: int | Sequence | np.ndarray | Tensor, name: str) -> np.ndarray:
    """Return ``values`` as an int64 array; rejects floats and booleans, but accepts an empty list.

    Raises
    ------
    TypeError
        If ``values`` are not integers.
    """
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.size == 0 and not isinstance(values, np.ndarray | Tensor):
        array = array.astype(np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    return array.astype(np.int64)


def check_range(name: str, array: np.ndarray, low: int, high: int) -> None:
    """Raise ValueError unless all values of a (possibly empty) array are in [low, high)."""
    if array.size and (array.min() < low or array.max() >= high):
        raise ValueError(
            f"{name} must be in [{low}, {high}), got values from {array.min()} to {array.max()}"
        )
