"""Detection of training that has diverged."""

import torch
from torch import nn


class NonFiniteError(RuntimeError):
    """A loss or a weight became infinite or NaN."""


def non_finite_weight(system: nn.Module) -> str | None:
    """Return the name of a weight or buffer that is not finite, or None."""
    for name, value in system.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return name
    return None
