"""The ways in which PyTorch computes a derivative, each compared with differences of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pydisent.jacobian.diagnosis._differences import Reference, Values

Tensors = Sequence[Tensor]


@dataclass(frozen=True)
class Point:
    """Where and along what a function ``f`` of ``x`` is differentiated: v, w, and cotangents u."""

    f: Values  # of the smooth outputs alone
    x: Tensors
    v: Tensors
    w: Tensors
    u: Tensor
    reference: Reference

    def penalty_error(self, got: Tensor) -> float:
        """Error of the derivative along w of ‖J v‖², relative to 2 ‖J v‖ ‖D²f[v, w]‖."""
        along, mixed = self.reference.first[0], self.reference.mixed
        size = max(along.norm().item(), self.reference.floor)
        return _error(got, 2 * along @ mixed, 2 * size * self.reference.scale(2))

    def leaves(self) -> list[Tensor]:
        """The operands, as leaves of a graph."""
        return [t.detach().clone().requires_grad_() for t in self.x]


@dataclass(frozen=True)
class Kind:
    """A derivative that programs use: its order, and its error by one route."""

    title: str
    order: int
    error: Callable[[Point], float]


def _error(got: Tensor, exact: Tensor, scale: float) -> float:
    """Error relative to ``scale``."""
    return (got.detach() - exact).norm().item() / scale


def _grad(y: Tensor, x: Tensors, seed: Tensor | None = None, *, graph: bool = False) -> Tensors:
    if not y.requires_grad:
        return [torch.zeros_like(t) for t in x]
    return torch.autograd.grad(
        y, list(x), seed, create_graph=graph, retain_graph=True, materialize_grads=True
    )


def _dot(a: Tensors, b: Tensors) -> Tensor:
    return torch.stack([(s * t).sum() for s, t in zip(a, b)]).sum()


def _jvp(f: Values, x: Tensors, v: Tensors) -> Tensor:
    return torch.func.jvp(lambda *x: f(x), tuple(x), tuple(v))[1]


def _forward(p: Point) -> float:
    exact = torch.cat(p.reference.first)
    moved = torch.cat([_jvp(p.f, p.x, t) for t in (p.v, p.w)])
    return _error(moved, exact, p.reference.scale(1))


def _reverse(p: Point) -> float:
    x = p.leaves()
    pulled = _grad(p.f(x), x, p.u)
    exact = torch.stack([p.u @ t for t in p.reference.first])
    got = torch.stack([_dot(pulled, t) for t in (p.v, p.w)])
    return _error(got, exact, p.reference.scale(1))


def _second(p: Point, got: Tensor) -> float:
    """The error of ⟨u, D²f[v, w]⟩."""
    return _error(got, p.u @ p.reference.mixed, p.reference.scale(2))


def _double_backward(p: Point) -> float:
    x = p.leaves()
    first = _grad(p.f(x), x, p.u, graph=True)
    return _second(p, _dot(_grad(_dot(first, p.v), x), p.w))


def _forward_over_reverse(p: Point) -> float:
    def pulled(*x):
        return torch.func.vjp(lambda *x: p.f(x), *x)[1](p.u)

    return _second(p, _dot(torch.func.jvp(pulled, tuple(p.x), tuple(p.v))[1], p.w))


def _reverse_over_forward(p: Point) -> float:
    x = p.leaves()
    return _second(p, _dot(_grad(_jvp(p.f, x, p.v), x, p.u), p.w))


def _forward_over_forward(p: Point) -> float:
    moved = _jvp(lambda x: _jvp(p.f, x, p.v), p.x, p.w)
    return _error(moved, p.reference.mixed, p.reference.scale(2))


def _penalty(p: Point) -> float:
    """The error of the derivative along w of ‖J v‖², with J v by reverse mode twice."""
    x = p.leaves()
    y = p.f(x)
    got = torch.zeros((), dtype=y.dtype, device=y.device)
    if y.requires_grad:
        seed = torch.zeros_like(y, requires_grad=True)
        moved = _grad(_dot(_grad(y, x, seed, graph=True), p.v), [seed], graph=True)[0]
        got = _dot(_grad(moved.square().sum(), x), p.w)
    return p.penalty_error(got)


def _third(p: Point) -> float:
    """The error of ⟨u, 3 D³f[v, v, w] + D³f[w, w, w]⟩, by reverse mode three times."""
    x = p.leaves()
    first = _grad(p.f(x), x, p.u, graph=True)
    parts = []
    for direction, factor in ((p.v, 3), (p.w, 1)):
        second = _grad(_dot(first, direction), x, graph=True)
        parts.append(factor * _dot(_grad(_dot(second, direction), x), p.w))
    return _error(torch.stack(parts).sum(), p.u @ p.reference.third, p.reference.scale(3))


def _vmap(p: Point) -> float:
    """The error of J v and J'u, each for two vectors at once."""
    vmap = torch.func.vmap
    pairs = tuple(torch.stack([a, b]) for a, b in zip(p.v, p.w))
    moved = vmap(lambda *t: _jvp(p.f, p.x, t), randomness="same")(*pairs)
    exact = torch.stack(p.reference.first)
    errors = [_error(moved, exact, p.reference.scale(1))]
    seeds = torch.stack([p.u, p.u.flip(0)])
    pull = torch.func.vjp(lambda *x: p.f(x), *p.x)[1]
    pulled = vmap(pull, randomness="same")(seeds)
    got = torch.stack([_dot([part[i] for part in pulled], p.v) for i in (0, 1)])
    errors.append(_error(got, seeds @ p.reference.first[0], p.reference.scale(1)))
    return max(errors, key=lambda e: (e != e, e))


def _vmapped_gradient(p: Point) -> float:
    x = p.leaves()
    pairs = tuple(torch.stack([a, b]) for a, b in zip(p.v, p.w))
    moved = torch.func.vmap(lambda *t: _jvp(p.f, x, t), randomness="same")(*pairs)
    return _second(p, _dot(_grad(moved[0], x, p.u), p.w))


KINDS = {
    "forward": Kind("forward", 1, _forward),
    "reverse": Kind("reverse", 1, _reverse),
    "vmap": Kind("vmap", 1, _vmap),
    "double_backward": Kind("rev∘rev", 2, _double_backward),
    "forward_over_reverse": Kind("fwd∘rev", 2, _forward_over_reverse),
    "reverse_over_forward": Kind("rev∘fwd", 2, _reverse_over_forward),
    "forward_over_forward": Kind("fwd∘fwd", 2, _forward_over_forward),
    "vmapped_forward": Kind("rev∘vmap", 2, _vmapped_gradient),
    "penalty": Kind("∇‖Jq‖²", 2, _penalty),
    "third": Kind("rev³", 3, _third),
}
"""The derivatives that are checked, by the names in JSON."""
