"""One operation as a function of (input, *parameters), and the table of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Case:
    function: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...]
    prepare: Callable[[list[Tensor]], list[Tensor]] | None = None

    def operands(self, seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        drawn = [torch.randn(s, generator=generator, dtype=torch.float64) for s in self.shapes]
        drawn = [drawn[0], *(0.5 * p for p in drawn[1:])]
        return self.prepare(drawn) if self.prepare else drawn


CASES: dict[str, Case] = {}


def case(name, function, *shapes, prepare=None):
    assert name not in CASES
    CASES[name] = Case(function, shapes, prepare)


def module_case(name, build, x_shape, call=None):
    """Add a module, whose parameters become the case's, so that their gradients are probed."""
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    module = build().double()
    torch.random.set_rng_state(state)
    names = [n for n, _ in module.named_parameters()]
    values = [p.detach().clone() for _, p in module.named_parameters()]
    call = call or (lambda run, x: run(x))

    def function(x, *parameters):
        given = dict(zip(names, parameters))
        return call(lambda *a, **k: torch.func.functional_call(module, given, a, k), x)

    CASES[name] = Case(function, (x_shape,), lambda drawn: [drawn[0], *values])


def positive(drawn):
    return [drawn[0].abs() + 0.5, *drawn[1:]]


def unit(drawn):
    return [0.9 * torch.tanh(drawn[0]), *drawn[1:]]
