"""The Jacobian engine: products with, penalties on and pictures of a generator's Jacobian."""

from .alignment import AlignmentPenalty, alignment_penalty
from .eigen import eigenvector_heatmap, eigenvectors, trace_eigenpath
from .linearization import Linearization, linearize

__all__ = [
    "AlignmentPenalty",
    "Linearization",
    "alignment_penalty",
    "eigenvector_heatmap",
    "eigenvectors",
    "linearize",
    "trace_eigenpath",
]
