"""PyTorch's operator database as a test of the Jacobian engine, against central differences.

An operator's sample becomes a function of latent codes: ``W z_b`` is added to the sample's
differentiable inputs for each b, and the outputs are flattened. So every operand moves, and the
gradient with respect to ``W`` holds that of all of them. A complex operand takes real and imaginary
parts from ``W z_b``, and a complex output gives its own. What is judged are the Jacobian, the
alignment penalty and the penalty's gradient, from values of the function alone.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from _operator_case import (
    Case,
    NoDerivativeError,
    NotSmoothError,
    Reference,
    disagreement,
    first_line,
    relative,
    reseed,
    words_of,
)
from _operator_database import (
    ITERATIONS,
    KINDS,
    REFUSALS,
    SAMPLES,
    DerivativeError,
    K,
    left_out,
    operators,
    refused_operators,
    samples,
)
from _oracle import gram_products, power_iterations
from torch import Tensor

import pydisent
import pydisent.jacobian

__all__ = [
    "KINDS",
    "NONE",
    "REFUSED_BY_US",
    "RIGHT",
    "ROUGH",
    "SAMPLES",
    "VERDICTS",
    "WHOLE",
    "WRONG",
    "Case",
    "disagreement",
    "left_out",
    "operators",
    "pydisent",
    "refused_operators",
    "samples",
    "verdicts",
]

RIGHT, WHOLE, REFUSED_BY_US = "right", "right, but whole", "refused"
WRONG, ROUGH, NONE = "wrong", "not smooth here", "no derivative to have"
VERDICTS = (RIGHT, WHOLE, REFUSED_BY_US, WRONG, ROUGH, NONE)


@dataclass
class Verdict:
    outcome: str
    detail: str = ""
    torch: str = ""  # what torch's own double backward is where the engine is not right


def judge(case: Case) -> Verdict:
    """Compare the engine with central differences at one sample."""
    try:
        reference = case.settle()
    except NotSmoothError as reason:
        return Verdict(ROUGH, str(reason))
    no_derivative = reference.jacobian.count_nonzero() == 0

    def fn(z):
        return case.function(z)

    fn.__qualname__ = case.name  # what is hidden is said once a name
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            detail = _compare(case, fn, reference)
            if detail:
                reference = case.doubt(reference)
                if disagreement(reference) > 1:
                    return Verdict(ROUGH, "differences of three steps disagree")
                detail = _compare(case, fn, reference)
    except RecursionError as error:
        detail = words_of(error)
    except REFUSALS as error:
        torch_is = _by_torch(case, fn, reference)
        if DerivativeError is None or _names(str(error), case.op):
            return Verdict(REFUSED_BY_US, words_of(error), torch_is)
        return Verdict(WRONG, f"refused, without the operation's name: {words_of(error)}", torch_is)
    except ValueError as error:
        if no_derivative and "depend on z" in str(error):
            return Verdict(NONE, "piecewise constant")
        detail = words_of(error)
    except Exception as error:
        detail = words_of(error)
    if detail:
        return Verdict(WRONG, detail, _by_torch(case, fn, reference))
    ours = [str(w.message) for w in said if str(w.message).startswith("pydisent")]
    if ours:
        return Verdict(WHOLE, first_line(ours[0].replace(case.name, "fn")))
    return Verdict(NONE if no_derivative else RIGHT)


def _compare(case: Case, fn: Callable[[Tensor], Tensor], reference: Reference) -> str:
    """What is wrong with the engine's answers; nothing if they are right."""
    reseed()
    linear = pydisent.linearize(fn, case.z)
    value = case._value(case.z, case.weight)
    if not relative(linear.value.double(), value) <= 1e-7 + 8 * case.eps:
        return f"the value is off by {relative(linear.value.double(), value):.1e}"
    error = relative(linear.jacobian(), reference.jacobian)
    if not error <= 1e-7 + 8 * case.eps + 10 * reference.jacobian_error:
        return f"the Jacobian is off by {error:.1e}"
    reseed()
    penalty = pydisent.alignment_penalty(
        fn, case.z, k=K, iterations=ITERATIONS, probe=case.probe, tolerance=0, method="gram"
    )
    error = abs(penalty.item() - reference.penalty)
    if not error <= 1e-7 + 8 * case.eps + 10 * reference.penalty_error:
        return f"the penalty is off by {error:.1e}"
    gradient = torch.zeros_like(case.weight)
    if penalty.requires_grad:
        (gradient,) = torch.autograd.grad(penalty, [case.weight], materialize_grads=True)
    slope, scale = (gradient * case.direction).sum().item(), max(abs(reference.slope), 0.1)
    error = abs(slope - reference.slope) / scale
    if not error <= 1e-6 + 8 * case.eps + 10 * reference.slope_error / scale:
        return f"the penalty's gradient is off by {error:.1e}"
    return ""


def _by_torch(case: Case, fn: Callable[[Tensor], Tensor], reference: Reference) -> str:
    """How the penalty's gradient fares by torch's own double backward, unrolled."""
    z = case.z.clone().requires_grad_()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reseed()
            value = power_iterations(gram_products(fn, z), case.probe, ITERATIONS, True)
            (gradient,) = torch.autograd.grad(value, [case.weight], materialize_grads=True)
    except (RuntimeError, NotImplementedError, TypeError):
        return REFUSED_BY_US
    slope = (gradient * case.direction).sum().item()
    near = abs(slope - reference.slope) <= 1e-4 + 10 * reference.slope_error
    near &= abs(value.item() - reference.penalty) <= 1e-4 + 10 * reference.penalty_error
    return RIGHT if near else WRONG


def _names(text: str, op: Any) -> bool:
    """Whether the text names the operator, or one that it is made of."""

    def plain(name: str) -> str:
        return re.sub(r"[^a-z0-9]", "", name.lower())

    names = {op.name, op.aten_name, getattr(op.op, "__name__", ""), *(a.name for a in op.aliases)}
    if any(plain(name.rpartition(".")[2]) in plain(text) for name in names if name):
        return True
    return re.search(r"aten::\w+|['`][\w.]+['`]", text) is not None


def verdicts(name: str, kind: str, count: int = SAMPLES) -> Iterator[tuple[int, Verdict]]:
    """Judge samples of an operator; of those that have outputs to differentiate."""
    op = operators()[name]
    if left_out(op, kind):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # More than are asked for, in the place of samples that cannot be judged.
        for place, sample in samples(op, kind, 2 * count):
            try:
                case = Case(op, kind, place, sample)
                verdict = judge(case)
            except NoDerivativeError:
                continue
            yield place, verdict
            count -= 1
            if not count:
                return
