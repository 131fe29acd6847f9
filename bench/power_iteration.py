"""Speed of masked power iteration relative to eager PyTorch and torch.compile.

    python bench/power_iteration.py [--batch 32] [--size 128] [--k 8] [--iterations 8]

Forward, backward, and both, for the loss <S, V_T> with gradients to the Gram matrix. It exits with
an error if a contender fails the gate.
"""

from __future__ import annotations

import argparse
import sys

import torch
from _harness import gate, measure_passes, timing_arguments, write_result
from _tables import versus
from torch import Tensor

from pydisent.ops import masked_power_iteration

EPS = 1e-8


def eager(gram: Tensor, probe: Tensor, mask: Tensor, iterations: int) -> Tensor:
    """Algorithm 2 as one would write it, unrolled by autograd."""
    v = mask * probe
    for _ in range(iterations):
        w = mask * (gram @ v)
        v = w / (torch.linalg.vector_norm(w, dim=1, keepdim=True) + EPS)
    return v


def problem(args: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gram matrices of random Jacobians, Rademacher probes, the mask of Eq. 11, a cotangent."""
    torch.manual_seed(0)
    jacobian = torch.randn(args.batch, 2 * args.size, args.size, dtype=torch.float64)
    gram = jacobian.mT @ jacobian / args.size
    probe = torch.randn(args.batch, args.size, args.k, dtype=torch.float64).sign()
    mask = torch.ones(args.size, args.k, dtype=torch.float64).tril()
    return gram, probe, mask, torch.randn_like(probe)


def table(result: dict) -> list[str]:
    return [
        "`masked_power_iteration`, forward and backward, Gram matrices (32, 128, 128), k = T = 8: "
        f"{versus(result['seconds']['full'], 1e3, 'ms')}.",
        "",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("batch", 32), ("size", 128), ("k", 8), ("iterations", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    timing_arguments(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    exact_inputs = problem(args)
    gram, probe, mask, cotangent = (x.to(args.device, torch.float32) for x in exact_inputs)
    gram.requires_grad_()
    functions = {
        "eager": eager,
        "torch.compile": torch.compile(eager),
        "pydisent": lambda g, p, m, t: masked_power_iteration(g, p, m, t, EPS, impl="native")[0],
    }

    def call(function):
        return function(gram, probe, mask, args.iterations)

    def backward(vectors):
        return torch.autograd.grad(vectors, gram, cotangent)

    def both(function):
        vectors = call(function)
        return vectors.detach(), *backward(vectors)

    exact_gram = exact_inputs[0].requires_grad_()
    exact_vectors = eager(exact_gram, *exact_inputs[1:3], args.iterations)
    exact = [
        exact_vectors.detach(),
        *torch.autograd.grad(exact_vectors, exact_gram, exact_inputs[3]),
    ]
    report = gate({n: lambda f=f: both(f) for n, f in functions.items()}, exact, bound=1e-5)
    if not all(entry["passes"] for entry in report.values()):
        print("the gate is red: nothing is timed", file=sys.stderr)
        return 1

    seconds = measure_passes(functions, call, backward, args.seconds, args.device)
    problem_size = {n: getattr(args, n) for n in ("batch", "size", "k", "iterations")}
    result = {"problem": problem_size, "gate": report, "seconds": seconds}
    print("wrote", write_result("power_iteration", result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
