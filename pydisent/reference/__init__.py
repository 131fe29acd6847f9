"""Every op in pure PyTorch, forward and backward: the tests' oracle and the fallback everywhere."""

from . import density, spectral, tangent

__all__ = ["density", "spectral", "tangent"]
