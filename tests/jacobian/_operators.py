"""PyTorch's operator database as a test of the Jacobian engine, against central differences.

An operator's sample becomes a function of latent codes: ``W z_b`` is added to the sample's
differentiable inputs for each b, and the outputs are flattened. So every operand moves, and the
gradient with respect to ``W`` holds that of all of them. A complex operand takes real and imaginary
parts from ``W z_b``, and a complex output gives its own. What is judged are the Jacobian, the
alignment penalty and the penalty's gradient, from values of the function alone.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
import re
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from _oracle import gram_products, power_iterations
from _probe import central_difference
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

import pydisent
import pydisent.jacobian

DerivativeError = getattr(pydisent.jacobian, "DerivativeError", None)
REFUSALS = DerivativeError or (RuntimeError, NotImplementedError)
REFUSED = Path(__file__).with_name("operators_refused.toml")

KINDS = ("float64", "complex128", "in place")
RIGHT, WHOLE, REFUSED_BY_US = "right", "right, but whole", "refused"
WRONG, ROUGH, NONE = "wrong", "not smooth here", "no derivative to have"
VERDICTS = (RIGHT, WHOLE, REFUSED_BY_US, WRONG, ROUGH, NONE)

BATCH, SIZE, K, ITERATIONS = 2, 3, 2, 2
SAMPLES = 8  # of an operator and kind, at most
ELEMENTS = 2000  # of a sample's inputs, at most; of some operators there are only larger ones
LARGE = 20_000  # of those, and of outputs
LISTED = 120  # samples of the database looked at: of some operators it makes thousands
SEED = 7  # some operators draw random numbers
# How far operands move, and how far they are spread: some have a small domain.
POINTS = ((0.1, 1.0), (0.02, 1.0), (0.004, 1.0), (0.02, 0.9))
STEPS = (1e-3, 1e-2, 1e-1)  # in z and W; longer ones for what is computed to few digits

# Negative numbers to a broken power are none, and the database takes no others.
POSITIVE = {"__rpow__"}
# The database draws targets that are neither 1 nor -1, of which the loss is zero; the leaf's place.
SIGNS = {"nn.functional.cosine_embedding_loss": 2}
# A cast to a narrower type has the derivative of the cast to a wide one, differences show steps.
EXACT = {
    "half": "double",
    "bfloat16": "double",
    "float": "double",
    "chalf": "cdouble",
    "cfloat": "cdouble",
}


# -- the database ---------------------------------------------------------------------------------


@functools.cache
def operators() -> dict[str, Any]:
    """Every OpInfo by its full name; ImportError where there is no database."""
    frozen = torch.backends.flags_frozen()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    # Its import forbids everyone to set torch.backends' flags, which are not that wrapper's own.
    flags = torch.backends.flags_frozen.__globals__
    flags["__allow_nonbracketed_mutation_flag"] = not frozen
    assert torch.backends.flags_frozen() == frozen
    return {op.full_name: op for op in op_db}


def left_out(op: Any, kind: str) -> str | None:
    """Why the operator has no cases of that kind; None if it has."""
    if not op.supports_autograd:
        return "torch says that it is not differentiable"
    if kind == "in place" and op.get_inplace() is None:
        return "has no in-place variant"
    dtype = _dtype(kind)
    if dtype not in op.dtypes:
        return f"does not take {dtype} on a CPU"
    if dtype not in op.supported_backward_dtypes("cpu"):
        return f"has no derivative in {dtype} on a CPU"
    return None


def _dtype(kind: str) -> torch.dtype:
    return torch.complex128 if kind == "complex128" else torch.float64


def refused_operators() -> dict[str, str]:
    """The committed refusals: a reason each."""
    return tomllib.loads(REFUSED.read_text())["refused"]


def _moves(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.requires_grad and leaf.layout == torch.strided


def _features(sample: Any) -> frozenset[str]:
    """What the sample shows of the operator: its options and the ranks of its operands."""
    features = set()
    for path, leaf in pytree.tree_leaves_with_path((sample.input, sample.args, sample.kwargs)):
        place = pytree.keystr(path)
        if isinstance(leaf, Tensor):
            empty = "" if leaf.dim() else ", a scalar"
            features |= {f"{place} of rank {leaf.dim()}", f"{place} moves {_moves(leaf)}{empty}"}
        else:
            features.add(f"{place} = {leaf!r}"[:80])
    return frozenset(features)


def _usable(op: Any, sample: Any, kind: str) -> bool:
    leaves = pytree.tree_leaves((sample.input, sample.args, sample.kwargs))
    if kind == "in place" and (sample.broadcasts_input or not _moves(sample.input)):
        return False
    if op.name.startswith("nn.functional.max_unpool"):
        # Where places repeat, torch's manual leaves open which value is written.
        places = sample.args[0].flatten(-int(op.name[-2]))
        if any(len(row.unique()) < len(row) for row in places.flatten(0, -2)):
            return False
    moving = sum(leaf.numel() for leaf in leaves if _moves(leaf))
    return moving > 0 and sum(_sizes(sample)) <= LARGE


def samples(op: Any, kind: str, count: int = SAMPLES) -> list[tuple[int, Any]]:
    """At most ``count`` small samples that differ, with their places in the database's list."""
    torch.manual_seed(SEED)
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 - the database draws from it
    # Not by op.sample_inputs, which reads the whole call stack for each sample.
    listed = op.sample_inputs_func(op, "cpu", _dtype(kind), True)
    left = {
        i: (sample, _features(sample), _sizes(sample))
        for i, sample in enumerate(itertools.islice(listed, LISTED))
        if _usable(op, sample, kind)
    }
    small = {i: entry for i, entry in left.items() if sum(entry[2]) <= ELEMENTS}
    if not small:
        count = min(count, 2)
    left = small or left
    seen: Counter[str] = Counter()
    chosen = []

    def merit(place: int) -> tuple:
        """Show most of what was seen least, but nothing empty at first; of these, the smallest."""
        _, features, sizes = left[place]
        return (
            0 not in sizes or len(chosen) >= count // 2,
            sum(2.0 ** -seen[feature] for feature in features),
            -sum(sizes),
            -place,
        )

    while left and len(chosen) < count:
        place = max(left, key=merit)
        sample, features, _ = left.pop(place)
        seen.update(features)
        chosen.append((place, sample))
    return chosen


