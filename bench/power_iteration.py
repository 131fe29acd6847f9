"""How much faster masked power iteration is than eager PyTorch and torch.compile.

    python bench/power_iteration.py [--batch 32] [--size 128] [--k 8] [--iterations 8]

Forward, backward, and both, of the loss <S, V_T> with gradients to the Gram matrix. It exits with
an error if a contender fails the gate.
"""

from __future__ import annotations

import argparse
import sys

import torch
from _harness import gate, measure, write_result
from torch import Tensor

from pydisent.ops import masked_power_iteration

EPS = 1e-8


def eager(gram: Tensor, probe: Tensor, mask: Tensor, iterations: int) -> Tensor:
    """Algorithm 2 as one would write it; autograd unrolls it."""
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


def time_passes(functions, inputs, cotangent, args) -> dict:
    """Seconds of the forward pass without a graph, of the backward pass, and of both."""

    def forward(function):
        with torch.no_grad():
            return function(*inputs)

    def backward(vectors):
        return torch.autograd.grad(vectors, inputs[0], cotangent)

    same = {name: (lambda f=f: f) for name, f in functions.items()}
    graph = {name: (lambda f=f: f(*inputs)) for name, f in functions.items()}
    passes = {
        "forward": (forward, same),
        "backward": (backward, graph),
        "full": (lambda function: backward(function(*inputs)), same),
    }
    seconds = {}
    for name, (run, prepare) in passes.items():
        seconds[name] = measure(dict.fromkeys(functions, run), prepare, args.seconds, args.device)
        ours = seconds[name]["pydisent"]["p50"]
        for contender, t in seconds[name].items():
            p20, p50, p80 = (1e3 * t[p] for p in ("p20", "p50", "p80"))
            ratio = t["p50"] / ours
            print(
                f"{name:9}{contender:14} p20 {p20:8.3f}  p50 {p50:8.3f}  p80 {p80:8.3f} ms"
                f"  {ratio:6.2f} x ours"
            )
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("batch", 32), ("size", 128), ("k", 8), ("iterations", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=3.0, help="for each contender and pass")
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

    def both(function):
        vectors = function(gram, probe, mask, args.iterations)
        return vectors.detach(), *torch.autograd.grad(vectors, gram, cotangent)

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

    seconds = time_passes(functions, (gram, probe, mask, args.iterations), cotangent, args)
    problem_size = {n: getattr(args, n) for n in ("batch", "size", "k", "iterations")}
    result = {"problem": problem_size, "gate": report, "seconds": seconds}
    print("wrote", write_result("power_iteration", result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
