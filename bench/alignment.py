"""What does the alignment penalty cost per generator update? Ramesh et al.'s Fig. 4, measured.

The generator is the paper's DCGAN (base 64, m = 128, 64×64×3). Three questions, each answered in
one run on one machine, with the gradient checked against float64 first:

- headline: penalty and gradient alone at k = T = 8 (batch 8) and k = 32, T = 8 (batch 4): time,
  peak memory above the model's own (in a process of its own), gradient error;
- grid: one RMSProp update of the generator relative to one without the penalty, over k and T; on a
  GPU also as one CUDA graph, against such an update in a graph, too;
- compiled: the same for ``torch.compile`` of the ``torch.func`` version, where it compiles.

Run ``python bench/alignment.py [--device cuda]``; results go to
``bench/results/<machine>/alignment.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from _baselines import listing_1, listing_1_hoisted, torch_func
from _harness import (
    RESULTS,
    environment,
    gpu_peak_rise,
    machine_name,
    peak_rise,
    percentiles,
    write_result,
)
from torch import Tensor

import pydisent
from pydisent._precision import has_native_bf16
from pydisent.nn import DCGANDiscriminator, DCGANGenerator

M, BASE, SIZE = 128, 64, 64
HEADLINE = {
    "k8": {"k": 8, "iterations": 8, "batch": 8},
    "k32": {"k": 32, "iterations": 8, "batch": 4},
}
# What a method's gradient may differ from float64's by, for its speed to be reported.
GATES = {
    "listing_1": 1e-3,
    "listing_1_hoisted": 1e-3,
    "torch_func": 1e-3,
    "gram_fp32": 1e-3,
    "gram_bf16": 2e-2,
    "gram_graph_fp32": 1e-3,
    "gram_graph_bf16": 2e-2,
    "matrix_free_fp32": 1e-3,
    "matrix_free_bf16": 5e-2,
}
METHODS: dict[str, Callable[..., Tensor]] = {
    "listing_1": listing_1,
    "listing_1_hoisted": listing_1_hoisted,
    "torch_func": torch_func,
}


def _ours(method: str, dtype: torch.dtype | None, **options: float) -> Callable[..., Tensor]:
    def penalty(generator, z, probe, iterations):
        return pydisent.alignment_penalty(
            generator,
            z,
            k=probe.shape[-1],
            iterations=iterations,
            probe=probe,
            method=method,
            compute_dtype=dtype,
            **options,
        )

    return penalty


for _method in ("gram", "matrix_free"):
    METHODS[f"{_method}_fp32"] = _ours(_method, None)
    METHODS[f"{_method}_bf16"] = _ours(_method, torch.bfloat16)
# Updates as CUDA graphs, which can hold the penalty where no direction is left out.
GRAPHED = {
    "gram_graph_fp32": _ours("gram", None, tolerance=0),
    "gram_graph_bf16": _ours("gram", torch.bfloat16, tolerance=0),
}


def native(methods: dict[str, Any], device: str) -> dict[str, Any]:
    """The methods without those in bf16 where that is not native, and would be float32."""
    return {m: p for m, p in methods.items() if has_native_bf16(device) or "bf16" not in m}


def setting(k: int, batch: int, dtype: torch.dtype = torch.float32, device: str = "cpu"):
    """The generator, latent codes and probe, the same numbers in every dtype and process."""
    torch.manual_seed(0)
    generator = DCGANGenerator(M, 3, BASE, SIZE)
    z = torch.randn(batch, M)
    probe = torch.randint(0, 2, (batch, M, k)) * 2.0 - 1.0
    return tuple(x.to(device, dtype) for x in (generator, z, probe))


def gradient(generator, z, probe, iterations, penalty) -> Tensor:
    """One evaluation with its gradient, all parameters in one vector."""
    generator.zero_grad(set_to_none=True)
    penalty(generator, z, probe, iterations).backward()
    grads = [p.grad.flatten() for p in generator.parameters() if p.grad is not None]
    return torch.cat(grads)


def clock(function: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each call, after one to warm up."""
    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    function()
    times = []
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        function()
        wait()
        times.append(time.perf_counter() - start)
    return times


def headline(repeats: int, device: str) -> dict:
    results = {}
    for name, case in HEADLINE.items():
        k, iterations, batch = case["k"], case["iterations"], case["batch"]
        exact = gradient(*setting(k, batch, torch.float64, device), iterations, listing_1)
        rows = {}
        ways = native(METHODS | (GRAPHED if device == "cuda" else {}), device)
        for method, penalty in ways.items():
            parts = setting(k, batch, device=device)
            found = gradient(*parts, iterations, penalty).double()
            error = ((found - exact).norm() / exact.norm()).item()
            row = {"gradient_error": error, "gate": GATES[method], "passes": error <= GATES[method]}
            if row["passes"]:
                slow = method.startswith(("listing", "torch"))
                times = clock(lambda: gradient(*parts, iterations, penalty), 2 if slow else repeats)  # noqa: B023
                row |= percentiles(times)
                row["peak_mib"] = peak(method, device, **case)
            rows[method] = row
            print(f"{name} {method}: {row}", flush=True)
        for row in rows.values():
            if "p50" in row and "p50" in rows["listing_1"]:
                row["speedup"] = rows["listing_1"]["p50"] / row["p50"]
                row["memory_ratio"] = row["peak_mib"] / rows["listing_1"]["peak_mib"]
        results[name] = {**case, "methods": rows}
    return results


