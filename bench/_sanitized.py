"""Run every kernel on a few small samples, forward and backward, under a tool.

    compute-sanitizer --tool memcheck python bench/_sanitized.py

Runs the ops' own samples with each kernel available on the device, in fp32 and bf16; checking the
results is left to the tests. ``--jobs 16`` distributes the ops over processes, in the tests' four
dtypes, to fill Triton's cache. With TRITON_INTERPRET=1 and ``--device cpu`` the Triton kernels run
in the interpreter.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from _work import OPS, gradient_leaves, is_torchs_own
from torch import Tensor

from pydisent import _backends
from pydisent.ops.registry import REGISTRY, Op
from pydisent.ops.spec import tuple_of

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def implementations(op: Op, device: str) -> set[str]:
    """Names of our kernels for the op on a device."""
    found = {op.implementation(device)} - {"reference"}
    if op.spec.triton and not _backends.triton_reason(device):
        found.add("triton")
    return found


def run(op: Op, args: tuple[Any, ...], impl: str) -> None:
    """Call the op and, if it has its own adjoint, the backward pass."""
    if op.spec.adjoint is None:
        op(*args, impl=impl)
        return
    given = gradient_leaves(op.spec, args)
    outputs = tuple_of(op(*given, impl=impl))[: op.spec.outputs]  # others use the reference
    inputs = [x for x in given if isinstance(x, Tensor) and x.requires_grad]
    torch.autograd.grad(sum(y.sum() for y in outputs), inputs, allow_unused=True)


def run_samples(name: str, impl: str, dtype: torch.dtype, device: str, samples: int) -> int:
    """Run the first samples, and return how many there were."""
    count = 0
    for args in itertools.islice(REGISTRY[name].spec.samples(dtype, device), samples):
        run(REGISTRY[name], args, impl)
        count += 1
    if device == "cuda":
        torch.cuda.synchronize()
    return count


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--samples", type=int, default=3, help="samples per op and dtype")
    parser.add_argument("--ops", nargs="+", choices=OPS, default=OPS, help="with their adjoints")
    parser.add_argument("--only", choices=("native", "triton"), help="of the kernels")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the ops")
    options = parser.parse_args(argv)
    cases, without = [], []
    for name, op in REGISTRY.items():
        if not name.startswith(tuple(options.ops)):
            continue
        kinds = implementations(op, options.device)
        told = ", ".join(sorted(kinds)) or ("torch's own" if is_torchs_own(name) else "no kernel")
        print(f"{name}: {told}", flush=True)
        without += [name] if told == "no kernel" and not options.only else []
        kinds &= {options.only} if options.only else kinds
        dtypes = DTYPES if options.jobs > 1 else DTYPES[:2]
        cases += [(name, impl, dtype, options.device, options.samples)
                  for impl in sorted(kinds) for dtype in dtypes]  # fmt: skip
    if options.jobs > 1:
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
            count = sum(pool.map(run_samples, *zip(*cases)))
    else:
        count = sum(itertools.starmap(run_samples, cases))
    print(f"{count} calls of {len({case[0] for case in cases})} ops")
    if without:
        print("no kernel of", *without, file=sys.stderr)
    return 1 if without else 0


if __name__ == "__main__":
    sys.exit(main())
