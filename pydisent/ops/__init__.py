"""Fast ops, each with a pure-PyTorch reference, autograd, and compiled kernels if built."""

from .. import _backends
from .density import aggregate_posterior, total_correlation
from .spectral import masked_power_iteration
from .tangent import activation_tangent, activation_tangent_

_backends.load_native()

__all__ = [
    "activation_tangent",
    "activation_tangent_",
    "aggregate_posterior",
    "masked_power_iteration",
    "total_correlation",
]
