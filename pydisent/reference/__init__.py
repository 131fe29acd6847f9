"""Every op in pure PyTorch, forward and backward: the tests' oracle and the fallback everywhere."""

from . import covariance, density, doubling, gates, latent, spectral, tangent

__all__ = ["covariance", "density", "doubling", "gates", "latent", "spectral", "tangent"]
