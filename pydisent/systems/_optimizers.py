"""The papers' optimisers, in PyTorch's fastest implementations."""

import torch
from torch import nn
from torch.optim import Optimizer

from pydisent.systems._rmsprop import RMSprop, TensorFlowRMSprop

RMSPROP_VARIANTS = ("torch", "tensorflow")


def parameters(*modules: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of all modules, in order."""
    return [parameter for module in modules for parameter in module.parameters()]


def adam(
    parameters: list[nn.Parameter],
    rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
) -> Optimizer:
    """Return Adam."""
    return torch.optim.Adam(parameters, rate, betas, eps, weight_decay, fused=True)


def rmsprop(
    parameters: list[nn.Parameter],
    rate: float,
    decay: float,
    eps: float,
    momentum: float = 0,
    variant: str = "torch",
) -> Optimizer:
    """Return PyTorch's or TensorFlow 1's RMSProp, as named in `RMSPROP_VARIANTS`."""
    if variant == "tensorflow":
        return TensorFlowRMSprop(parameters, rate, decay, eps, momentum)
    return RMSprop(parameters, rate, decay, eps, momentum=momentum, foreach=True)
