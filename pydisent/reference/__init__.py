"""Every op in pure PyTorch, forward and backward: the tests' oracle and the fallback everywhere."""

from . import spectral, tangent

__all__ = ["spectral", "tangent"]
