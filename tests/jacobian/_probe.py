"""The gradient of ‖J q‖² through one operation, by each route, against central differences."""

from __future__ import annotations

import torch
from _probe_cases import Case
from torch import Tensor

STEP = 1e-3


def central_difference(function, step):
    """Fourth-order central difference of ``function`` at 0."""
    near = function(step) - function(-step)
    far = function(2 * step) - function(-2 * step)
    return (8 * near - far) / (12 * step)


def bent(function):
    """Put a curved map in front, so that a linear operation has a second derivative to carry."""
    return lambda x, *parameters: function(x + 0.1 * torch.sin(x), *parameters)


def _product(case: Case, operands: list[Tensor], q: Tensor, r: Tensor, step: float) -> Tensor:
    """⟨J q, J r⟩, from values of the operation alone."""
    x, *parameters = operands

    def tangent(v):
        return central_difference(
            lambda h: bent(case.function)(x + h * v, *parameters).detach(), step
        )

    return (tangent(q) * tangent(r)).sum()


class Probe:
    """An operation at a point where it is smooth, with the derivatives measured there.

    The point is the first of 40 seeds at which two step sizes agree, so that no stencil straddles
    a kink: a matter of the reference alone.
    """

    def __init__(self, case: Case):
        self.case = case
        for seed in range(40):
            self._draw(seed)
            coarse = self._reference(1.5 * STEP)
            self.values, self.derivatives = self._reference(STEP)
            scale = self.derivatives.norm() + 1e-3 * self.values[0]
            if (coarse[1] - self.derivatives).norm() <= 3e-7 * scale:
                return
        raise AssertionError("no smooth point was found")

    def _draw(self, seed: int) -> None:
        self.operands = self.case.operands(seed)
        generator = torch.Generator().manual_seed(1000 + seed)

        def draw(like):
            return torch.randn(like.shape, generator=generator, dtype=like.dtype)

        self.q, self.r = draw(self.operands[0]), draw(self.operands[0])
        # Each operand alone, twice; of many the first, and then all others together.
        several = len(self.operands)
        groups = [{i} for i in range(several)] if several <= 5 else [{0}, set(range(1, several))]
        self.directions = [
            [draw(o) if j in group else torch.zeros_like(o) for j, o in enumerate(self.operands)]
            for group in groups
            for _ in range(2)
        ]

    def _reference(self, step):
        """Values of ‖J q‖² and ⟨J q, J r⟩, and their derivatives along every direction."""
        values = [_product(self.case, self.operands, self.q, v, step) for v in (self.q, self.r)]
        derivatives = [
            central_difference(
                lambda h, d=d, v=v: _product(
                    self.case, [o + h * e for o, e in zip(self.operands, d)], self.q, v, step
                ),
                step,
            )
            for v in (self.q, self.r)
            for d in self.directions
        ]
        return values, torch.stack(derivatives).reshape(2, -1)

    def error(self, route: str) -> float:
        """Error of the route's gradient relative to its norm; inf if its value is wrong."""
        operands = [o.clone().requires_grad_() for o in self.operands]
        row, function = ROUTES[route]
        value = function(bent(self.case.function), operands[0], self.q, self.r, operands[1:])
        if not (value - self.values[row]).abs() <= 1e-6 * self.values[0]:
            return float("inf") if value.isfinite() else float("nan")
        gradients = [torch.zeros_like(o) for o in operands]
        if value.requires_grad:
            gradients = torch.autograd.grad(value, operands, materialize_grads=True)
        got = torch.stack([
            sum((g * e).sum() for g, e in zip(gradients, d)) for d in self.directions
        ])  # fmt: skip
        scale = self.derivatives[row].norm() + 1e-3 * self.values[0]
        return ((got - self.derivatives[row]).norm() / scale).item()


def _jvp(f, x, q, r, parameters):
    return torch.func.jvp(lambda x: f(x, *parameters), (x,), (q,))[1].square().sum()


def _vmapped_jvp(f, x, q, r, parameters):
    def tangent(v):
        return torch.func.jvp(lambda x: f(x, *parameters), (x,), (v,))[1]

    return torch.func.vmap(tangent)(torch.stack([q, r]))[0].square().sum()


def _tangent_by_reverse(f, x, q, parameters):
    y = f(x, *parameters)
    cotangent = torch.zeros_like(y, requires_grad=True)
    (back,) = torch.autograd.grad(y, x, cotangent, create_graph=True)
    return y, torch.autograd.grad(back, cotangent, q, create_graph=True)[0]


def _double_backward(f, x, q, r, parameters):
    return _tangent_by_reverse(f, x, q, parameters)[1].square().sum()


def _gram_product(f, x, q, r, parameters):
    y, tangent = _tangent_by_reverse(f, x, q, parameters)
    (product,) = torch.autograd.grad(y, x, tangent, create_graph=True)
    return (product * r).sum()


ROUTES = {
    "jvp": (0, _jvp),
    "vmap": (0, _vmapped_jvp),
    "double": (0, _double_backward),
    "gram": (1, _gram_product),
}
