"""Runs every kernel on a few small samples, forward and backward, for a tool to watch.

    compute-sanitizer --tool memcheck python bench/_sanitized.py

The ops' own samples, in fp32 and bf16, with the kernel that "auto" takes on the device; what they
compute is for the tests to judge. With TRITON_INTERPRET=1 and ``--device cpu`` the Triton kernels
run in their interpreter.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from typing import Any

import torch
from _work import gradient_leaves
from torch import Tensor

from pydisent import _backends
from pydisent.ops.registry import REGISTRY, Op
from pydisent.ops.spec import tuple_of


def implementations(op: Op, device: str) -> list[str]:
    """Each kernel that the op has there, by name."""
    found = [] if op.implementation(device) == "reference" else [op.implementation(device)]
    if op.spec.triton and not _backends.triton_reason(device):
        found.append("triton")
    return sorted(set(found))


def run(op: Op, args: tuple[Any, ...], impl: str) -> None:
    """Call the op and, where it has an adjoint of its own, the backward pass."""
    if op.spec.adjoint is None:
        op(*args, impl=impl)
        return
    given = gradient_leaves(op.spec, args)
    outputs = tuple_of(op(*given, impl=impl))[: op.spec.outputs]  # the rest goes by the reference
    inputs = [x for x in given if isinstance(x, Tensor) and x.requires_grad]
    torch.autograd.grad(sum(y.sum() for y in outputs), inputs, allow_unused=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--samples", type=int, default=3, help="of each op and dtype")
    parser.add_argument("--families", nargs="+", help="only the ops of these")
    options = parser.parse_args()
    ops = {
        name: op
        for name, op in REGISTRY.items()
        if options.families is None or op.spec.family in options.families
    }
    count, without = 0, []
    for name, op in ops.items():
        kinds = implementations(op, options.device)
        without += [] if kinds else [name]
        for impl, dtype in itertools.product(kinds, (torch.float32, torch.bfloat16)):
            samples = op.spec.samples(dtype, options.device)
            for args in itertools.islice(samples, options.samples):
                run(op, args, impl)
                count += 1
        if options.device == "cuda":
            torch.cuda.synchronize()
        print(f"{name}: {', '.join(kinds) or 'no kernel'}", flush=True)
    print(f"{count} calls of {len(ops) - len(without)} ops")
    if without:
        print("no kernel of", *without, file=sys.stderr)
    return 1 if without else 0


if __name__ == "__main__":
    sys.exit(main())
