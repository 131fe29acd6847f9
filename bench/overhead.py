"""The cost of a call, relative to a minimal custom gradient in Python.

Every public op on a few numbers, on the CPU, so that call overhead dominates: without a graph,
forward with a recorded graph, and forward with backward. The yardstick is :class:`Minimal`, a
``torch.autograd.Function`` that saves one tensor and multiplies by 2 in either direction. Ratios
are relative to it with one input; and, as most of a backward pass is the engine's work per input
and gradient, also relative to it with as many inputs as the op has gradients. "Backward" is
``torch.autograd.backward(outputs, ones)`` to leaves without a gradient. Inputs that are given in
training (noise, targets, probe) require no gradient.

Bursts of calls are timed in turns, with the garbage collector off; figures and ratios are for the
fastest bursts, with the median of the ratios round by round next to them. Run ``python
bench/overhead.py``; results go to ``bench/results/<machine>/overhead.json``.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from _harness import environment, write_result
from torch import Tensor

from pydisent import ops
from pydisent.ops.registry import REGISTRY
from pydisent.ops.spec import Draw, tuple_of

GOALS = {"forward": 2.5, "both": 1.5}
BURST = 8
GIVEN = {"noise", "target_a", "target_b", "probe"}
ADAPTED: dict[str, Callable[..., Any]] = {
    "activation_tangent": lambda h, x, kind, *_: ops.activation_tangent(h, x, kind),
    "activation_tangent_": lambda h, x, kind, *_: ops.activation_tangent_(h, x, kind),
    "covariance_penalty": lambda mu, logvar, off, on: ops.covariance_penalty(
        mu, logvar, lambda_od=off, lambda_d=on
    ),
    "perceptual_simplicity_loss": lambda *args: ops.perceptual_simplicity_loss(*args[:5]),
}
Passes = dict[str, Callable[[], Any]]


class Minimal(torch.autograd.Function):
    """Twice the first input, which it saves; its gradient goes to all inputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *others: Tensor) -> Tensor:
        """Save one tensor and run one operation."""
        ctx.save_for_backward(x)
        ctx.inputs = 1 + len(others)
        return x * 2.0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Unpack one tensor and run one operation."""
        (_,) = ctx.saved_tensors
        return (grad * 2.0,) * ctx.inputs


def passes(function: Callable[..., Any], args: list[Any], leaves: list[Tensor]) -> Passes:
    """The timed calls, by name."""
    given = [x.detach() if isinstance(x, Tensor) else x for x in args]
    found: Passes = {"no_grad": lambda: function(*given)}
    if not leaves:
        return found
    ones = [torch.ones_like(y) for y in tuple_of(function(*args))]

    def both() -> None:
        torch.autograd.backward(tuple_of(function(*args)), ones)
        for leaf in leaves:
            leaf.grad = None

    return found | {"forward": lambda: function(*args), "both": both}


def minimal(inputs: int) -> Passes:
    args = [torch.randn(4, 3).requires_grad_() for _ in range(inputs)]
    return passes(Minimal.apply, args, args)


def public_ops() -> list[str]:
    return [name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))]


def problem(name: str) -> tuple[Passes, int]:
    """The passes of a public op, and the number of inputs with a gradient."""
    spec = REGISTRY[{"total_correlation": "aggregate_posterior"}.get(name, name)].spec
    args = list(spec.problem(Draw(torch.float32), spec.sizes.tiny))
    leaves = [
        x.requires_grad_()
        for n, x in zip(spec.inputs, args)
        if isinstance(x, Tensor) and x.is_floating_point() and n not in GIVEN | spec.constants
    ]
    return passes(ADAPTED.get(name, getattr(ops, name)), args, leaves), len(leaves)


def burst(call: Callable[[], Any]) -> float:
    call()
    begin = time.perf_counter()
    for _ in range(BURST):
        call()
    return 1e6 * (time.perf_counter() - begin) / BURST


def measured(rounds: int) -> dict[str, Any]:
    """Microseconds and ratios of every op and of the yardstick."""
    problems = {name: problem(name) for name in public_ops()}
    bases = {n: minimal(n) for n in sorted({1} | {n for _, n in problems.values() if n})}
    contenders: dict[Any, Any] = {
        (n, key): call for n, base in bases.items() for key, call in base.items()
    }
    for name, (calls, _) in problems.items():
        contenders |= {(name, key): call for key, call in calls.items()}
    times: dict[Any, list[float]] = {key: [] for key in contenders}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for key, call in contenders.items():
                times[key].append(burst(call))
    finally:
        gc.enable()

    def ratio(name: str, key: str, inputs: int) -> dict[str, float]:
        mine, base = times[name, key], times[inputs, key]
        of_rounds = statistics.median(x / y for x, y in zip(mine, base))
        return {"of_fastest": min(mine) / min(base), "median": of_rounds}

    rows: dict[str, Any] = {}
    for name, (calls, inputs) in problems.items():
        rows[name] = {"inputs": inputs, "us": {key: min(times[name, key]) for key in calls}}
        for key in GOALS.keys() & calls.keys():
            rows[name][key] = ratio(name, key, 1)
            rows[name][f"{key}_same_inputs"] = ratio(name, key, inputs)
    base_us = {n: {key: min(times[n, key]) for key in base} for n, base in bases.items()}
    return {"minimal_us": base_us, "ops": rows}


def table(result: dict[str, Any]) -> list[str]:
    """One line per op."""
    lines = [
        f"{'µs':30}{'no grad':>8}{'forward':>8}{'both':>7}   ratio forward  both   same inputs",
        *(
            f"minimal, {n} input(s){us['no_grad']:18.1f}{us['forward']:8.1f}{us['both']:7.1f}"
            for n, us in result["minimal_us"].items()
        ),
    ]
    for name, row in result["ops"].items():
        us = row["us"]
        if "both" not in us:
            lines.append(f"{name:30}{us['no_grad']:8.1f}")
            continue
        ratios = (row[key]["of_fastest"] for key in ("forward", "both", "both_same_inputs"))
        shown = "{:16.2f}{:6.2f}{:14.2f}".format(*ratios)
        lines.append(f"{name:30}{us['no_grad']:8.1f}{us['forward']:8.1f}{us['both']:7.1f}{shown}")
    return lines


def over(result: dict[str, Any]) -> list[str]:
    """Ops that miss a goal."""
    return [
        f"{name} {key}: {row[key]['of_fastest']:.2f}"
        for name, row in result["ops"].items()
        for key, goal in GOALS.items()
        if key in row and row[key]["of_fastest"] > goal
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=150)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {"goals": GOALS, "rounds": options.rounds, **measured(options.rounds)}
    print("\n".join(table(result)))
    result["over"] = over(result)
    print(f"over {GOALS}: {', '.join(result['over']) or 'none'}")
    print(write_result("overhead", result, environment()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
