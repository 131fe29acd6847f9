"""Argument checks shared by the ops."""

from __future__ import annotations

import functools
import numbers
from typing import Any

import torch
from torch import Tensor

_FLOATING = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64))


def require(condition: bool, name: str, given: Any, accepted: str) -> None:
    """Raise ValueError that names the argument, what was given and what is accepted."""
    if not condition:
        raise ValueError(f"{name}: got {given}, accepted is {accepted}")


def require_weight(name: str, x: Any) -> None:
    """Raise TypeError or ValueError unless x is a number >= 0; a tensor would lose its gradient."""
    if type(x) is float and x >= 0:
        return  # an instance check against an abstract class is slow
    if not isinstance(x, numbers.Real):
        raise TypeError(f"{name}: got {type(x).__name__}, accepted is a number >= 0")
    require(float(x) >= 0, name, x, "a number >= 0")


def require_positive(name: str, x: Any) -> None:
    """Raise TypeError or ValueError unless x is a number > 0; a tensor would lose its gradient."""
    if type(x) is float and x > 0:
        return  # an instance check against an abstract class is slow
    if not isinstance(x, numbers.Real):
        raise TypeError(f"{name}: got {type(x).__name__}, accepted is a number > 0")
    require(float(x) > 0, name, x, "a number > 0")


def require_tensor(name: str, x: Any) -> None:
    """Raise TypeError unless x is a tensor with strides, which the kernels read memory by."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: got {type(x).__name__}, accepted is a torch.Tensor")
    if x.layout != torch.strided or x.is_nested:
        layout = "nested" if x.is_nested else x.layout  # some nested tensors say torch.strided
        raise TypeError(f"{name}: got layout {layout}, accepted is a strided tensor")


def require_count(name: str, x: Any) -> None:
    """Raise TypeError unless x is an integer, ValueError unless it is in [1, 2^63 - 1]."""
    if isinstance(x, bool) or not isinstance(x, numbers.Integral):
        raise TypeError(f"{name}: got {type(x).__name__}, accepted is an integer >= 1")
    require(int(x) >= 1, name, x, "an integer >= 1")
    require(int(x) < 2**63, name, x, "an integer up to 2**63 - 1")


def require_floating(name: str, x: Any) -> None:
    """Raise TypeError unless x is a strided tensor of a supported floating dtype."""
    require_tensor(name, x)
    if x.dtype not in _FLOATING:
        raise TypeError(f"{name}: got {x.dtype}, accepted are float16, bfloat16, float32, float64")


def require_matching(name: str, x: Any, other_name: str, other: Tensor, shape: bool = True) -> None:
    """Raise unless x is floating (TypeError), with the other's device and shape (ValueError)."""
    require_floating(name, x)
    if x.device != other.device:
        raise ValueError(
            f"{name}: got on {x.device}, accepted is the device of {other_name}, {other.device}"
        )
    if shape and x.shape != other.shape:
        raise ValueError(
            f"{name}: got shape {tuple(x.shape)}, accepted is that of {other_name},"
            f" {tuple(other.shape)}"
        )


def promote(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Convert to the one dtype that torch promotes all to, as autocast leaves some in half."""
    first = tensors[0].dtype
    for x in tensors:
        if x.dtype != first:
            break
    else:
        return tensors  # promote_types is an op itself, which dispatch modes would see
    dtype = functools.reduce(torch.promote_types, (x.dtype for x in tensors))
    return tuple(x.to(dtype) for x in tensors)
