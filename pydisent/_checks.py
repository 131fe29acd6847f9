"""Argument checks; their errors all read ``NAME must be RULE, got VALUE``.

A value of the wrong type raises TypeError; any other bad value raises ValueError.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_FLOATING = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64))


def check(accepted: bool, name: str, rule: str, got: Any) -> None:
    """Raise ValueError that `name` must be `rule`, unless it is `accepted`."""
    if not accepted:
        raise ValueError(f"{name} must be {rule}, got {got}")


def check_one_of(name: str, value: Any, accepted: Sequence[str]) -> None:
    """Raise ValueError unless `value` is one of the `accepted` names; name the most similar."""
    if value in accepted:
        return
    import difflib  # 5 ms, for errors alone

    similar = difflib.get_close_matches(value, accepted, 1) if isinstance(value, str) else []
    hint = f", did you mean {similar[0]!r}?" if similar else ""
    check(False, name, f"one of {', '.join(map(repr, accepted))}", shown(value) + hint)


def check_integer(name: str, value: Any, *, at_least: int, at_most: int | None = None) -> None:
    """Raise unless `value` is an integer in [at_least, at_most]."""
    if type(value) is int and at_least <= value and (at_most is None or value <= at_most):
        return  # before formatting any text: ops check their arguments at every call
    rule = f"an integer {_interval(None, at_least, None, at_most)}"
    _check_whole(name, value, rule)
    within = at_least <= int(value) and (at_most is None or int(value) <= at_most)
    check(within, name, rule, value)


def check_int64(name: str, value: Any, *, at_least: int) -> None:
    """Raise unless `value` is an integer >= at_least that fits into 64 bits."""
    check_integer(name, value, at_least=at_least)
    check(int(value) < 2**63, name, "below 2**63", value)


def check_counts(**values: Any) -> None:
    """Raise unless each value is an integer >= 1."""
    for name, value in values.items():
        check_integer(name, value, at_least=1)


def check_power_of_two(name: str, value: Any, *, at_least: int, at_most: int | None = None) -> None:
    """Raise unless `value` is a power of two in [at_least, at_most]."""
    rule = f"a power of two {_interval(None, at_least, None, at_most)}"
    _check_whole(name, value, rule)
    size = int(value)
    within = at_least <= size and (at_most is None or size <= at_most)
    check(within and size & (size - 1) == 0, name, rule, value)


def check_number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    finite: bool = True,
) -> None:
    """Raise unless `value` is a real number within the bounds, and finite if so required.

    A tensor is refused, because a setting gets no gradient.
    """
    real = type(value) is float or (isinstance(value, numbers.Real) and not isinstance(value, bool))
    accepted = (
        real
        and (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (below is None or value < below)
        and (at_most is None or value <= at_most)
        and (not finite or -math.inf < value < math.inf)  # torch.compile cannot trace isfinite
    )
    if accepted:
        return
    bounded = not finite or below is not None or at_most is not None
    kind = "a number" if bounded else "a finite number"
    rule = f"{kind} {_interval(above, at_least, below, at_most)}".rstrip()
    error = ValueError if real else TypeError
    raise error(f"{name} must be {rule}, got {shown(value)}")


def check_batch(name: str, x: Tensor, *shape: int) -> None:
    """Raise ValueError unless x is a batch of items of this shape."""
    if tuple(x.shape[1:]) != shape:
        raise shape_error(name, f"({', '.join(map(str, ('B', *shape)))})", x)


def check_tensor(name: str, x: Any) -> None:
    """Raise TypeError unless x is a strided tensor, the only layout that the kernels read."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    if x.layout != torch.strided or x.is_nested:
        layout = "nested" if x.is_nested else x.layout  # some nested tensors report torch.strided
        raise TypeError(f"{name} must be a strided tensor, got layout {layout}")


def check_floating(name: str, x: Any) -> None:
    """Raise TypeError unless x is a strided tensor of a supported floating dtype."""
    check_tensor(name, x)
    if x.dtype not in _FLOATING:
        raise TypeError(f"{name} must be float16, bfloat16, float32 or float64, got {x.dtype}")


def check_device(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Raise ValueError unless x and `other` are on the same device."""
    if x.device != other.device:
        raise ValueError(
            f"{name} must be on {other.device}, the device of {other_name}, got {x.device}"
        )


def check_matching(name: str, x: Any, other_name: str, other: Tensor, shape: bool = True) -> None:
    """Raise unless x is floating (TypeError) with the device and shape of `other` (ValueError)."""
    check_floating(name, x)
    check_device(name, x, other_name, other)
    if shape and x.shape != other.shape:
        raise shape_error(name, f"{tuple(other.shape)}, that of {other_name}", x)


def shape_error(name: str, shape: Any, x: Tensor) -> ValueError:
    """The error for a tensor that lacks the required shape, a tuple or a description."""
    return ValueError(f"{name} must have shape {shape}, got {tuple(x.shape)}")


def as_plain(value: Any) -> Any:
    """Return one of NumPy's scalars as Python's own, and anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def shown(value: Any) -> str:
    """Format a value for an error message: numbers and strings as such, others by their type."""
    if isinstance(value, numbers.Number) and not isinstance(value, Tensor):
        return str(value)
    return repr(value) if value is None or isinstance(value, str) else type(value).__name__


def _check_whole(name: str, value: Any, rule: str) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be {rule}, got {shown(value)}")


def _interval(
    above: float | None, at_least: float | None, below: float | None, at_most: float | None
) -> str:
    low, high = at_least if above is None else above, at_most if below is None else below
    if low is None or high is None:
        sign = ("<=" if below is None else "<") if low is None else (">=" if above is None else ">")
        bound = high if low is None else low
        return "" if bound is None else f"{sign} {bound}"
    return f"in {'[' if above is None else '('}{low}, {high}{']' if below is None else ')'}"
