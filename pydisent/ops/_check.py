"""Argument checks shared by the ops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def require(condition: bool, name: str, given: Any, accepted: str) -> None:
    """Raise ValueError that names the argument, what was given and what is accepted."""
    if not condition:
        raise ValueError(f"{name}: got {given}, accepted is {accepted}")


def require_floating(name: str, x: Any) -> None:
    """Raise TypeError unless x is a tensor of a supported floating dtype."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: got {type(x).__name__}, accepted is a torch.Tensor")
    if x.dtype not in _FLOATING:
        raise TypeError(f"{name}: got {x.dtype}, accepted are float16, bfloat16, float32, float64")


def require_matching(name: str, x: Any, other_name: str, other: Tensor, shape: bool = True) -> None:
    """Raise TypeError or ValueError unless x has the dtype, device and shape of the other."""
    require_floating(name, x)
    if x.dtype != other.dtype:
        raise TypeError(
            f"{name}: got {x.dtype}, accepted is the dtype of {other_name}, {other.dtype}"
        )
    if x.device != other.device:
        raise ValueError(
            f"{name}: got on {x.device}, accepted is the device of {other_name}, {other.device}"
        )
    if shape and x.shape != other.shape:
        raise ValueError(
            f"{name}: got shape {tuple(x.shape)}, accepted is that of {other_name},"
            f" {tuple(other.shape)}"
        )
