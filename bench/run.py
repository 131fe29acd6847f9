"""Speed of every op relative to its reference, torch.compile and the machine's limits.

    python bench/run.py --suite gpu [--seconds 0.1] [--limit 300] [--compiled]   # or --suite cpu

Each op of the registry, forward (with a graph, as in training) and with its backward pass, at a
large size and at a training step's, in fp32 and bf16; a backward op is measured with the op that it
belongs to. The result and the gradients are first checked against float64: what fails that gate
gets no time. Before that, the ceilings are measured: a copy, and matrix products. An op's share is
the minimum time that they allow for its bytes and operations (``_work.py``) over the time it took.

On a GPU the times are kernel times, from ``_gpu.py``, with host times next to them; torch.compile
is added by a second run with ``--compiled``. The file is
``bench/results/<machine>/<suite>_suite.json``; it is written after every op, so that an interrupted
run keeps its results. It exits with an error if one of our ops fails its gate. Ops implemented by
torch on a GPU have no time there.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from _gpu import first_line, measure_kernels
from _harness import (
    TABLE,
    environment,
    gate,
    load_result,
    measure,
    parsed,
    stage_arguments,
    write_result,
)
from _probes import allow_tf32, ceilings
from _suite import lines_of
from _work import OPS, floor, is_torchs_own, problem, work
from torch import Tensor

from pydisent.ops.registry import REGISTRY
from pydisent.ops.spec import OpSpec, tuple_of

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
#: Accepted relative errors of a contender.
BOUNDS = {"fp32": 2e-5, "bf16": 2e-2}
SIZES = {"gpu": ("large", "small"), "cpu": ("medium", "small")}
OURS, REFERENCE, COMPILED = "pydisent", "reference", "torch.compile"


def contenders(name: str, options: argparse.Namespace) -> dict[str, Callable[..., Any]]:
    """Ours, with the kernel that "auto" selects, and the reference, eager and compiled."""
    op = REGISTRY[name]
    impl = options.impl or "auto"  # selecting a kernel by name takes a slower path
    found = {OURS: lambda *args: op(*args, impl=impl), REFERENCE: op.spec.reference}
    if options.compiled:
        found = {}
    if options.backend != "none":
        torch.compiler.reset()  # else the second shape would be compiled as dynamic
        found[COMPILED] = torch.compile(op.spec.reference, backend=options.backend)
    return found


def leaves(args: tuple[Any, ...]) -> list[Tensor]:
    return [x for x in args if isinstance(x, Tensor) and x.requires_grad]


def results(name: str, function: Callable, args: tuple[Any, ...]) -> list[Tensor]:
    """The op's outputs, and its gradients for fixed cotangents."""
    spec = REGISTRY[name].spec
    if spec.written:
        fresh = renewed(spec, args)
        function(*fresh)
        return [x for n, x in zip(spec.inputs, fresh) if n in spec.written]
    outputs = tuple_of(function(*args))[: spec.outputs]
    inputs = leaves(args)
    grads = torch.autograd.grad(outputs, inputs, cotangents(outputs), allow_unused=True)
    zeros = (torch.zeros_like(x) if g is None else g for x, g in zip(inputs, grads))
    return [*(x.detach() for x in outputs), *zeros]


def cotangents(outputs: Sequence[Tensor]) -> list[Tensor]:
    generator = torch.Generator(outputs[0].device).manual_seed(1)
    return [torch.randn(x.shape, generator=generator, device=x.device).to(x.dtype) for x in outputs]