def _sizes(sample: Any) -> list[int]:
    leaves = pytree.tree_leaves((sample.input, sample.args, sample.kwargs))
    return [leaf.numel() for leaf in leaves if isinstance(leaf, Tensor)]


# -- a case ---------------------------------------------------------------------------------------


class NoDerivativeError(Exception):
    """No output of the sample requires a gradient, or there are too many."""


class NotSmoothError(Exception):
    """Central differences of two steps disagree at every point that was tried, or are not there."""


def reseed() -> None:
    """The same random numbers once more; torch.manual_seed takes longer than most operators."""
    torch.default_generator.manual_seed(SEED)


class FixedStatistics(TorchFunctionMode):
    """Batch norms in training mode take, call by call, the statistics of the first pass.

    That is what the engine says it differentiates. ``_oracle`` has the same of ``F.batch_norm``.
    """

    def __init__(self):
        super().__init__()
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.reading = False
        self.position = 0

    def begin(self) -> FixedStatistics:
        """Start another pass."""
        self.reading, self.position = bool(self.kept), 0
        return self

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").partition(".")[0]
        read = _BATCH_NORMS.get(name)
        given = read and read(*args, **kwargs)
        if not given or not given["training"]:
            return func(*args, **kwargs)
        x = given["input"]
        if not self.reading:
            fixed, dims = x.detach(), (0, *range(2, x.dim()))
            self.kept.append((fixed.mean(dims), fixed.var(dims, correction=0)))
        mean, variance = self.kept[self.position]
        self.position += 1
        eps = given["eps"]
        y = F.batch_norm(x, mean, variance, given["weight"], given["bias"], eps=eps)
        if func is F.batch_norm:
            return y
        # The saved statistics are no differentiable outputs; nor is what is reserved for cuDNN.
        reserved = [x.new_empty(0)] if name == "_batch_norm_with_update" else []
        return y, mean, (variance + eps).rsqrt(), *reserved


