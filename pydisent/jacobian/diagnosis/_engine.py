"""How the Jacobian engine itself handles an operation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pydisent.jacobian._call import is_foreign
from pydisent.jacobian._names import STEPWISE
from pydisent.jacobian._outputs import CONSTANT
from pydisent.jacobian.decompositions import DECOMPOSITIONS, KEEP_STATISTICS
from pydisent.jacobian.diagnosis._routes import Point
from pydisent.jacobian.gram import gram_penalty
from pydisent.jacobian.linearization import linearize_unchecked
from pydisent.jacobian.rules import RULES

OWN_RULE = "own rule"
DECOMPOSED = "decomposed"
CHECKED = "forward mode, held against reverse"
TWICE = "reverse mode twice"
HELD = "batch statistics held constant"


def _of_one_code(point: Point) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    """``point.f`` as a function of one code (1, m) of all operands, and x, v and w as codes."""
    sizes = [t.numel() for t in point.x]

    def fn(codes: Tensor) -> Tensor:
        parts = codes[0].split(sizes)
        return point.f([part.view(t.shape) for part, t in zip(parts, point.x)])[None]

    codes = [
        torch.cat([t.reshape(-1) for t in tensors])[None] for tensors in (point.x, point.v, point.w)
    ]
    return fn, codes


def penalty_gradient(point: Point) -> float:
    """Error of the engine's derivative of ‖J v‖² along w."""
    fn, (x, v, w) = _of_one_code(point)
    x.requires_grad_()
    try:
        penalty = gram_penalty(fn, x, torch.sum, directions=v[None], tolerance=0)
    except ValueError as error:
        if str(error) != CONSTANT:
            raise
        return point.penalty_error(torch.zeros_like(x.sum()))
    (slope,) = torch.autograd.grad(penalty, x)
    return point.penalty_error((slope * w).sum())


def means(func: object, name: str, point: Point) -> str:
    """How the engine differentiates an operation, of which ``point`` is one call."""
    if func in KEEP_STATISTICS:
        return OWN_RULE
    if not callable(func) or is_foreign(func):
        return TWICE
    if name in RULES or name in STEPWISE:
        return OWN_RULE
    if func in DECOMPOSITIONS:
        return DECOMPOSED
    fn, (codes, _, _) = _of_one_code(point)
    steps = linearize_unchecked(fn, codes, (), {}).program.steps
    return TWICE if any(step.live for step in steps) else CHECKED
