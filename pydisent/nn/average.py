"""The exponential moving average of a network's parameters."""

import copy
from typing import Any

import torch
from torch import nn


class ExponentialAverage(nn.Module):
    """Hold a copy of a network whose parameters trail the network's own.

    Buffers are the network's latest, whatever their dtype: running statistics are moving averages
    already, which to average again would delay, and counts and masks have no average.

    Parameters
    ----------
    module : nn.Module
        The network to follow; it is copied.
    decay : float
        What stays of the average at each update, in [0, 1); less in the first updates.

    Raises
    ------
    ValueError
        If `decay` lies outside [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; accepted: a number in [0, 1)")
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards `module` after its update number `step`, counted from zero."""
        # The first updates count more, or the average would be of initial weights for long.
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, now in zip(self.module.parameters(), module.parameters()):
            mean.lerp_(now, 1 - decay)
        for kept, latest in zip(self.module.buffers(), module.buffers()):
            kept.copy_(latest)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the averaged network."""
        return self.module(*args, **kwargs)
