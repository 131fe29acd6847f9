"""The Jacobian engine: products with, penalties on and pictures of a generator's Jacobian."""

from ._call import DerivativeError
from .alignment import AlignmentPenalty, alignment_penalty
from .directional import directional_derivative
from .eigen import eigenvector_heatmap, eigenvectors, trace_eigenpath
from .linearization import Linearization, linearize

__all__ = [
    "AlignmentPenalty",
    "DerivativeError",
    "Linearization",
    "alignment_penalty",
    "directional_derivative",
    "eigenvector_heatmap",
    "eigenvectors",
    "linearize",
    "trace_eigenpath",
]
