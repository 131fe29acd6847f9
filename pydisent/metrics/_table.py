"""Validated tables of codes and factors of the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from pydisent._checks import check
from pydisent.data.indices import integer_array, plain_array
from pydisent.metrics._encode import LARGEST

Array = np.ndarray | Tensor | Sequence


@dataclass(frozen=True)
class Table:
    """Codes and factors of the same images.

    Attributes
    ----------
    codes : numpy.ndarray
        (N, d) float64.
    labels : numpy.ndarray
        (N, f) int64; a factor's values counted from 0 in ascending order.
    sizes : numpy.ndarray
        (f,) number of values that each factor takes.
    values : numpy.ndarray
        (N, f) float64, what each factor's values exceed its least by, for metrics that treat it as
        a quantity.
    """

    codes: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    values: np.ndarray


def check_codes(codes: Array, name: str = "codes") -> np.ndarray:
    """Return ``codes`` as (N, d) float64.

    Raises
    ------
    TypeError, ValueError
        If they are not real numbers, not two-dimensional, empty, not finite, or beyond float32's
        range.
    """
    if isinstance(codes, Tensor) and codes.is_complex():
        raise TypeError(f"{name} must be real numbers, got {codes.dtype}")
    array = plain_array(codes, name)
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise TypeError(f"{name} must be real numbers, got {array.dtype}")
    # In one order of memory, as that of summation affects rounding.
    array = array.astype(np.float64, order="C")
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{name} must be (N, d) with N and d at least 1, got {array.shape}")
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(
            f"{name} must be finite, got {array[row, column]} in row {row}, column {column}"
        )
    if np.abs(array).max() > LARGEST:
        row, column = np.argwhere(np.abs(array) > LARGEST)[0]
        raise ValueError(
            f"{name} must be within ±{LARGEST:.2g}, float32's range, got {array[row, column]} in "
            f"row {row}, column {column}"
        )
    return array


def check_factors(factors: Array, count: int, name: str = "factors") -> np.ndarray:
    """Return ``factors`` as (N, f) int64 with ``count`` rows, booleans as 0 and 1.

    Raises
    ------
    TypeError, ValueError
        If they are neither integers nor booleans, not two-dimensional, or not one row per code.
    """
    given = plain_array(factors, name)
    try:
        array = integer_array(given * 1 if given.dtype == bool else factors, name)
    except TypeError as error:
        raise TypeError(
            f"{error}; .astype(int) converts whole numbers, np.digitize puts quantities into bins, "
            "and np.unique(..., return_inverse=True) numbers words"
        ) from None
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"{name} must be (N, f) with f at least 1, got {array.shape}")
    if len(array) != count:
        raise ValueError(f"{name} must have one row per code, {count}, got {len(array)}")
    return array


def check_table(codes: Array, factors: Array) -> Table:
    """Return codes (N, d) and factors (N, f), checked.

    Raises
    ------
    TypeError, ValueError
        As for `check_codes` and `check_factors`, or if a factor takes a single value.
    """
    checked = check_codes(codes)
    return labelled(checked, check_factors(factors, len(checked)))


def check_tables(
    codes: Array, factors: Array, test_codes: Array | None, test_factors: Array | None
) -> tuple[Table, Table | None]:
    """Return a training table and, if given, a test table, with consistent labels.

    Values that occur only in the test table get the label −1.

    Raises
    ------
    TypeError, ValueError
        As for `check_table`; or if only half of the test table is given, or its columns differ.
    """
    train = check_table(codes, factors)
    if test_codes is None and test_factors is None:
        return train, None
    if test_codes is None or test_factors is None:
        given, lacking = ("test_factors", "test_codes")[:: 1 if test_codes is None else -1]
        raise ValueError(f"{lacking} must be given with {given}, got None")
    held_out = check_codes(test_codes, "test_codes")
    values = check_factors(test_factors, len(held_out), "test_factors")
    for name, got, wanted in (
        ("test_codes", held_out.shape[1], train.codes.shape[1]),
        ("test_factors", values.shape[1], len(train.sizes)),
    ):
        if got != wanted:
            raise ValueError(f"{name} must have {wanted} columns, as in training, got {got}")
    labels, known_values = np.full_like(values, -1), check_factors(factors, len(train.codes))
    least = np.minimum(known_values.min(0), values.min(0))
    train = replace(train, values=_above(least, known_values))
    for j, column in enumerate(known_values.T):
        known = np.unique(column)
        at = np.searchsorted(known, values[:, j]).clip(max=len(known) - 1)
        labels[:, j] = np.where(known[at] == values[:, j], at, -1)
    return train, Table(held_out, labels, train.sizes, _above(least, values))


def _above(least: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return what factors (N, f) int64 exceed `least` (f,) by, float64, before it is rounded.

    Unsigned differences wrap back to what they are, where those of int64 overflow.
    """
    return (factors.view(np.uint64) - least.view(np.uint64)).astype(np.float64)


