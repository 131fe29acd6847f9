"""Exponential moving average of a network's parameters."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pydisent._checks import check_integer, check_number


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
        If `decay` is not a number in [0, 1), or a parameter is in half precision, which would round
        the updates off.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__()
        check_number("decay", decay, at_least=0, below=1)
        for name, parameter in module.named_parameters():
            if parameter.dtype in (torch.float16, torch.bfloat16):
                raise TypeError(
                    f"module's parameters must be float32 or float64, as half precision rounds the "
                    f"updates off, got {parameter.dtype} for {name}"
                )
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Update the average after `module`'s update number `step`, counted from zero.

        Raises
        ------
        ValueError, TypeError
            If `step` is not an integer >= 0, or the module's parameters or buffers do not have the
            average's number, shapes and dtypes.
        """
        check_integer("step", step, at_least=0)
        share = 1 - min(self.decay, _early(step))
        # In order, as wrappers of a module, such as torch.compile's, prefix its names.
        pairs = [
            *_paired("parameters", self.module.named_parameters(), module.parameters()),
            *_paired("buffers", self.module.named_buffers(), module.buffers()),
        ]
        for mean, now in pairs:
            if isinstance(mean, nn.Parameter):
                mean.lerp_(now, share)
            else:
                mean.copy_(now)

    def warms_up(self, step: int) -> bool:
        """Whether update number `step` keeps less than `decay`, so that the next keeps more."""
        return _early(step) < self.decay

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the averaged network."""
        return self.module(*args, **kwargs)


def _paired(
    kind: str, means: Iterable[tuple[str, Tensor]], latest: Iterable[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Return the average's tensors with the module's, checked to be alike."""
    wanted, given = list(means), list(latest)
    if len(given) != len(wanted):
        raise ValueError(f"module must have {len(wanted)} {kind}, as the average, got {len(given)}")
    for (name, own), x in zip(wanted, given):
        if (x.shape, x.dtype) != (own.shape, own.dtype):
            raise ValueError(
                f"module's {name} must be {tuple(own.shape)} {own.dtype}, as in the average, got "
                f"{tuple(x.shape)} {x.dtype}"
            )
    return [(own, x) for (_, own), x in zip(wanted, given)]


def _early(step: int) -> float:
    """Largest fraction that update `step` keeps, so that the initial weights fade quickly."""
    return (1 + step) / (10 + step)
