"""Mixed precision for systems configured for it."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from pydisent._precision import affordable_dtype, has_native_bf16
from pydisent.systems._base import System

AUTO = "auto"
PRECISIONS = (AUTO, "fp32", "bf16")


def chosen_precision(asked: str, device: torch.device) -> str:
    """Resolve a precision setting to "bf16" or "fp32" on a device.

    "auto" means "bf16" where it is native. On a CPU without native support, "bf16" means "fp32",
    with a warning.
    """
    if asked == AUTO:
        return "bf16" if has_native_bf16(device) else "fp32"
    if asked == "bf16" and affordable_dtype(torch.bfloat16, device) != torch.bfloat16:
        return "fp32"
    return asked


def mixed_precision(system: System) -> AbstractContextManager[Any]:
    """Return a context in which networks compute in bf16, if the system is trained in bf16."""
    precision = system.precision or chosen_precision(system.config.precision, system.device)
    return torch.autocast(system.device.type, torch.bfloat16, enabled=precision == "bf16")


def full_precision(x: Tensor) -> Tensor:
    """Return `x` in at least single precision, as losses require."""
    return x.float() if x.dtype.itemsize < 4 else x
