"""Every kind of derivative of one function at one point, against differences of its values."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pydisent.jacobian._adjoint import normal_like
from pydisent.jacobian.diagnosis._differences import Reference, Values, reference
from pydisent.jacobian.diagnosis._engine import penalty_gradient
from pydisent.jacobian.diagnosis._routes import Kind, Point

RIGHT, WRONG, RAISES = "right", "wrong", "raises"
KINK = "not differentiable here"
UNMEASURED = "not measured"

TOLERANCE = 1e-6
_OWN_ERRORS = 50  # times the estimated error of the differences themselves
_ROUNDING = 1e-12  # relative difference of two values that is not of another draw
_SEED = 0x5EED_D0C7  # unlike the seeds of users' codes, or v would be one of the codes
_UNCLEAR = 0.1  # a tolerance above which there is no verdict


@dataclass(frozen=True)
class Verdict:
    """Whether one derivative is right.

    Attributes
    ----------
    outcome
        "right", "wrong", "raises", "not differentiable here" or "not measured".
    error
        Relative to the norm of the derivative by differences; None where there is none, and NaN
        where PyTorch's derivative is not a number.
    message
        That of the exception, or why nothing was measured.
    """

    outcome: str
    error: float | None = None
    message: str = ""

    def __str__(self) -> str:
        if self.outcome == WRONG:
            assert self.error is not None
            return "NaN" if math.isnan(self.error) else f"{self.error:.1e}"
        return {RIGHT: "ok", KINK: "kink", UNMEASURED: "–"}.get(self.outcome, self.outcome)


ENGINE = Kind("pydisent", 2, penalty_gradient)
"""The Jacobian engine's gradient of ‖J v‖²."""


class Unmeasurable(Exception):
    """A function cannot be evaluated in double precision, or does not repeat its result."""


class Probe:
    """A function at the point ``x``, in float64, and its derivatives there from values.

    ``f`` maps tensors like those in ``x`` to one vector. It is composed with a curved map that
    leaves ``x`` fixed, so that even a linear function has second derivatives. Each ``seed`` gives
    other directions; ``away`` moves the point by that fraction of its size.
    """

    def __init__(self, f: Values, x: Sequence[Tensor], *, seed: int = 0, away: float = 0.0) -> None:
        generator = torch.Generator("cpu").manual_seed(_SEED + seed)
        sizes = [_size(t) for t in x]
        self.x = [t.detach() + away * size * normal_like(t, generator) for t, size in zip(x, sizes)]
        self.v, self.w = (
            [normal_like(t, generator) * size for t, size in zip(x, sizes)] for _ in range(2)
        )
        self._bends = [normal_like(t, generator) / size for t, size in zip(x, sizes)]
        self._f = f
        self._points: dict[int, Point] = {}
        try:
            with torch.no_grad():
                value, again = self.bent(self.x), self.bent(self.x)
        except Exception as error:  # whatever the function raises
            raise Unmeasurable(f"cannot run in float64: {_first_line(error)}") from error
        if value.dtype != torch.float64:
            raise Unmeasurable(f"computes in {value.dtype} whatever it is given")
        # LAPACK may round differently from call to call (lstsq starts from uninitialised pivots).
        moved = (value - again).nan_to_num().norm()
        if moved > _ROUNDING * value.nan_to_num().norm():
            raise Unmeasurable("returns other values when called again")
        self.u = normal_like(value, generator)

    def bent(self, x: Sequence[Tensor]) -> Tensor:
        """``f`` after the curved map."""
        moved = [a - b for a, b in zip(x, self.x)]
        return self._f([b + d + 0.5 * c * d * d for b, d, c in zip(self.x, moved, self._bends)])

    def point(self, order: int) -> Point:
        """The function and directions for derivatives of an order, at outputs that have them."""
        if order not in self._points:
            self._points[order] = self._point(order)
        return self._points[order]

    def _point(self, order: int) -> Point:
        found = reference(self.bent, self.x, self.v, self.w, order)
        if bool(found.smooth.all()):
            f: Values = self.bent
        else:
            places = found.smooth.nonzero().squeeze(1)
            f = lambda x: self.bent(x).index_select(0, places)  # noqa: E731
        return Point(f, self.x, self.v, self.w, self.u[found.smooth], found)

    def verdict(self, kind: Kind) -> Verdict:
        """The verdict on one of PyTorch's derivatives, or on `ENGINE`."""
        return self._verdict(kind.order, kind.error)

    def is_smooth(self, order: int) -> bool:
        """Whether all outputs have derivatives of the order."""
        return bool(self.point(order).reference.smooth.all())

    def _verdict(self, order: int, error_of: Callable[[Point], float]) -> Verdict:
        try:
            point = self.point(order)
        except Exception as error:
            return Verdict(UNMEASURED, message=_first_line(error))
        if point.reference.count == 0:
            return Verdict(KINK)
        tolerance = _tolerance(point.reference, order)
        if not tolerance <= _UNCLEAR:
            return Verdict(UNMEASURED, message="central differences of two stencils disagree")
        try:
            with warnings.catch_warnings(), torch.enable_grad():
                warnings.simplefilter("ignore")
                missed = error_of(point)
        except Exception as problem:  # whatever PyTorch raises is the finding
            return Verdict(RAISES, message=_first_line(problem))
        return Verdict(RIGHT if missed <= tolerance else WRONG, missed)


class Probes:
    """Probes of ``f`` at ``x`` along several directions, made as they are needed.

    A derivative counts as wrong if it is also wrong along other directions and, if some outputs
    have kinks, at a nearby point, as directions may miss a kink. Raises Unmeasurable.
    """

    def __init__(self, f: Values, x: Sequence[Tensor]) -> None:
        self._f, self._x = f, x
        self._made: dict[int, Probe] = {}
        self.first = self._probe(0)

    def _probe(self, seed: int, away: float = 0.0) -> Probe:
        if seed not in self._made:
            self._made[seed] = Probe(self._f, self._x, seed=seed, away=away)
        return self._made[seed]

    def verdicts(self, kinds: Mapping[str, Kind]) -> dict[str, Verdict]:
        """The verdicts on several derivatives."""
        return {name: self.verdict(kind) for name, kind in kinds.items()}

    def verdict(self, kind: Kind) -> Verdict:
        """The verdict on one derivative."""
        verdict = self.first.verdict(kind)
        if verdict.outcome != WRONG:
            return verdict
        for seed in (1, 2):  # along one of them an error may be missed by chance
            other = self._probe(seed)
            again = other.verdict(kind)
            if again.outcome == WRONG:
                break
        else:
            return again
        if self.first.is_smooth(kind.order) and other.is_smooth(kind.order):
            return verdict
        try:
            beside = self._probe(3, away=1e-2).verdict(kind)
        except Unmeasurable:
            return verdict
        return Verdict(KINK) if beside.outcome in (RIGHT, KINK) else verdict


def _tolerance(found: Reference, order: int) -> float:
    return max(TOLERANCE, _OWN_ERRORS * found.error / found.scale(order))


def _size(x: Tensor) -> float:
    """Root mean square, or 1 for zeros."""
    finite = x[x.isfinite()]
    size = finite.square().mean().sqrt().item() if len(finite) else 0.0
    return size or 1.0


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    if text.startswith("The following operation failed in the TorchScript"):
        text = lines[-1]
    return f"{type(error).__name__}: {text}"[:200]
