"""Mixed precision, where a system's configuration asks for it."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from pydisent.systems._base import System

PRECISIONS = ("fp32", "bf16")


def mixed_precision(system: System) -> AbstractContextManager[Any]:
    """Return a context in which networks compute in bf16 if the setting `precision` says so."""
    enabled = system.config.precision == "bf16"
    return torch.autocast(system.device.type, torch.bfloat16, enabled=enabled)


def full_precision(x: Tensor) -> Tensor:
    """Return `x` in at least single precision, as losses need it."""
    return x.float() if x.dtype.itemsize < 4 else x
