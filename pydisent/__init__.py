"""Fast, correct losses, ops and full systems for learning disentangled representations."""

from . import jacobian, ops
from ._backends import backends
from .jacobian import (
    AlignmentPenalty,
    Linearization,
    alignment_penalty,
    eigenvector_heatmap,
    linearize,
    trace_eigenpath,
)

__version__ = "0.1.0"

__all__ = [
    "AlignmentPenalty",
    "Linearization",
    "alignment_penalty",
    "backends",
    "eigenvector_heatmap",
    "jacobian",
    "linearize",
    "ops",
    "trace_eigenpath",
]
