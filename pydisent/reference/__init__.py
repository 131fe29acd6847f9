"""Every op in pure PyTorch, forward and backward: the tests' oracle and the universal fallback."""

from pydisent.reference import (
    constriction,
    covariance,
    density,
    doubling,
    gates,
    latent,
    spectral,
    tangent,
)

__all__ = [
    "constriction",
    "covariance",
    "density",
    "doubling",
    "gates",
    "latent",
    "spectral",
    "tangent",
]
