"""What does the alignment penalty cost per generator update? Ramesh et al.'s Fig. 4, measured.

The generator is the paper's DCGAN (base 64, m = 128, 64×64×3). Questions, each answered in one
run on one machine, with the gradient checked against float64 first:

- headline: penalty and gradient alone at k = T = 8 (batch 8) and k = 32, T = 8 (batch 4): time,
  peak memory above the model's own (in a separate process), gradient error;
- grid: one RMSProp update of the generator relative to one without the penalty, over k and T; on a
  GPU also as one CUDA graph, relative to a plain update in a graph;
- stages: on a GPU, each part of the penalty with its minimum time;
- share: how close the pass of J is to the matrix product rate of the same run, layer by layer;
- compiled: the same for ``torch.compile`` of the ``torch.func`` version, where it compiles.

Run ``python bench/alignment.py [--device cuda]``; results go to
``bench/results/<machine>/alignment.json``. ``--quick`` takes minutes: the share, and Listing 1
against the Gram route. ``--isa avx2``, into ``alignment_avx2.json``, leaves out AVX-512 and AMX.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import _share
import torch
import torch.nn.functional as F
from _baselines import COLOURS, GATES, GRAPHED, METHODS, NAMES, listing_1, native, torch_func
from _gpu import as_graph, gpu_of
from _harness import (
    RESULTS,
    at_a_kink,
    environment,
    gpu_peak_rise,
    machine_name,
    peak_rise,
    percentiles,
    printed_by,
    write_result,
)
from _tables import machine, markdown
from torch import Tensor

from pydisent._precision import has_native_bf16
from pydisent.nn import DCGANDiscriminator, DCGANGenerator

M, BASE, SIZE = 128, 64, 64
HEADLINE = {
    "k8": {"k": 8, "iterations": 8, "batch": 8},
    "k32": {"k": 32, "iterations": 8, "batch": 4},
}
CAPTIONS = {"alignment.png": "Relative cost of a generator update"}


def setting(k: int, batch: int, dtype: torch.dtype = torch.float32, device: str = "cpu"):
    """The generator, latent codes and probe, with the same numbers in every dtype and process.

    They are the first draw without a PReLU so near its kink that float32's rounding decides its
    slope: the gradient jumps there, and no way of computing it in float32 could pass its gate.
    """
    for seed in range(20):
        torch.manual_seed(seed)
        generator = DCGANGenerator(M, 3, BASE, SIZE)
        z = torch.randn(batch, M)
        probe = torch.randint(0, 2, (batch, M, k)) * 2.0 - 1.0
        if not at_a_kink(generator, z):
            return tuple(x.to(device, dtype) for x in (generator, z, probe))
    raise RuntimeError("every draw has a PReLU at its kink, within float32's rounding")


def gradient(generator, z, probe, iterations, penalty) -> Tensor:
    """One evaluation with its gradient, as one vector over all parameters."""
    generator.zero_grad(set_to_none=True)
    penalty(generator, z, probe, iterations).backward()
    grads = [p.grad.flatten() for p in generator.parameters() if p.grad is not None]
    return torch.cat(grads)


def clock(function: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each call, after one warm-up call."""
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


QUICK = ("listing_1", "gram_fp32", "gram_bf16")


def share(repeats: int) -> list[dict]:
    """The pass of J in each dtype that the processor supports natively."""
    generator, z, _ = setting(8, 8)
    dtypes = [torch.float32, *[torch.bfloat16] * has_native_bf16("cpu")]
    found = [_share.measured(generator, z, dtype, repeats) for dtype in dtypes]
    print(*(line for each in found for line in _share.lines(each)), sep="\n", flush=True)
    return found


def headline(repeats: int, device: str, quick: bool) -> dict:
    results = {}
    for name, case in HEADLINE.items():
        k, iterations, batch = case["k"], case["iterations"], case["batch"]
        exact = gradient(*setting(k, batch, torch.float64, device), iterations, listing_1)
        rows = {}
        ways = native(METHODS | (GRAPHED if device == "cuda" else {}), device)
        for method, penalty in ways.items():
            if quick and method not in QUICK:
                continue
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
    """Peak MiB above what the process held before the penalty, in a fresh process."""
    case = json.dumps([k, iterations, batch])
    return printed_by(__file__, "--peak", method, "--case", case, "--device", device)


def _peak_here(method: str, device: str, k: int, iterations: int, batch: int) -> None:
    generator, z, probe = setting(k, batch, device=device)
    generator(z).sum().backward()  # load libraries, allocate the model's own memory
    rise = gpu_peak_rise if device == "cuda" else peak_rise
    penalty = (METHODS | GRAPHED)[method]
    print(rise(lambda: gradient(generator, z, probe, iterations, penalty)))


def update_of(
    penalty: Callable | None, k: int, iterations: int, batch: int, device: str, capturable: bool
) -> Callable[[], None]:
    """One RMSProp update of the generator, with the penalty or (None) without."""
    generator, z, probe = setting(k, batch, device=device)
    discriminator = DCGANDiscriminator(3, BASE, SIZE).to(device)
    optimizer = torch.optim.RMSprop(
        generator.parameters(), lr=1e-4, alpha=0.9, eps=1e-6, capturable=capturable
    )

    def update() -> None:
        optimizer.zero_grad()
        loss = F.softplus(-discriminator(generator(z))).mean()
        if penalty is not None:
            loss = loss + 0.1 * penalty(generator, z, probe, iterations)
        loss.backward()
        optimizer.step()

    return update


