"""The judgement of a random program's second derivatives, by differences of its values."""

import re
import warnings

import torch
from _judge import (
    NONE,
    REFUSED,
    RIGHT,
    ROUGH,
    STEP,
    WRONG,
    RoughError,
    Subject,
    _along,
    _error,
    _names_part_of,
    _refusals,
    _within,
)
from _probe import central_difference
from torch import Tensor

import pydisent

BENT, TILTED = 3e-3, 3e-3  # steps
BOUNDS = {"bent": 1e-6, "tilt": 1e-4}


class Curve(Subject):
    """A program, with its second derivatives along directions, (K, B, n)."""

    def bent(self, step: float) -> Tensor:
        rows = []
        for v in self.probe.unbind(-1):
            f = {k: self._flat(self.z + k * step * v) for k in range(-2, 3)}
            ends = 16 * (f[1] + f[-1]) - f[2] - f[-2]
            rows.append((ends - 30 * f[0]) / (12 * step * step))
        return torch.stack(rows)

    def weights(self, like: Tensor) -> Tensor:
        return torch.linspace(-1, 2, like.numel(), dtype=torch.float64).reshape(like.shape)

    def tilt(self, step: float) -> Tensor:
        """The derivative of a weighted sum of them along the directions of the parameters."""
        kept = [p.detach().clone() for p in self.parameters]

        def moved(h: float) -> Tensor:
            with torch.no_grad():
                for p, old, d in zip(self.parameters, kept, self.directions):
                    p.copy_(old + h * d)
            bent = self.bent(step)
            return (self.weights(bent) * bent).sum()

        try:
            return central_difference(moved, TILTED)
        finally:
            moved(0.0)

    def compared(self, what: str, got: Tensor) -> str:
        """How far ``got`` is off; RoughError where two steps measure different things."""
        expected, bound = self.measured(what, BENT), BOUNDS[what]
        error = _error(got, expected)
        if error <= bound:
            return ""
        if not _error(self.measured(what, BENT / 2), expected) <= bound / 3:
            raise RoughError
        return f"off by {error:.1e}"


def _fault(curve: Curve, broken: bool) -> str:
    curve.restart()
    curve.calls = 0
    directions = curve.probe.movedim(-1, 0)
    _, _, second = pydisent.second_directional_derivative(curve, curve.z, directions)
    parts = [second] if isinstance(second, Tensor) else second
    got = torch.cat([part.reshape(*directions.shape[:2], -1) for part in parts], 2)
    if fault := curve.compared("bent", got.detach()):
        return f"v'H v is {fault}"
    if curve.calls != 1:
        return f"the function was called {curve.calls} times"
    curve.restart()
    _, _, second = pydisent.second_directional_derivative(curve, curve.z, directions)
    parts = [second] if isinstance(second, Tensor) else second
    got = torch.cat([part.reshape(*directions.shape[:2], -1) for part in parts], 2)
    if not got.requires_grad:
        slope = torch.zeros((), dtype=torch.float64)
    else:
        try:
            gradients = torch.autograd.grad(
                (curve.weights(got) * got).sum(), curve.parameters, allow_unused=True
            )
        except RuntimeError as error:
            if not broken or not re.search("modified (by an inplace|inplace)", str(error)):
                raise
            return ""
        slope = _along(curve, list(gradients))
    if fault := curve.compared("tilt", slope):
        return f"the gradient of v'H v is {fault}"
    return ""


def verdict(names: dict, text: str, *, broken: bool = False) -> str:
    """As ``_judge.verdict``."""
    curve = Curve(names, text)
    try:
        with warnings.catch_warnings(), _within(20):
            warnings.simplefilter("ignore")
            fault = _fault(curve, broken)
    except RoughError:
        return ROUGH
    except _refusals() as error:
        said = str(error).partition("\n")[0]
        if not _names_part_of(str(error), text):
            return f"{WRONG}: refused without the operation's name: {said}"
        return f"{REFUSED}: {said}"
    except Exception as error:
        if "depend on z" in str(error) and not curve.jacobian(STEP).any():
            return NONE
        return f"{WRONG}: {type(error).__name__}: {error}"
    return f"{WRONG}: {fault}" if fault else RIGHT
