"""Image numbers and factor values as integer arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from pydisent._checks import check, check_tensor

Indices = Sequence[int] | np.ndarray | Tensor


def plain_array(values: object, name: str) -> np.ndarray:
    """Return the numbers of a tensor, an array or nested sequences as an array.

    Floating point tensors become float64, as NumPy lacks bfloat16.

    Raises
    ------
    TypeError, ValueError
        If a tensor holds no data or is not strided, or an array has masked entries, whose numbers
        nobody vouches for.
    """
    if isinstance(values, Tensor):
        check_tensor(name, values)
        if values.is_meta:
            raise TypeError(f"{name} must hold data, got a tensor on the meta device")
        values = values.double() if values.is_floating_point() else values
        return values.detach().cpu().resolve_conj().resolve_neg().numpy()
    if np.ma.is_masked(values):
        raise ValueError(f"{name} must not have masked entries, got {np.ma.count_masked(values)}")
    return np.asarray(values)


def integer_array(values: int | Sequence | np.ndarray | Tensor, name: str) -> np.ndarray:
    """Return ``values`` as an int64 array; rejects floats and booleans, but accepts an empty list.

    Raises
    ------
    TypeError
        If ``values`` are not integers.
    ValueError
        If one does not fit into 64 bits with a sign.
    """
    array = plain_array(values, name)
    if array.size == 0 and not isinstance(values, np.ndarray | Tensor):
        array = array.astype(np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    if array.dtype == np.uint64 and array.size:
        check(array.max() < 2**63, name, "below 2**63", array.max())
    return array.astype(np.int64)


def check_range(name: str, array: np.ndarray, low: int, high: int) -> None:
    """Raise ValueError unless all values of a (possibly empty) array are in [low, high)."""
    if array.size and (array.min() < low or array.max() >= high):
        raise ValueError(
            f"{name} must be in [{low}, {high}), got values from {array.min()} to {array.max()}"
        )
