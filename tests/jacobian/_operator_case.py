"""A sample of an operator as a function of latent codes and a matrix."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from _operator_database import (
    BATCH,
    EXACT,
    ITERATIONS,
    LARGE,
    POINTS,
    POSITIVE,
    SEED,
    SIGNS,
    SIZE,
    STEPS,
    K,
    moves,
    operators,
)
from _oracle import power_iterations
from _probe import central_difference
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree


def words_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(str(error))}"


def first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:240]


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
        if not given or not given["training"] or len(given["input"]) == 1:
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
        self._moving = [i for i, leaf in enumerate(leaves) if moves(leaf) and i != signs]
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
                reason = f"torch cannot compute there: {words_of(error)}"
                continue
            if disagreement(best) <= 1:
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
            if disagreement(found[-1]) <= 1e-2:
                break
        return min(found, key=disagreement)

    def measure(self, step: float) -> Reference:
        """The three, with their differences from those of twice the step."""
        # Two steps may agree by chance, so count what rounding does to values and differences.
        rounding, weight = self.noise / step, self.weight.detach()
        jacobian, other = self._jacobian(weight, step, differences)
        error = max(relative(other, jacobian), rounding)
        if not error <= 1e-3:  # the rest would be no better
            return Reference(jacobian, math.nan, math.nan, step, error, math.inf, math.inf)

        def moved(h: float) -> Tensor:
            jacobian = self._jacobian(weight + h * self.direction, step)
            return torch.tensor(self._penalty(jacobian), dtype=torch.float64)

        penalty = self._penalty(jacobian)
        slope, other_slope = differences(moved, step).tolist()
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
            jacobian_error=max(found.jacobian_error, relative(third.jacobian, found.jacobian)),
            penalty_error=max(found.penalty_error, abs(third.penalty - found.penalty)),
            slope_error=max(found.slope_error, abs(third.slope - found.slope)),
        )


def differences(function: Callable[[float], Tensor], step: float) -> Tensor:
    """Fourth-order central differences of ``function`` at 0, with the step and with its double."""
    near, middle, far = (function(h) - function(-h) for h in (step, 2 * step, 4 * step))
    return torch.stack([(8 * near - middle) / (12 * step), (8 * middle - far) / (24 * step)])


def relative(got: Tensor, exact: Tensor) -> float:
    return ((got - exact).norm() / exact.norm().clamp_min(1e-3)).item()


def disagreement(reference: Reference) -> float:
    """Above 1 where the reference is no good."""
    worst = max(
        reference.jacobian_error / 1e-5,
        reference.penalty_error / 1e-4,
        reference.slope_error / (1e-3 * max(abs(reference.slope), 0.1)),
    )
    return worst if worst == worst else math.inf