def standardised(codes: np.ndarray) -> np.ndarray:
    """Return codes (N, d) with mean 0 and variance 1, and zeros for those that are constant."""
    codes = np.ascontiguousarray(codes)  # the order of summation affects rounding
    varies = codes.max(0) > codes.min(0)
    scale = np.abs(codes).max(0)
    scaled = codes / np.where(scale > 0, scale, 1)  # else squares of tiny codes would underflow
    centred = np.where(varies, scaled - scaled.mean(0), 0)
    return centred / np.where(varies, centred.std(0), 1)


def for_trees(train: Table, test: Table | None) -> tuple[Table, Table | None]:
    """Enlarge small codes by powers of two, which alters no digit, to at least 1/2 at most.

    To scikit-learn's trees, and ours, numbers within 1e-7 are equal: scores would fall with the
    scale of codes, which the definitions do not depend on.
    """
    exponent = np.frexp(np.abs(train.codes).max(0))[1]
    larger = -np.minimum(exponent, 0)

    def enlarged(table: Table) -> Table:
        # The forests take no infinity, and codes beyond the training codes' range stay beyond it.
        return replace(table, codes=np.ldexp(table.codes, larger).clip(-LARGEST, LARGEST))

    return enlarged(train), None if test is None else enlarged(test)


def quantity_columns(continuous: Sequence[int] | np.ndarray, count: int) -> list[int]:
    """Return the columns of factors that are quantities, checked.

    Raises
    ------
    TypeError, ValueError
        If they are not integers in [0, count).
    """
    columns = integer_array(continuous, "continuous")
    accepted = columns.ndim == 1 and ((columns >= 0) & (columns < count)).all()
    got = tuple(np.atleast_1d(columns).tolist())
    check(bool(accepted), "continuous", f"columns in [0, {count})", got)
    return columns.tolist()


def check_bins(bins: int, count: int) -> None:
    """Check the number of bins for ``count`` samples.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer >= 2, or there are fewer samples than bins.
    """
    if isinstance(bins, bool) or not isinstance(bins, int | np.integer):
        raise TypeError(f"bins must be an integer, got {bins!r}")
    if bins < 2:
        raise ValueError(f"bins must be at least 2, got {bins}")
    if count < bins:
        raise ValueError(f"codes must have at least as many rows as bins, {bins}, got {count}")


def top_two_gap(matrix: np.ndarray) -> np.ndarray:
    """Return the gap between the two largest entries of each column; a lone entry's gap is to 0."""
    ordered = np.sort(np.pad(matrix, ((1, 0), (0, 0))) if len(matrix) == 1 else matrix, axis=0)
    return ordered[-1] - ordered[-2]


def labelled(codes: np.ndarray, factors: np.ndarray, name: str = "factors") -> Table:
    """Return validated codes (N, d) and factors (N, f), labelled by the factors' own values.

    Raises
    ------
    ValueError
        If a factor has a single value.
    """
    labels, sizes = np.empty_like(factors), np.empty(factors.shape[1], np.int64)
    for j, column in enumerate(factors.T):
        values, labels[:, j] = np.unique(column, return_inverse=True)
        sizes[j] = len(values)
        if len(values) < 2:
            raise ValueError(
                f"{name} must take at least two values each; column {j} is {values[0]} in all "
                f"{len(column)} rows"
            )
    return Table(codes, labels, sizes, _above(factors.min(0), factors))