def peak(method: str, device: str, k: int, iterations: int, batch: int) -> float:
    """MiB above what the process held before the penalty, at the worst moment; a fresh process."""
    command = [
        sys.executable,
        __file__,
        "--peak",
        method,
        "--case",
        json.dumps([k, iterations, batch]),
        "--device",
        device,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _peak_here(method: str, device: str, k: int, iterations: int, batch: int) -> None:
    generator, z, probe = setting(k, batch, device=device)
    generator(z).sum().backward()  # libraries loaded, the model's own memory taken
    rise = gpu_peak_rise if device == "cuda" else peak_rise
    penalty = (METHODS | GRAPHED)[method]
    print(rise(lambda: gradient(generator, z, probe, iterations, penalty)))


def captured(function: Callable[[], object]) -> Callable[[], object]:
    """The function as a CUDA graph, after the calls to warm up that PyTorch asks for."""
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph, stream=stream):
        function()
    return graph.replay


def update_time(
    penalty: Callable | None,
    k: int,
    iterations: int,
    batch: int,
    repeats: int,
    device: str,
    as_graph: bool = False,
) -> list[float]:
    """Seconds of one RMSProp update of the generator, with the penalty or (None) without."""
    generator, z, probe = setting(k, batch, device=device)
    discriminator = DCGANDiscriminator(3, BASE, SIZE).to(device)
    optimizer = torch.optim.RMSprop(
        generator.parameters(), lr=1e-4, alpha=0.9, eps=1e-6, capturable=as_graph
    )

    def update():
        optimizer.zero_grad()
        loss = F.softplus(-discriminator(generator(z))).mean()
        if penalty is not None:
            loss = loss + 0.1 * penalty(generator, z, probe, iterations)
        loss.backward()
        optimizer.step()

    return clock(captured(update) if as_graph else update, repeats)


def grid(ks: list[int], iterations: list[int], batch: int, repeats: int, device: str) -> dict:
    rows = []
    plain = percentiles(update_time(None, 1, 1, batch, 10, device))
    result = {"batch": batch, "update_without": plain, "rows": rows}
    if device == "cuda":
        alone = percentiles(update_time(None, 1, 1, batch, 10, device, as_graph=True))
        result["update_without_as_graph"] = alone
    for k in ks:
        for steps in iterations:
            for method, penalty in native(GRAPHED if device == "cuda" else {}, device).items():
                times = percentiles(update_time(penalty, k, steps, batch, repeats, device, True))
                rows.append({"k": k, "iterations": steps, "method": method, **times})
                rows[-1]["relative_cost"] = times["p50"] / alone["p50"]
                print(f"k={k} T={steps} {method}: ×{rows[-1]['relative_cost']:.1f}", flush=True)
            for method, penalty in native(METHODS, device).items():
                few = 1 if method.startswith(("listing", "torch")) else repeats
                times = percentiles(update_time(penalty, k, steps, batch, few, device))
                rows.append({"k": k, "iterations": steps, "method": method, **times})
                rows[-1]["relative_cost"] = times["p50"] / plain["p50"]
                print(f"k={k} T={steps} {method}: ×{rows[-1]['relative_cost']:.1f}", flush=True)
    return result


def compiled(k: int, iterations: int, batch: int, device: str) -> dict:
    """``torch.compile`` of the torch.func version: double backward itself cannot be compiled."""
    torch._dynamo.config.recompile_limit = 64
    start = time.perf_counter()
    case = {"k": k, "iterations": iterations, "batch": batch}
    try:
        parts = setting(k, batch, device=device)
        penalty = torch.compile(torch_func)
        gradient(*parts, iterations, penalty)
        seconds = time.perf_counter() - start
        times = clock(lambda: gradient(*parts, iterations, penalty), 2)
        return {**case, "compile_seconds": seconds, **percentiles(times)}
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:300]
        return {**case, "failed": f"{type(error).__name__}: {reason}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="*", default=["headline", "grid", "compiled"])
    parser.add_argument("--k", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--iterations", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--batch", type=int, default=4, help="of the grid")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32 for every method
    device = options.device
    if options.peak:
        _peak_here(options.peak, device, *options.case)
        return
    about = environment()
    earlier = RESULTS / machine_name(about) / "alignment.json"
    result: dict = json.loads(earlier.read_text()) if earlier.exists() else {}
    result["network"] = {"m": M, "base": BASE, "image": [3, SIZE, SIZE]}
    if "headline" in options.parts:
        result["headline"] = headline(options.repeats, device)
    if "grid" in options.parts:
        result["grid"] = grid(options.k, options.iterations, options.batch, 3, device)
    if "compiled" in options.parts:
        result["compiled"] = [compiled(8, steps, 8, device) for steps in (1, 2, 8)]
    result.pop("environment", None)
    print(write_result("alignment", result, about))


if __name__ == "__main__":
    main()
