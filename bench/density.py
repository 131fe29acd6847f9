"""Speed and memory of the total correlation relative to eager PyTorch and torch.compile.

    python bench/density.py [--batches 2048 256 64] [--size 10] [--estimator mws]

Forward, backward, and both, with gradients to z, mu and logvar; and the peak memory of both, with
each contender in a separate process. It exits with an error if a contender fails the gate.
"""

from __future__ import annotations

import argparse
import math
import sys

import torch
from _harness import gate, measure_passes, print_peak_rise, printed_by, write_result
from _tables import brief, versus
from torch import Tensor

from pydisent.ops import total_correlation

DATASET_SIZE = 737280  # dSprites


def eager(z: Tensor, mu: Tensor, logvar: Tensor, estimator: str) -> Tensor:
    """The estimator as one would write it, on a (B, B, d) tensor, with autograd."""
    batch = z.shape[0]
    u = (z[:, None] - mu) * torch.exp(-0.5 * logvar)
    log_density = -0.5 * (u * u + logvar + math.log(2 * math.pi))
    if estimator == "mws":
        weights = z.new_full((), -math.log(batch * DATASET_SIZE))
    else:
        others = batch - 1
        last = (DATASET_SIZE - others) / (DATASET_SIZE * others)
        weights = z.new_full((batch, batch), 1 / others)
        weights = weights.diagonal_scatter(z.new_full((batch,), 1 / DATASET_SIZE))
        weights = weights.diagonal_scatter(z.new_full((batch - 1,), last), 1)
        weights = weights.diagonal_scatter(z.new_full((1,), last), 1 - batch).log()
    joint = torch.logsumexp(log_density.sum(2) + weights, dim=1)
    marginals = torch.logsumexp(log_density + weights[..., None], dim=1)
    return (joint - marginals.sum(1)).mean()


def contenders() -> dict:
    return {
        "eager": eager,
        "torch.compile": torch.compile(eager),
        "pydisent": lambda z, mu, logvar, estimator: total_correlation(
            z, mu, logvar, DATASET_SIZE, estimator, impl="native"
        ),
    }


def problem(batch: int, size: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Posteriors like those of an encoder in training, and a sample of each."""
    torch.manual_seed(0)
    mu = torch.randn(batch, size, dtype=torch.float64)
    logvar = torch.randn(batch, size, dtype=torch.float64) - 2
    z = mu + torch.exp(0.5 * logvar) * torch.randn(batch, size, dtype=torch.float64)
    return [x.to(dtype).requires_grad_() for x in (z, mu, logvar)]


def both(function, inputs: list[Tensor], estimator: str) -> tuple[Tensor, ...]:
    value = function(*inputs, estimator)
    return value.detach(), *torch.autograd.grad(value, inputs)


def peak(name: str, batch: int, args: argparse.Namespace) -> float:
    """Peak MiB of both passes above what the process held before."""
    same = ("--size", args.size, "--estimator", args.estimator, "--threads", args.threads)
    return printed_by(__file__, "--peak", name, "--batches", batch, *same)


def case(batch: int, args: argparse.Namespace) -> dict | None:
    """Gate, times and peaks of one batch size; None if the gate is red."""
    torch.compiler.reset()  # else the second size would be compiled as dynamic
    functions, inputs = contenders(), problem(batch, args.size)
    exact = both(eager, problem(batch, args.size, torch.float64), args.estimator)
    runs = {name: lambda f=f: both(f, inputs, args.estimator) for name, f in functions.items()}
    report = gate(runs, exact, bound=1e-5)
    if not all(entry["passes"] for entry in report.values()):
        return None
    seconds = measure_passes(
        functions,
        lambda function: function(*inputs, args.estimator),
        lambda value: torch.autograd.grad(value, inputs),
        args.seconds,
    )
    result = {"batch": batch, "gate": report, "seconds": seconds}
    result["peak_mib"] = {name: peak(name, batch, args) for name in functions}
    print(*(f"peak {name} {mib:.1f} MiB " for name, mib in result["peak_mib"].items()))
    return result


def table(result: dict) -> list[str]:
    lines = [
        f"`total_correlation` ({result['estimator']}, d = {result['size']}), forward and backward, "
        "against the B × B × d broadcast:",
        "",
    ]
    for case in result["cases"]:
        memory = ", ".join(f"{name} {brief(mib)}" for name, mib in case["peak_mib"].items())
        lines.append(
            f"- B = {case['batch']}: {versus(case['seconds']['full'], 1e3, 'ms')}; "
            f"peak MiB: {memory}."
        )
    return [*lines, ""]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[2048, 256, 64])
    parser.add_argument("--size", type=int, default=10)
    parser.add_argument("--estimator", default="mws", choices=("mws", "mss"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=3.0, help="per contender and pass")
    parser.add_argument("--peak", choices=tuple(contenders()), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.peak:
        function, inputs = contenders()[args.peak], problem(args.batches[0], args.size)
        print_peak_rise(lambda: both(function, inputs, args.estimator))
        return 0
    cases = []
    for batch in args.batches:
        print(f"B = {batch}, d = {args.size}, {args.estimator}")
        cases.append(case(batch, args))
        if cases[-1] is None:
            print("the gate is red: nothing is timed", file=sys.stderr)
            return 1
    settings = {"size": args.size, "estimator": args.estimator, "dataset_size": DATASET_SIZE}
    print("wrote", write_result("density", {**settings, "cases": cases}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
