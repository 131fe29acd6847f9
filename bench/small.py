"""Is the alignment penalty ever slower than the plain way? Small generators of many kinds.

The architectures of ``tests/jacobian`` at k = T = 2, with a few numbers per layer, so that call
overhead dominates. Penalty and gradient in float32, against the paper's Listing 1, which tiles the
batch k times. Gradients are first checked against the unrolled algorithm in float64, with PyTorch's
wrong derivatives replaced: where Listing 1 fails (a tiled batch also draws other random numbers) or
raises, this is reported, and only ours is timed.

Run ``python bench/small.py``; results go to ``bench/results/<machine>/small.json``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _baselines import listing_1
from _baselines import ours as pydisent_penalty
from _harness import environment, measure, write_result
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from pydisent.jacobian.decompositions import DecomposedFunctions

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "jacobian"))
from _architectures import ARCHITECTURES
from _oracle import random_signs, unrolled

K = ITERATIONS = 2
GATE = 1e-3
ours = partial(pydisent_penalty, tolerance=1e-3)


def gradient(sample: Any, penalty: Callable[..., Tensor]) -> list[Tensor]:
    """The penalty's gradient for the parameters that require one."""
    wanted = [p for p in sample.parameters if p.requires_grad]
    value = penalty(sample.fn, sample.z, random_signs(sample.z, K), ITERATIONS)
    return list(torch.autograd.grad(value, wanted, materialize_grads=True))


def plain(fn: Callable, z: Tensor, probe: Tensor, iterations: int) -> Tensor:
    """Listing 1 on all outputs joined, without fused attention, which has no second derivative."""

    def joined(codes: Tensor) -> Tensor:
        outputs = fn(codes)
        outputs = [outputs] if isinstance(outputs, Tensor) else outputs
        return torch.cat([output.flatten(1) for output in outputs], 1)

    with sdpa_kernel(SDPBackend.MATH):
        return listing_1(joined, z, probe, iterations)


def exact_gradient(name: str) -> list[Tensor]:
    sample = ARCHITECTURES[name](torch.float64)
    torch.manual_seed(5)
    wanted = [p for p in sample.parameters if p.requires_grad]
    with DecomposedFunctions():
        answer = unrolled(
            sample.fn, wanted, sample.z, iterations=ITERATIONS, probe=random_signs(sample.z, K)
        )
    return answer.parameters


def error_of(name: str, penalty: Callable[..., Tensor], exact: list[Tensor]) -> float:
    """Relative error in norm, over all parameters together."""
    sample = ARCHITECTURES[name](torch.float32)
    torch.manual_seed(5)
    got = gradient(sample, penalty)
    flat = [torch.cat([t.detach().double().flatten() for t in side]) for side in (got, exact)]
    return ((flat[0] - flat[1]).norm() / flat[1].norm().clamp_min(1e-2)).item()


def row_of(name: str, seconds: float) -> dict[str, Any]:
    exact = exact_gradient(name)
    row: dict[str, Any] = {"pydisent": {"gradient_error": error_of(name, ours, exact)}}
    contenders = {"pydisent": ours}
    try:
        row["listing_1"] = {"gradient_error": error_of(name, plain, exact)}
        contenders["listing_1"] = plain
    except (RuntimeError, NotImplementedError) as error:
        row["listing_1"] = {"raises": str(error).splitlines()[0][:200]}
    passing = [key for key in contenders if row[key]["gradient_error"] <= GATE]
    if "pydisent" not in passing:
        return row
    samples = {key: ARCHITECTURES[name](torch.float32) for key in passing}
    times = measure(
        {key: lambda _, k=key: gradient(samples[k], contenders[k]) for key in passing},
        {key: lambda: None for key in passing},
        seconds,
    )
    for key, found in times.items():
        row[key] |= found
    if len(passing) == 2:
        row["ratio"] = times["listing_1"]["p50"] / times["pydisent"]["p50"]
    return row


def table(result: dict) -> list[str]:
    rows = result["architectures"]
    ratios = {name: row["ratio"] for name, row in rows.items() if "ratio" in row}
    ordered = sorted(ratios.values())
    slower = sorted((ratio, name) for name, ratio in ratios.items() if ratio < 1)
    named = ", ".join(f"`{name}` {ratio:.2f}×" for ratio, name in slower[:5])
    raised = sum("raises" in row["listing_1"] for row in rows.values())
    off = len(rows) - len(ratios) - raised
    return [
        f"On {len(rows)} small generators of many kinds (a few numbers a layer, k = T = "
        f"{result['k']}, one thread, float32), whose cost is that of calls, penalty and gradient "
        f"run at {ordered[0]:.2f}× to {ordered[-1]:.2f}× Listing 1's speed, "
        f"{statistics.median(ordered):.2f}× in the median, where Listing 1 gives the gradient: in "
        f"{off} its gradient is off by more than {result['gate']:.0e}, by PyTorch's derivatives or "
        f"by other random numbers, in {raised} it raises"
        + (f". Slower in {len(slower)}, by most: {named}." if slower else "; never slower."),
        "",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="architectures; by default all")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each contender")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = {}
    for name in options.names or ARCHITECTURES:
        rows[name] = row_of(name, options.seconds)
        print(f"{name:40} {told(rows[name])}", flush=True)
    if not options.names:
        setting = {"k": K, "iterations": ITERATIONS, "gate": GATE}
        print(write_result("small", {**setting, "architectures": rows}, environment()))
    return int(any(row["pydisent"]["gradient_error"] > GATE for row in rows.values()))


def told(row: dict[str, Any]) -> str:
    """The row as text."""
    ours, theirs = row["pydisent"], row["listing_1"]
    shown = f"{1e3 * ours['p50']:7.2f} ms" if "p50" in ours else "RED"
    if "ratio" in row:
        return f"{shown}, Listing 1 {1e3 * theirs['p50']:7.2f} ms: x{row['ratio']:.2f}"
    if "raises" in theirs:
        return f"{shown}, Listing 1 raises: {theirs['raises'][:60]}"
    return f"{shown}, Listing 1 is off by {theirs['gradient_error']:.0e}"


if __name__ == "__main__":
    sys.exit(main())
