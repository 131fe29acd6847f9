"""Tangent rules: how each torch operation maps K tangents, stacked in front.

A tangent of a value of shape ``s`` has shape ``(K, *s)``. Linear maps with a batch dimension act on
K·B rows at once; elementwise functions multiply by a derivative computed once and shared by the K
tangents; multilinear ones use the product rule. An operation without a rule is differentiated by
itself, by ``torch.func.jvp`` or, if that is missing or wrong, by reverse mode twice. Every rule
consists of operations whose first derivative PyTorch gets right, so that one reverse pass through
it gives the gradient of a Jacobian penalty; this is why norms are composed of primitives.
"""

from pydisent.jacobian.rules import (  # noqa: F401 - each adds its rules to the table
    activations,
    attention,
    constriction,
    convolutions,
    elementwise,
    gates,
    images,
    linear,
    norms,
    products,
    rearrangements,
    selections,
    solves,
    spectra,
    sums,
)
from pydisent.jacobian.rules._base import COVERED, RULES
from pydisent.jacobian.rules.general import general

__all__ = ["COVERED", "RULES", "general"]