def _functional(input, running_mean, running_var, weight=None, bias=None, training=False,
                momentum=0.1, eps=1e-5):  # fmt: skip
    return {"input": input, "weight": weight, "bias": bias, "training": training, "eps": eps}


def _native(input, weight, bias, *rest):
    training, eps = (rest[2], rest[4]) if len(rest) == 5 else (rest[0], rest[2])
    return {"input": input, "weight": weight, "bias": bias, "training": training, "eps": eps}


def _with_update(input, weight, bias, running_mean, running_var, momentum, eps):
    return {"input": input, "weight": weight, "bias": bias, "training": True, "eps": eps}


_BATCH_NORMS: dict[str, Callable[..., dict[str, Any]]] = {
    "batch_norm": _functional,
    "native_batch_norm": _native,
    "_native_batch_norm_legit": _native,
    "_batch_norm_with_update": _with_update,
}


@dataclass
class Reference:
    """What values of the function alone say, and how far two steps agree on each."""

    jacobian: Tensor  # (B, n, m)
    penalty: float
    slope: float  # of the penalty in W, along `Case.direction`
    step: float
    jacobian_error: float
    penalty_error: float
    slope_error: float


class Case:
    """A sample of an operator as a function of (z, W), at a point where it is smooth."""

    def __init__(self, op: Any, kind: str, place: int, sample: Any):
        self.op, self.kind, self.place = op, kind, place
        self.name = f"{op.full_name}, {kind}, sample {place}"
        variant = op.get_inplace() if kind == "in place" else op.get_op()
        self._operation = functools.partial(op.gradcheck_wrapper, variant)
        exact = operators()[EXACT[op.full_name]].get_op() if op.full_name in EXACT else variant
        self._exact = functools.partial(op.gradcheck_wrapper, exact)
        self._process = sample.output_process_fn_grad or (lambda output: output)
        leaves, self._structure = pytree.tree_flatten((sample.input, sample.args, sample.kwargs))
        self._leaves = [x.detach() if isinstance(x, Tensor) else x for x in leaves]
        if op.full_name in POSITIVE:
            self._leaves = [x.abs() if isinstance(x, Tensor) else x for x in self._leaves]
        signs = SIGNS.get(op.full_name)
        if signs is not None:
            self._leaves[signs] = self._leaves[signs].sign()
        self._moving = [i for i, leaf in enumerate(leaves) if _moves(leaf) and i != signs]
        self._sizes = [
            self._leaves[i].numel() * (2 if self._leaves[i].is_complex() else 1)
            for i in self._moving
        ]
        self._normalizes = "batch_norm" in op.name

    def draw(self, seed: int, scale: float, spread: float = 1.0) -> None:
        """Take another point; RuntimeError where torch cannot compute there."""
        generator = torch.Generator().manual_seed(1000 + seed)

        def normal(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.scale, self._spread = scale, spread
        self.z = normal(BATCH, SIZE)
        self.weight = (normal(sum(self._sizes), SIZE) / math.sqrt(SIZE)).requires_grad_()
        self.direction = normal(*self.weight.shape) / math.sqrt(SIZE)
        self.probe = normal(BATCH, SIZE, K).sign()
        self.factor, self.noise = 1.0, 0.0
        self._statistics = FixedStatistics()
        with torch.enable_grad():
            outputs = self._outputs(self.weight @ self.z[0])
        self._positions = [i for i, output in enumerate(outputs) if output.requires_grad]
        kept = [outputs[i] for i in self._positions]
        if not 0 < sum(output.numel() for output in kept) <= LARGE:
            raise NoDerivativeError("none of its outputs requires a gradient, or they are too many")
        # What the engine's own tangents may lose where values are narrower than z.
        self.eps = max(torch.finfo(output.dtype).eps for output in kept)

    # -- the function ------------------------------------------------------------------------------

    def _outputs(self, shift: Tensor, operation: Callable | None = None) -> list[Tensor]:
        leaves = [
            # Running statistics are written into, a dtype or a flag is not.
            x.clone() if isinstance(x, Tensor) and x.is_floating_point() else x
            for x in self._leaves
        ]
        for i, part in zip(self._moving, (self.scale * shift).split(self._sizes)):
            x = self._leaves[i]
            if self._spread != 1.0:
                x = x.mean() + self._spread * (x - x.mean())
            if x.is_complex():
                real, imaginary = part.chunk(2)
                part = torch.complex(real, imaginary)
            leaves[i] = x + part.reshape(x.shape)
        first, args, kwargs = pytree.tree_unflatten(leaves, self._structure)
        result = self._process((operation or self._operation)(first, *args, **kwargs))
        outputs = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
        return [x.to_dense() if x.layout != torch.strided else x for x in outputs]

    def _one(self, code: Tensor, weight: Tensor, operation: Callable | None = None) -> Tensor:
        outputs = self._outputs(weight @ code, operation)
        parts = []
        for output in (outputs[i] for i in self._positions):
            parts += [output.real, output.imag] if output.is_complex() else [output]
        return torch.cat([part.reshape(-1) for part in parts]) * self.factor

    def function(self, z: Tensor) -> Tensor:
        """The operator's outputs (B, n) at codes z (B, m)."""
        return torch.stack([self._one(z[b], self.weight) for b in range(BATCH)])

    # -- the reference -----------------------------------------------------------------------------

    def _value(self, z: Tensor, weight: Tensor) -> Tensor:
        with torch.no_grad(), self._statistics.begin() if self._normalizes else nullcontext():
            reseed()
            rows = [self._one(code, weight, self._exact) for code in z]
            return torch.stack(rows).double()

    def _jacobian(self, weight: Tensor, step: float, difference: Callable = central_difference):
        """(..., B, n, m); as many as ``difference`` makes."""
        columns = [
            difference(lambda h, e=e: self._value(self.z + h * e, weight), step)
            for e in torch.eye(SIZE, dtype=torch.float64)
        ]
        return torch.stack(columns, -1)

    def _penalty(self, jacobian: Tensor) -> float:
        gram = jacobian.mT @ jacobian
        return power_iterations(lambda v: gram @ v, self.probe, ITERATIONS, True).item()

    def settle(self) -> Reference:
        """Find a point where the operator is smooth, and measure there; NotSmoothError if none."""
        reason = ""
        for seed, (scale, spread) in enumerate(POINTS):
            try:
                self.draw(seed, scale, spread)
                if not self._value(self.z, self.weight).isfinite().all():
                    reason = "its values are not finite"
                    continue
                best = self._best()
            except (RuntimeError, ValueError) as error:
                reason = f"torch cannot compute there: {_said(error)}"
                continue
            if _disagreement(best) <= 1:
                return best
            reason = "differences of two steps disagree"
        raise NotSmoothError(reason)

    def _best(self) -> Reference:
        """The measurement whose two steps agree best."""
        size = self._jacobian(self.weight, STEPS[0]).norm().item() / math.sqrt(BATCH * SIZE)
        if 0 < size < math.inf:  # else a small Jacobian's penalty is all EPS
            self.factor = 1 / size
            eps = torch.finfo(torch.float64).eps if self.op.full_name in EXACT else self.eps
            value = self._value(self.z, self.weight)
            self.noise = eps * value.norm().item() / math.sqrt(BATCH * SIZE)
        found = []
        for step in STEPS:
            found.append(self.measure(step))
            if _disagreement(found[-1]) <= 1e-2:
                break
        return min(found, key=_disagreement)

    def measure(self, step: float) -> Reference:
        """The three, with their differences from those of twice the step."""
        # Two steps may agree by chance, so count what rounding does to values and differences.
        rounding, weight = self.noise / step, self.weight.detach()
        jacobian, other = self._jacobian(weight, step, _differences)
        error = max(_relative(other, jacobian), rounding)
        if not error <= 1e-3:  # the rest would be no better
            return Reference(jacobian, math.nan, math.nan, step, error, math.inf, math.inf)

        def moved(h: float) -> Tensor:
            jacobian = self._jacobian(weight + h * self.direction, step)
            return torch.tensor(self._penalty(jacobian), dtype=torch.float64)

        penalty = self._penalty(jacobian)
        slope, other_slope = _differences(moved, step).tolist()
        return Reference(
            jacobian,
            penalty,
            slope,
            step,
            error,
            max(abs(self._penalty(other) - penalty), rounding),
            max(abs(other_slope - slope), rounding / step, error),
        )

    def doubt(self, found: Reference) -> Reference:
        """The same, its errors as a third step has them: two may agree by chance, at many kinks."""
        third = self.measure(found.step / 4)
        return replace(
            found,
            jacobian_error=max(found.jacobian_error, _relative(third.jacobian, found.jacobian)),
            penalty_error=max(found.penalty_error, abs(third.penalty - found.penalty)),
            slope_error=max(found.slope_error, abs(third.slope - found.slope)),
        )


def _differences(function: Callable[[float], Tensor], step: float) -> Tensor:
    """Fourth-order central differences of ``function`` at 0, with the step and with its double."""
    near, middle, far = (function(h) - function(-h) for h in (step, 2 * step, 4 * step))
    return torch.stack([(8 * near - middle) / (12 * step), (8 * middle - far) / (24 * step)])


def _relative(got: Tensor, exact: Tensor) -> float:
    return ((got - exact).norm() / exact.norm().clamp_min(1e-3)).item()


def _disagreement(reference: Reference) -> float:
    """Above 1 where the reference is no good."""
    worst = max(
        reference.jacobian_error / 1e-5,
        reference.penalty_error / 1e-4,
        reference.slope_error / (1e-3 * max(abs(reference.slope), 0.1)),
    )
    return worst if worst == worst else math.inf


# -- the judgement --------------------------------------------------------------------------------


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
                if _disagreement(reference) > 1:
                    return Verdict(ROUGH, "differences of three steps disagree")
                detail = _compare(case, fn, reference)
    except RecursionError as error:
        detail = _said(error)
    except REFUSALS as error:
        torch_is = _by_torch(case, fn, reference)
        if DerivativeError is None or _names(str(error), case.op):
            return Verdict(REFUSED_BY_US, _said(error), torch_is)
        return Verdict(WRONG, f"refused, without the operation's name: {_said(error)}", torch_is)
    except ValueError as error:
        if no_derivative and "depend on z" in str(error):
            return Verdict(NONE, "piecewise constant")
        detail = _said(error)
    except Exception as error:
        detail = _said(error)
    if detail:
        return Verdict(WRONG, detail, _by_torch(case, fn, reference))
    ours = [str(w.message) for w in said if str(w.message).startswith("pydisent")]
    if ours:
        return Verdict(WHOLE, _first_line(ours[0].replace(case.name, "fn")))
    return Verdict(NONE if no_derivative else RIGHT)


def _compare(case: Case, fn: Callable[[Tensor], Tensor], reference: Reference) -> str:
    """What is wrong with the engine's answers; nothing if they are right."""
    reseed()
    linear = pydisent.linearize(fn, case.z)
    value = case._value(case.z, case.weight)
    if not _relative(linear.value.double(), value) <= 1e-7 + 8 * case.eps:
        return f"the value is off by {_relative(linear.value.double(), value):.1e}"
    error = _relative(linear.jacobian(), reference.jacobian)
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


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {_first_line(str(error))}"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:240]


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