def renewed(spec: OpSpec, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments of an in-place op, with what it writes to copied."""
    return tuple(x.clone() if n in spec.written else x for n, x in zip(spec.inputs, args))


def exact_results(name: str, args: tuple[Any, ...]) -> list[Tensor]:
    """Results of the reference in float64, on the same numbers as the others."""
    wide = tuple(
        x.detach().double().requires_grad_(x.requires_grad)
        if isinstance(x, Tensor) and x.is_floating_point()
        else x
        for x in args
    )
    return results(name, REGISTRY[name].spec.reference, wide)


def passing(name: str, args: tuple[Any, ...], functions: dict, bound: float) -> dict[str, Any]:
    """Gate every contender, or say why it cannot run; remove failures from ``functions``."""
    exact, report = exact_results(name, args), {}
    for key in list(functions):
        try:
            report |= gate({key: lambda f=functions[key]: results(name, f, args)}, exact, bound)
        except Exception as error:
            if key == OURS:
                raise
            report[key] = {"passes": False, "failed": reason(error)}
        if not report[key]["passes"]:
            del functions[key]
    return report


def reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def timed(name: str, args: tuple[Any, ...], functions: dict, options) -> dict:
    """Seconds of each pass of each contender."""
    spec = REGISTRY[name].spec
    given, fresh = leaves(args), renewed(spec, args)

    def forward(function: Callable) -> Callable[[], Any]:
        return lambda: function(*fresh)

    def both(function: Callable) -> Callable[[], Any]:
        def run() -> None:
            outputs = tuple_of(function(*args))[: spec.outputs]
            torch.autograd.grad(outputs, given, along, allow_unused=True)

        return run

    def reset() -> None:
        for n, x, original in zip(spec.inputs, fresh, args):
            if n in spec.written:
                x.copy_(original)

    passes = {"forward": forward} if spec.written else {"forward": forward, "both": both}
    if not spec.written:
        along = cotangents(tuple_of(REGISTRY[name](*args))[: spec.outputs])
    found = {}
    for key, make in passes.items():
        runs = {n: make(f) for n, f in functions.items()}
        if options.suite == "gpu":
            found[key] = measure_kernels(runs, options.device, options.seconds, reset)
        else:
            calls = {n: lambda _, run=run: run() for n, run in runs.items()}
            found[key] = measure(calls, dict.fromkeys(calls, reset), options.seconds)
    return found


def rates(name: str, dtype: str, args: tuple[Any, ...], seconds: dict, top: dict) -> dict:
    """Bytes, operations and their rates in each of our passes, and the share of the ceiling."""
    unit = dtype if REGISTRY[name].spec.is_product else "fp32"  # with or without matrix units
    found = {}
    for key, times in seconds.items():
        moved, done = work(name, args, key == "both")
        least, bound = floor(moved, done, top, unit)
        taken = times[OURS]["p50"]
        found[key] = {
            "bytes": moved,
            "operations": done,
            "gb_s": moved / taken / 1e9,
            "tflop_s": done / taken / 1e12,
            "bound_by": bound,
            "share": least / taken,
        }
    return found


def row(name: str, size: str, dtype: str, top: dict, options) -> dict[str, Any]:
    """All results for one op at one size; no times if ours fails the gate or cannot run."""
    op = REGISTRY[name]
    about = {"op": name, "size": size, "shape": op.spec.sizes.label(size), "dtype": dtype}
    print(f"{name} {about['shape']} {dtype}")
    if options.suite == "gpu" and is_torchs_own(name):
        return about | {"torchs_own": True}
    about["implementation"] = options.impl or op.implementation(options.device)
    try:
        if options.device == "cuda" and about["implementation"] == "reference":
            raise RuntimeError("this op has no kernel there")
        args, functions = (
            problem(name, size, DTYPES[dtype], options.device),
            contenders(name, options),
        )
        about["gate"] = passing(name, args, functions, BOUNDS[dtype])
        if OURS in functions:
            about["seconds"] = timed(name, args, functions, options)
            about["work"] = rates(name, dtype, args, about["seconds"], top)
    except Exception as error:  # such as out of memory: still measure the other ops
        print(f"failed: {reason(error)}", file=sys.stderr)
        about["failed"] = reason(error)
    return about


def add_compiled(row: dict[str, Any], options) -> None:
    """Add torch.compile's gate and times to a row that has the others'."""
    name, dtype = row["op"], row["dtype"]
    args, functions = (
        problem(name, row["size"], DTYPES[dtype], options.device),
        contenders(name, options),
    )
    row["gate"] |= passing(name, args, functions, BOUNDS[dtype])
    if functions and options.warm is None:
        for key, found in timed(name, args, functions, options).items():
            row["seconds"][key] |= found


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", choices=tuple(SIZES), required=True)
    parser.add_argument("--ops", nargs="+", choices=OPS, default=OPS)
    parser.add_argument("--backend", help="torch.compile's; default none on a GPU, else inductor")
    parser.add_argument("--compiled", action="store_true", help="add torch.compile to a GPU's rows")
    parser.add_argument("--warm", type=int, nargs=2, metavar=("I", "N"),
                        help="with --compiled: every N-th row from I on, none timed")  # fmt: skip
    parser.add_argument("--impl", help="our implementation, instead of auto's choice")
    stage_arguments(parser, 0.1)
    options = parsed(parser, argv)
    if options.suite == "cpu":
        options.device = "cpu"
    eager = options.suite == "gpu" and not options.compiled
    options.backend = options.backend or ("none" if eager else "inductor")
    return options


def measured(result: dict[str, Any], options, write: Callable[[], Path]) -> int:
    """Measure the rows of a new result, and return how many of our ops are red."""
    sizes = (options.size,) if options.size else SIZES[options.suite]
    # What time may not suffice for comes last: on a CPU, bf16.
    orders = itertools.product(DTYPES, sizes)
    if options.suite == "gpu":
        orders = ((dtype, size) for size, dtype in itertools.product(sizes, DTYPES))
    cases = [(size, dtype, name) for dtype, size in orders for name in options.ops]
    rows = result["rows"]
    result["left_out"] = [list(case) for case in cases]
    while result["left_out"] and not options.is_late():
        size, dtype, name = result["left_out"].pop(0)
        rows.append(row(name, size, dtype, result["ceilings"], options))
        write()
    red = [found["op"] for found in rows if "seconds" not in found and "torchs_own" not in found]
    if red:
        print("RED:", *red, file=sys.stderr)
    return len(red)


def compiled(result: dict[str, Any], options, write: Callable[[], Path]) -> int:
    """Add torch.compile's times to rows without them, in order, while time remains."""
    waiting = [
        row for row in result["rows"]
        if "seconds" in row and row["op"] in options.ops and COMPILED not in row["gate"]
    ]  # fmt: skip
    first, step = options.warm or (0, 1)
    for row in waiting[first::step]:
        if options.is_late():
            break
        print(f"{row['op']} {row['shape']} {row['dtype']}")
        try:
            add_compiled(row, options)
        except Exception as error:
            row["gate"][COMPILED] = {"passes": False, "failed": reason(error)}
        if options.warm is None:
            write()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("the gpu suite needs a CUDA device", file=sys.stderr)
        return 2
    allow_tf32(False)  # true fp32 for all contenders
    about, question = environment(), f"{options.suite}_suite"
    told = ("--results", str(options.results))  # a folder of this machine
    about["command"] = [word for word in about["command"] if word not in told]
    if options.compiled:
        result = load_result(question, about, options.results)
    else:
        top = ceilings(options.device, options.seconds, bool(options.size))
        result = {"device": options.device, "ceilings": top, "rows": []}

    def write() -> Path:
        return write_result(question, result, about, options.results)

    red = (compiled if options.compiled else measured)(result, options, write)
    if options.warm is not None:
        return 0
    print("wrote", write())
    print(TABLE, *lines_of(result["rows"]), sep="\n")
    if left := result["left_out"]:
        print(f"{len(left)} of {len(result['rows']) + len(left)} left out: the time was up")
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main())