def update_time(
    penalty: Callable | None,
    k: int,
    iterations: int,
    batch: int,
    repeats: int,
    device: str,
    graphed: bool = False,
) -> list[float]:
    """Seconds of each of several updates, as a CUDA graph, or an error that says why not."""
    update = update_of(penalty, k, iterations, batch, device, graphed)
    if not graphed:
        return clock(update, repeats)
    replay, why = as_graph(update, gpu_of(device))
    if why:
        raise RuntimeError(why)
    return clock(replay, repeats)


def grid(ks: list[int], iterations: list[int], batch: int, repeats: int, device: str) -> dict:
    rows = []
    plain = percentiles(update_time(None, 1, 1, batch, 10, device))
    result = {"batch": batch, "update_without": plain, "rows": rows}
    if device == "cuda":
        alone = percentiles(update_time(None, 1, 1, batch, 10, device, graphed=True))
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
    """``torch.compile`` of the torch.func version, as double backward cannot be compiled."""
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


def table(result: dict) -> list[str]:
    about = f"{machine(result['environment'])}{limited(result)}"
    lines = [
        "The alignment penalty and its gradient on the paper's DCGAN (base 64, m = 128, 64×64×3), "
        "against the paper's Listing 1 in the same run, float32 unless said "
        f"({about}):",
        "",
    ]
    heads = ("way", "time (p50)", "speed-up", "peak memory", "gradient error")
    for case in result.get("headline", {}).values():
        rows = [[NAMES[name], *cells(row)] for name, row in case["methods"].items()]
        lines += [f"{where(case)}:", "", *markdown(heads, rows)]
    note = "Peak memory is above what the process held before; errors are relative to float64."
    lines += [note, ""]
    if "headline" not in result:
        lines = [f"The alignment penalty's pass of J on the paper's DCGAN ({about}):", ""]
    told = [
        f"- `torch.compile` of the `torch.func` version, {where(case)}: "
        + (f"{case['failed']}." if "failed" in case else f"{case['p50']:.2f} s.")
        for case in result.get("compiled", [])
    ]
    told += [line for found in result.get("share", []) for line in _share.lines(found)]
    return [*lines, *told, ""] if told else lines


def limited(result: dict) -> str:
    limits = result.get("instruction_sets", {}).get("limits", {})
    return f", limited to {limits['ONEDNN_MAX_CPU_ISA']}" if all(limits.values()) and limits else ""


def where(case: dict) -> str:
    return f"k = {case['k']}, T = {case['iterations']}, batch {case['batch']}"


def cells(row: dict) -> list[str]:
    error = f"{row['gradient_error']:.1e}"
    if "p50" not in row:
        return ["not timed: fails its gate", "", "", error]
    faster = f"{row['speedup']:.1f}×" if "speedup" in row else "–"
    return [f"{row['p50']:.2f} s", faster, f"{row['peak_mib']:.0f} MiB", error]


def draw(result: dict, path: Path) -> None:
    """Fig. 4: a generator update relative to one without the penalty, over k, one panel per T."""
    from matplotlib.figure import Figure

    if "grid" not in result:
        return
    rows = result["grid"]["rows"]
    steps = sorted({row["iterations"] for row in rows})
    figure = Figure(figsize=(3.2 * len(steps), 3.8), layout="constrained")
    axes = figure.subplots(1, len(steps), sharey=True, squeeze=False)[0]
    for axis, count in zip(axes, steps):
        for method, colour in COLOURS.items():
            points = [(r["k"], r["relative_cost"]) for r in rows
                      if r["method"] == method and r["iterations"] == count]  # fmt: skip
            if points:
                label = NAMES[method].replace("*", "").replace("`", "")
                axis.plot(*zip(*sorted(points)), "o-", color=colour, label=label, markersize=4)
        axis.set(title=f"T = {count}", xlabel="eigenvectors k", xscale="log", yscale="log")
        axis.set_xticks(sorted({row["k"] for row in rows}), labels=sorted({r["k"] for r in rows}))
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("cost of an update\nrelative to one without")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


FIGURES = {"": draw}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--parts", nargs="*", default=["share", "headline", "stages", "grid", "compiled"]
    )
    parser.add_argument("--k", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--iterations", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--batch", type=int, default=4, help="of the grid")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="only the share, and three methods")
    parser.add_argument("--isa", default="native", choices=_share.LIMITS)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    _share.start_again_with(_share.LIMITS[options.isa])
    parts = ["share", "headline"] if options.quick else options.parts
    torch.set_flush_denormal(True)
    torch.backends.cudnn.allow_tf32 = False  # true fp32 for every method
    device = options.device
    if options.peak:
        _peak_here(options.peak, device, *options.case)
        return
    about = environment()
    question = "alignment" if options.isa == "native" else f"alignment_{options.isa}"
    earlier = RESULTS / machine_name(about) / f"{question}.json"
    result: dict = json.loads(earlier.read_text()) if earlier.exists() else {}
    result["network"] = {"m": M, "base": BASE, "image": [3, SIZE, SIZE]}
    if device == "cpu":
        result["instruction_sets"] = _share.instruction_sets()
    if "share" in parts and device == "cpu":
        result["share"] = share(4 * options.repeats)
    if "headline" in parts:
        result["headline"] = headline(options.repeats, device, options.quick)
    if "grid" in parts:
        result["grid"] = grid(options.k, options.iterations, options.batch, 3, device)
    if device == "cuda" and "stages" in parts:
        import _stages  # imports this file

        result["stages"] = _stages.measured(device)
    if "compiled" in parts:
        result["compiled"] = [compiled(8, steps, 8, device) for steps in (1, 2, 8)]
    result.pop("environment", None)
    print(write_result(question, result, about))


if __name__ == "__main__":
    main()
