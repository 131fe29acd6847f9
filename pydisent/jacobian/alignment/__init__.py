"""Ramesh et al.'s alignment penalty (Algorithm 3), exact and without unrolling it.

The penalty is a function R of the Gram matrices M_b = J_b'J_b alone. With C_b = dR/dM_b, a constant
small matrix per sample, its gradient is dR = Σ_b <C_b, dM_b> = 2 Σ_b <J_b C_b, dJ_b>. So it takes a
few Jacobian-vector products along the leading directions of J C and one reverse pass through
them, however many eigenvectors and power iterations the penalty has.
"""

from pydisent.jacobian.alignment._algorithm import alignment_mask, alignment_signs, random_signs
from pydisent.jacobian.alignment.penalty import (
    METHODS,
    AlignmentPenalty,
    Method,
    alignment_penalty,
)

__all__ = [
    "METHODS",
    "AlignmentPenalty",
    "Method",
    "alignment_mask",
    "alignment_penalty",
    "alignment_signs",
    "random_signs",
]
