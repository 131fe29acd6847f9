"""Speed of the covariance losses relative to eager PyTorch and torch.compile.

    python bench/covariance.py [--seconds 3]

Forward, and forward with backward, of DIP-VAE-II's penalty with gradients to mu and logvar, at a
training step's (64, 10), where overhead dominates, and at (64, 128); and of the cross-covariance of
(64, 40) with (64, 8192). It exits with an error if a contender fails the gate.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
from _harness import gate, measure_passes, timing_arguments, write_result
from _tables import versus
from torch import Tensor

from pydisent.losses import cross_covariance_penalty, dip_vae_penalty

LAMBDA_OD, LAMBDA_D = 5.0, 10.0


def dip_vae(mu: Tensor, logvar: Tensor) -> Tensor:
    """Kumar et al., Eq. 7, as one would write it."""
    centred = mu - mu.mean(0)
    covariance = centred.T @ centred / mu.shape[0] + torch.diag(logvar.exp().mean(0))
    diagonal = covariance.diagonal()
    off = covariance - torch.diag(diagonal)
    return LAMBDA_OD * (off**2).sum() + LAMBDA_D * ((diagonal - 1) ** 2).sum()


def cross_covariance(y: Tensor, z: Tensor) -> Tensor:
    """Lezama et al., Eq. 10, as one would write it."""
    covariance = (y - y.mean(0)).T @ (z - z.mean(0)) / y.shape[0]
    return (covariance**2).sum()


def ours_dip_vae(mu: Tensor, logvar: Tensor) -> Tensor:
    return dip_vae_penalty(mu, logvar, lambda_od=LAMBDA_OD, lambda_d=LAMBDA_D)


QUESTIONS: dict[str, tuple[Callable, Callable, tuple[int, int], tuple[int, int]]] = {
    "dip_vae_penalty (64, 10)": (dip_vae, ours_dip_vae, (64, 10), (64, 10)),
    "dip_vae_penalty (64, 128)": (dip_vae, ours_dip_vae, (64, 128), (64, 128)),
    "cross_covariance_penalty (64, 40) x (64, 8192)": (
        cross_covariance,
        cross_covariance_penalty,
        (64, 40),
        (64, 8192),
    ),
}


def answer(question: str, args) -> dict | None:
    """Gate and times of one question, or None if the gate is red."""
    plain, ours, *shapes = QUESTIONS[question]
    print(question)
    torch.manual_seed(0)
    exact_inputs = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    inputs = [x.detach().to(args.device, torch.float32).requires_grad_() for x in exact_inputs]
    torch.compiler.reset()
    functions = {"eager": plain, "torch.compile": torch.compile(plain), "pydisent": ours}

    def results(function, inputs):
        value = function(*inputs)
        return [value.detach(), *torch.autograd.grad(value, inputs)]

    exact = results(plain, exact_inputs)
    report = gate(
        {n: lambda f=f: results(f, inputs) for n, f in functions.items()}, exact, bound=1e-5
    )
    if not all(entry["passes"] for entry in report.values()):
        return None
    seconds = measure_passes(
        functions,
        lambda function: function(*inputs),
        lambda value: torch.autograd.grad(value, inputs),
        args.seconds,
        args.device,
        ("forward", "full"),
    )
    return {"shapes": shapes, "gate": report, "seconds": seconds}


def table(result: dict) -> list[str]:
    lines = ["Penalties on covariances, forward and backward:", ""]
    for question, found in result["questions"].items():
        lines.append(f"- {question}: {versus(found['seconds']['full'], 1e6, 'µs')}.")
    return [*lines, ""]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    timing_arguments(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    answers = {question: answer(question, args) for question in QUESTIONS}
    if any(found is None for found in answers.values()):
        print("the gate is red: nothing is written", file=sys.stderr)
        return 1
    print("wrote", write_result("covariance", {"questions": answers}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
