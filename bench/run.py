"""How fast every op is, against its reference, torch.compile and what the machine can do.

    python bench/run.py --suite gpu [--seconds 0.1] [--limit 300]      # or --suite cpu

Each op of the registry, forward (with a graph, as in training) and with its backward pass, at a
large size and at that of a training step, in fp32 and bf16; a backward op is measured with the op
that it belongs to. First the result and the gradients are held to float64: what fails that gate
gets no time. The ceilings are measured first: a copy, and matrix products. An op's share is the
shortest time that they allow for its bytes and operations (``_work.py``) over the time it took.

On a GPU large sizes are timed with the cache flushed, small ones with the launches that they wait
for; then follows what the alignment penalty costs a generator update. The file is
``bench/results/<machine>/<suite>_suite.json``; it is written after every op, so that a run that
is stopped leaves what it had. It exits with an error if an op of ours fails its gate.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import alignment
import torch
from _baselines import GATES, GRAPHED, METHODS, listing_1, native
from _harness import (
    RESULTS,
    environment,
    gate,
    measure,
    measure_on_gpu,
    percentiles,
    write_result,
)
from _suite import lines_of
from _work import OPS, problem, work
from torch import Tensor

from pydisent.ops.registry import REGISTRY
from pydisent.ops.spec import OpSpec, tuple_of

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
#: Relative errors that a contender may have.
BOUNDS = {"fp32": 2e-5, "bf16": 2e-2}
SIZES = {"gpu": ("large", "small"), "cpu": ("medium", "small")}
PASSES = {"forward": "forward", "both": "forward and backward"}
OURS, REFERENCE, COMPILED = "pydisent", "reference", "torch.compile"
#: k and T of the alignment penalty, and the ways to it that are compared.
ALIGNMENT_K, ALIGNMENT_STEPS = (1, 8, 32), (1, 8)
WAYS = ("gram_fp32", "gram_bf16", "listing_1", "torch_func")
Times = dict[str, dict[str, float]]


def contenders(name: str, options: argparse.Namespace) -> dict[str, Callable[..., Any]]:
    """Ours by the kernel that "auto" would take, and the reference as it is and compiled."""
    op = REGISTRY[name]
    impl = options.impl or "auto"  # by name, a kernel is reached by a longer way
    found = {OURS: lambda *args: op(*args, impl=impl), REFERENCE: op.spec.reference}
    if options.backend != "none":
        torch.compiler.reset()  # or the second shape would be compiled for any shape
        found[COMPILED] = torch.compile(op.spec.reference, backend=options.backend)
    return found


def leaves(args: tuple[Any, ...]) -> list[Tensor]:
    return [x for x in args if isinstance(x, Tensor) and x.requires_grad]


def results(name: str, function: Callable, args: tuple[Any, ...]) -> list[Tensor]:
    """What the op computes, and its gradients for cotangents that are always the same."""
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
    """Arguments of an op that writes: copies of what it writes to."""
    return tuple(x.clone() if n in spec.written else x for n, x in zip(spec.inputs, args))


def exact_results(name: str, args: tuple[Any, ...]) -> list[Tensor]:
    """By the reference in float64 on the numbers that the others see."""
    wide = tuple(
        x.detach().double().requires_grad_(x.requires_grad)
        if isinstance(x, Tensor) and x.is_floating_point()
        else x
        for x in args
    )
    return results(name, REGISTRY[name].spec.reference, wide)


def passing(name: str, args: tuple[Any, ...], functions: dict, bound: float) -> dict[str, Any]:
    """Gate every contender; one that cannot run says why. Those that fail leave ``functions``."""
    exact, report = exact_results(name, args), {}
    for key in list(functions):
        try:
            report |= gate({key: lambda f=functions[key]: results(name, f, args)}, exact, bound)
        except Exception as error:
            if key == OURS:
                raise
            reason = (str(error).strip().splitlines() or [""])[0][:200]
            report[key] = {"passes": False, "failed": f"{type(error).__name__}: {reason}"}
        if not report[key]["passes"]:
            del functions[key]
    return report


def timed(name: str, args: tuple[Any, ...], functions: dict, flush: bool, options) -> dict:
    """Seconds of each pass of each contender."""
    spec = REGISTRY[name].spec
    given = leaves(args)

    def forward(function: Callable) -> Callable[[Any], Any]:
        return lambda prepared: function(*prepared)

    def both(function: Callable) -> Callable[[Any], Any]:
        def run(prepared: Any) -> None:
            outputs = tuple_of(function(*prepared))[: spec.outputs]
            torch.autograd.grad(outputs, given, along, allow_unused=True)

        return run

    def prepare() -> Any:
        return renewed(spec, args) if spec.written else args

    passes = {"forward": forward} if spec.written else {"forward": forward, "both": both}
    if not spec.written:
        along = cotangents(tuple_of(REGISTRY[name](*args))[: spec.outputs])
    found = {}
    for key, make in passes.items():
        runs = {n: make(f) for n, f in functions.items()}
        if options.device == "cuda":
            found[key] = measure_on_gpu(runs, prepare, options.seconds, flush)
        else:
            found[key] = measure(runs, dict.fromkeys(runs, prepare), options.seconds)
    return found


def rates(name: str, dtype: str, args: tuple[Any, ...], seconds: dict, ceilings: dict) -> dict:
    """Bytes, operations and their rates in each pass of ours, and the share of the ceiling."""
    narrow = dtype == "bf16" and REGISTRY[name].spec.is_product
    speed = ceilings["bf16_tflop_s" if narrow else "fp32_tflop_s"]
    found = {}
    for key, times in seconds.items():
        moved, done = work(name, args, key == "both")
        floors = {"bytes": moved / ceilings["copy_gb_s"] / 1e9, "operations": done / speed / 1e12}
        bound = max(floors, key=lambda what: floors[what])
        taken = times[OURS]["p50"]
        found[key] = {
            "bytes": moved,
            "operations": done,
            "gb_s": moved / taken / 1e9,
            "tflop_s": done / taken / 1e12,
            "bound_by": bound,
            "share": floors[bound] / taken,
        }
    return found


def row(name: str, size: str, dtype: str, ceilings: dict, options) -> dict[str, Any]:
    """All that is found of one op at one size; no times if ours fails the gate or cannot run."""
    about = {
        "op": name,
        "size": size,
        "shape": REGISTRY[name].spec.sizes.label(size),
        "dtype": dtype,
    }
    print(f"{name} {about['shape']} {dtype}")
    functions = contenders(name, options)
    about["implementation"] = options.impl or REGISTRY[name].implementation(options.device)
    try:
        if options.device == "cuda" and about["implementation"] == "reference":
            raise RuntimeError("this op has no kernel there")
        args = problem(name, size, DTYPES[dtype], options.device)
        about["gate"] = passing(name, args, functions, BOUNDS[dtype])
        if OURS in functions:
            flush = size == "large"
            about["seconds"] = timed(name, args, functions, flush, options)
            about["work"] = rates(name, dtype, args, about["seconds"], ceilings)
    except Exception as error:  # out of memory, say: the other ops are still to be measured
        print(f"failed: {type(error).__name__}: {error}", file=sys.stderr)
        about["failed"] = f"{type(error).__name__}: {str(error).strip()[:300]}"
    return about


def median(run: Callable[[], Any], device: str, seconds: float, flush: bool = False) -> float:
    if device == "cuda":
        found = measure_on_gpu({"it": lambda _: run()}, lambda: None, seconds, flush)
    else:
        found = measure({"it": lambda _: run()}, {"it": lambda: None}, seconds)
    return found["it"]["p50"]


def measured_ceilings(options: argparse.Namespace) -> dict[str, float]:
    """GB/s of a copy, what it reads and what it writes; TFLOP/s of products; a launch's time."""
    device, seconds = options.device, options.seconds
    size, side = (2**31, 8192) if device == "cuda" else (2**26, 1024)
    if options.size == "tiny":
        size, side = 2**20, 64
    pair = [torch.randn(size // 4, device=device) for _ in range(2)]
    found = {"copy_gb_s": 2 * size / median(lambda: pair[0].copy_(pair[1]), device, seconds) / 1e9}
    pair.clear()
    for name, dtype in DTYPES.items():
        factors = [torch.randn(side, side, device=device).to(dtype) for _ in range(2)]
        taken = median(lambda: torch.mm(*factors), device, seconds)  # noqa: B023
        found[f"{name}_tflop_s"] = 2 * side**3 / taken / 1e12
    one = torch.ones(1, device=device)
    found["launch_us"] = 1e6 * median(lambda: one.add_(1), device, seconds)
    print("ceilings:", ", ".join(f"{name} {value:.4g}" for name, value in found.items()))
    return found


def alignment_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A generator update with the penalty, in units of one without, behind the gate."""
    batch, grid = 32, list(itertools.product(ALIGNMENT_K, ALIGNMENT_STEPS))
    if options.size == "tiny":
        alignment.M, alignment.BASE, alignment.SIZE = 8, 4, 16
        batch, grid = 2, [(2, 1)]
    rows: list[dict[str, Any]] = []
    ways = [*WAYS, *(GRAPHED if options.device == "cuda" else ())]
    ways = list(native(dict.fromkeys(ways), options.device))
    plain = {
        as_graph: percentiles(
            alignment.update_time(None, 1, 1, batch, 10, options.device, as_graph)
        )["p50"]
        for as_graph in {way in GRAPHED for way in ways}
    }
    for k, steps in grid:
        parts = alignment.setting(k, 4, torch.float64, options.device)
        exact = alignment.gradient(*parts, steps, listing_1)
        for way in ways:
            if options.is_late():
                return rows
            case = {"k": k, "iterations": steps, "batch": batch, "way": way}
            rows.append(case | alignment_row(case, exact, plain, options.device))
            cost = rows[-1].get("relative_cost", float("nan"))
            print(f"alignment penalty, k {k}, T {steps}, {way}: {cost:.2f} x an update without")
    return rows


def alignment_row(case: dict, exact: Tensor, plain: dict[bool, float], device: str) -> dict:
    """The gradient's error, and the cost where it is within its bound."""
    k, steps, way = case["k"], case["iterations"], case["way"]
    penalty, as_graph = (METHODS | GRAPHED)[way], way in GRAPHED
    try:
        parts = alignment.setting(k, 4, torch.float32, device)
        got = alignment.gradient(*parts, steps, penalty).double()
        error = ((got - exact).norm() / exact.norm()).item()
        found = {"gradient_error": error, "passes": error <= GATES[way]}
        if found["passes"]:
            times = alignment.update_time(penalty, k, steps, case["batch"], 3, device, as_graph)
            found["seconds"] = percentiles(times)["p50"]
            found["relative_cost"] = found["seconds"] / plain[as_graph]
        return found
    except torch.OutOfMemoryError:  # Listing 1 holds every iteration of every copy of the batch
        torch.cuda.empty_cache()
        return {"passes": False, "failed": "out of memory"}
    except RuntimeError as error:
        if not as_graph:
            raise
        return {"passes": False, "failed": f"not captured: {str(error).splitlines()[0][:100]}"}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", choices=tuple(SIZES), required=True)
    parser.add_argument("--ops", nargs="+", choices=OPS, default=OPS)
    parser.add_argument("--seconds", type=float, default=0.1, help="for each contender and pass")
    parser.add_argument("--limit", type=float, default=1e9, help="seconds until it ends")
    parser.add_argument("--backend", default="inductor", help="of torch.compile, or none")
    parser.add_argument("--impl", help="of ours, in place of what auto takes")
    parser.add_argument("--size", choices=("tiny",), help="only shows that all of it runs")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="by default that of the suite")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--no-alignment", action="store_true", help="ops alone")
    options = parser.parse_args(argv)
    options.device = options.device or ("cuda" if options.suite == "gpu" else "cpu")
    ends = time.monotonic() + options.limit
    options.is_late = lambda reserve=0.0: time.monotonic() > ends - reserve * options.limit
    return options


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("the gpu suite needs a CUDA device", file=sys.stderr)
        return 2
    torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32 for all contenders
    about, rows = environment(), []
    told = ("--results", str(options.results))  # a folder of this machine
    about["command"] = [word for word in about["command"] if word not in told]
    result: dict[str, Any] = {"device": options.device, "ceilings": measured_ceilings(options)}
    result |= {"rows": rows, "alignment": []}
    sizes = (options.size,) if options.size else SIZES[options.suite]
    # What there may be no time for comes last.
    cases = [(s, d, name) for d, s, name in itertools.product(DTYPES, sizes, options.ops)]
    result["left_out"] = [list(case) for case in cases]

    def write() -> Path:
        return write_result(f"{options.suite}_suite", result, about, options.results)

    for size, dtype, name in cases:
        if options.is_late(0.25):  # what follows is to have its turn
            break
        rows.append(row(name, size, dtype, result["ceilings"], options))
        result["left_out"].remove([size, dtype, name])
        write()
    if options.suite == "gpu" and not options.no_alignment:
        result["alignment"] = alignment_rows(options)
    print("wrote", write())
    print(*lines_of(rows), sep="\n")
    if result["left_out"]:
        print(f"{len(result['left_out'])} of {len(cases)} left out: the time was up")
    red = [found["op"] for found in rows if "seconds" not in found]
    ours = (found for found in result["alignment"] if found["way"].startswith("gram"))
    red += [f"alignment penalty, {found['way']}" for found in ours if not found["passes"]]
    if red:
        print("RED:", *red, file=sys.stderr)
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main())
