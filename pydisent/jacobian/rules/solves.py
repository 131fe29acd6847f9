"""The rule for triangular systems."""

from __future__ import annotations

import torch

from pydisent.jacobian._call import Call, NoRuleError
from pydisent.jacobian._step import Step
from pydisent.jacobian.rules._base import rule


@rule("linalg_solve_triangular")
def _solve_triangular(call: Call) -> Step:
    """The solution X of A X = B for a constant A, which all K tangents share."""
    matrix, right, *rest = call.args
    if rest or not call.is_traced(right) or call.is_traced(matrix):
        raise NoRuleError
    if matrix.dim() > right.dim():  # K would be taken for A's batch
        raise NoRuleError
    how = {name: value for name, value in call.kwargs.items() if name != "out"}

    def push(captured, tangents):
        return torch.linalg.solve_triangular(captured[0], tangents[0], **how)

    return Step([right], [matrix], push)
