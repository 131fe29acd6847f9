"""Exponential moving average of a network's parameters."""

import copy
from typing import Any

import torch
from torch import nn

from pydisent._checks import check_number


class ExponentialAverage(nn.Module):
    """Keep a copy of a network with exponentially averaged parameters.

    Buffers are copied unchanged: running statistics are already moving averages, and averaging
    counts or masks makes no sense.

    Parameters
    ----------
    module : nn.Module
        The network to follow; it is copied.
    decay : float
        Fraction of the average that each update keeps, in [0, 1); smaller in the first updates.

    Raises
    ------
    ValueError, TypeError
        If `decay` is not a number in [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__()
        check_number("decay", decay, at_least=0, below=1)
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Update the average after `module`'s update number `step`, counted from zero."""
        decay = min(self.decay, _early(step))
        for mean, now in zip(self.module.parameters(), module.parameters()):
            mean.lerp_(now, 1 - decay)
        for kept, latest in zip(self.module.buffers(), module.buffers()):
            kept.copy_(latest)

    def warms_up(self, step: int) -> bool:
        """Whether update number `step` keeps less than `decay`, so that the next keeps more."""
        return _early(step) < self.decay

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the averaged network."""
        return self.module(*args, **kwargs)


def _early(step: int) -> float:
    """Largest fraction that update `step` keeps, so that the initial weights fade quickly."""
    return (1 + step) / (10 + step)
