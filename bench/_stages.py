"""The penalty's step on a GPU, part by part, each with its minimum time.

    python bench/_stages.py [--device cuda] [--limit 60] [--results FOLDER]

The paper's generator (base 64, m = 128, 64×64×3), k = T = 8, batch 32. A part's floor is the sum
over its layers of the longer of two times: the operations at the rate of a matrix product, and the
numbers that a layer reads and writes, once each, at the rate of a copy. Parts without their own
call are differences of two times. Then whole updates of the generator, eagerly and as one CUDA
graph, behind the gate of ``_baselines``; last, the kernels that dominate the penalty's time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import alignment
import torch
from _baselines import GATES, GRAPHED, METHODS, fixed_directions, listing_1, native
from _gpu import first_line, gpu_of, measure_kernels
from _harness import TABLE, environment, parsed, stage_arguments, write_result
from _probes import allow_tf32, ceilings
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import pydisent
from pydisent.jacobian import linearize
from pydisent.nn import TranslatedPReLU
from pydisent.ops import masked_power_iteration

K, T, BATCH = 8, 8, 32
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
Layer = tuple[int, int, int]  # operations, numbers read and numbers written, per row


def layers_of(generator: nn.Module, z: Tensor) -> list[Layer]:
    """The generator's layers in the order of execution, with activations in place."""
    found: list[Layer] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        if not isinstance(module, nn.ConvTranspose2d | nn.Linear | TranslatedPReLU):
            return
        x, flops = inputs[0], 0
        if isinstance(module, nn.ConvTranspose2d):
            flops = 2 * x[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            flops = 2 * module.weight.numel()
        found.append((flops, x[0].numel(), out[0].numel()))

    hooks = [module.register_forward_hook(note) for module in generator.modules()]
    with torch.no_grad():
        generator(z[:1])
    for hook in hooks:
        hook.remove()
    return found


def floor_of(layers: list[Layer], rows: int, top: dict[str, float], dtype: str) -> float:
    """Minimum seconds of an unfused pass with the given number of rows."""
    rate, copy = 1e12 * top[f"{dtype}_tflop_s"], 1e9 * top["copy_gb_s"]
    size = DTYPES[dtype].itemsize
    return sum(
        max(rows * flops / rate, rows * size * (read + written) / copy)
        for flops, read, written in layers
    )


def floors(layers: list[Layer], m: int, rank: int, top: dict[str, float], dtype: str) -> dict:
    """Minimum seconds of each part, by name."""
    out, size = layers[-1][2], DTYPES[dtype].itemsize
    copy, rate = 1e9 * top["copy_gb_s"], 1e12 * top[f"{dtype}_tflop_s"]
    columns, small = BATCH * m * out * size, 4 * BATCH * m * m

    def product(columns_read: int, written: int, flops: float) -> float:
        return max((columns_read + written) / copy, flops / rate)

    return {
        "trace": floor_of(layers, BATCH, top, "fp32"),
        "J pass": floor_of(layers, BATCH * m, top, dtype),
        "Gram": product(columns, small, 2.0 * BATCH * m * m * out),
        "power iterations": product(4 * small, 0, 0.0),
        "directions": product(columns, rank * columns // m, 2.0 * BATCH * m * rank * out),
        # Tangents forward, and a reverse pass to tangents and weights.
        "gradient pass": 3 * floor_of(layers, BATCH * rank, top, dtype),
    }


def calls(parts: tuple, dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    """The timed calls: parts with their own call, and the penalty up to a part."""
    generator, z, probe = parts
    m, k = probe.shape[1:]
    directions = fixed_directions(m)
    with torch.no_grad():  # else it would keep the weights' graph, on this stream
        linear = linearize(generator, z, compute_dtype=dtype)
    gram = linear.gram_matrix()
    mask = torch.ones(m, k, device=z.device).tril()
    inputs = gram.clone().requires_grad_()

    def penalty() -> Tensor:
        return pydisent.alignment_penalty(
            generator, z, k=k, iterations=T, probe=probe, compute_dtype=dtype, method="gram",
            **directions,
        )  # fmt: skip

    def iterated() -> None:
        vectors, _ = masked_power_iteration(inputs, probe, mask, T, 1e-8)
        torch.autograd.grad(vectors, inputs, vectors.detach())

    def value() -> None:
        with torch.no_grad():
            penalty()

    def whole() -> None:
        generator.zero_grad()
        penalty().backward()

    return {
        "trace": lambda: linearize(generator, z, compute_dtype=dtype),
        "J pass": lambda: linear.columns(linear.basis()),
        "J pass and Gram": linear.gram_matrix,
        "power iterations": iterated,
        "value": value,
        "value and directions": penalty,
        "whole": whole,
    }


def part_rows(dtype: str, top: dict[str, float], device: str, seconds: float) -> list[dict]:
    """Each part's GPU and host seconds, and its floor."""
    generator, z, probe = alignment.setting(K, BATCH, device=device)
    found: dict[str, dict[str, Any]] = {}
    for name, run in calls((generator, z, probe), DTYPES[dtype]).items():
        found |= measure_kernels({name: run}, device, seconds)
    m = probe.shape[1]
    rank = fixed_directions(m)["rank"]
    least = floors(layers_of(generator, z), m, rank, top, dtype)

    def less(whole: str, *without: str) -> dict[str, Any]:
        """The remainder of a time, clipped at zero, as the times are noisy."""
        left = {
            key: max(0.0, found[whole][key] - sum(found[name][key] for name in without))
            for key in ("p50", "host")
        }
        return {**left, "how": f"{whole} less {', '.join(without)}"}

    found["Gram"] = less("J pass and Gram", "J pass")
    found["directions"] = less("value and directions", "value")
    found["gradient pass"] = less("whole", "value and directions")
    least["whole"] = sum(least.values())
    rows = [{"part": name, "dtype": dtype, "floor": least[name], **found[name]} for name in least]
    for row in rows:
        print(part_line(row), flush=True)
    return rows


def update_rows(device: str, seconds: float, is_late: Callable[[], bool]) -> list[dict[str, Any]]:
    """An update without and with the penalty, eagerly and as a graph; Listing 1 comes last."""
    exact = alignment.gradient(*alignment.setting(K, 4, torch.float64, device), T, listing_1)
    ours = native(GRAPHED | {way: METHODS[way] for way in ("gram_bf16", "gram_fp32")}, device)
    rows: list[dict[str, Any]] = []
    for way, penalty in {"none": None, **ours, "listing_1": listing_1}.items():
        if is_late():
            break
        row: dict[str, Any] = {"way": way}
        rows.append(row)
        try:
            if penalty is not None:
                parts = alignment.setting(K, 4, device=device)
                got = alignment.gradient(*parts, T, penalty).double()
                row["error"] = ((got - exact).norm() / exact.norm()).item()
                row["passes"] = row["error"] <= GATES[way]
            if row.get("passes", True):
                update = alignment.update_of(penalty, K, T, BATCH, device, device == "cuda")
                if way == "listing_1":  # its double backward takes seconds
                    row |= {"eager": min(alignment.clock(update, 1))}
                else:
                    row["eager"] = min(alignment.clock(update, 5))
                    row |= measure_kernels({way: update}, device, seconds)[way]
        except Exception as error:  # such as out of memory
            row["failed"] = f"{type(error).__name__}: {first_line(error)}"
            gpu_of(device).empty_cache()
        print(update_line(row, rows[0]), flush=True)
    return rows


def kernels(device: str) -> list[dict[str, Any]]:
    """The most time-consuming kernels of one penalty with its gradient."""
    parts = alignment.setting(K, BATCH, device=device)
    dtype = torch.bfloat16 if "gram_bf16" in native(METHODS, device) else torch.float32
    run = calls(parts, dtype)["whole"]
    run()
    on_gpu = device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as seen:
        run()
        gpu_of(device).synchronize()
    rows = []
    for event in seen.key_averages():
        spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if spent and on_gpu == (event.device_type == torch.autograd.DeviceType.CUDA):
            rows.append({"kernel": event.key[:160], "calls": event.count, "us": spent})
    return sorted(rows, key=lambda row: -row["us"])[:25]


def part_line(row: dict[str, Any]) -> str:
    return (
        f"{row['part']:18} {row['dtype']} {1e3 * row['p50']:9.3f} ms  floor "
        f"{1e3 * row['floor']:8.3f} ms  {row['p50'] / row['floor']:6.1f} x  host "
        f"{1e3 * row['host']:8.3f} ms  {row['how']} {row.get('why', '')}"
    ).rstrip()


def update_line(row: dict[str, Any], plain: dict[str, Any]) -> str:
    start = f"update, {row['way']:16}"
    if "eager" not in row:
        return f"{start} {row.get('failed') or 'RED: fails its gate'}"
    told = f"{start} {1e3 * row['eager']:9.2f} ms ({row['eager'] / plain['eager']:.1f} x without)"
    if "p50" in row and "p50" in plain:
        told += f"  {row['how']} {1e3 * row['p50']:8.3f} ms ({row['p50'] / plain['p50']:.1f} x)"
    return f"{told} {row.get('why') or row.get('failed', '')}".rstrip()


def measured(
    device: str,
    seconds: float = 0.1,
    is_late: Callable[[], bool] = lambda: False,
    write: Callable[[dict[str, Any]], Any] = lambda result: None,
) -> dict[str, Any]:
    """All measurements; failures are recorded and do not stop the rest."""
    result: dict[str, Any] = {"k": K, "iterations": T, "batch": BATCH, "failed": []}
    result["directions"] = fixed_directions(alignment.M)
    result["ceilings"] = ceilings(device, seconds, alignment.SIZE < 64)
    steps: dict[str, Callable[[], Any]] = {
        "parts": lambda: part_rows("bf16", result["ceilings"], device, seconds),
        "updates": lambda: update_rows(device, seconds, is_late),
        "kernels": lambda: kernels(device),
        "parts_fp32": lambda: part_rows("fp32", result["ceilings"], device, seconds),
    }
    for name, step in steps.items():
        if is_late():
            result["failed"].append(f"{name}: the time was up")
            continue
        try:
            result[name] = step()
        except Exception as error:
            result["failed"].append(f"{name}: {type(error).__name__}: {first_line(error)}")
            print(result["failed"][-1], file=sys.stderr)
        write(result)
    return result


def lines_of(result: dict[str, Any]) -> list[str]:
    parts = [*result.get("parts", []), *result.get("parts_fp32", [])]
    updates = result.get("updates", [])
    return [
        *map(part_line, parts),
        *(update_line(row, updates[0]) for row in updates),
        *(f"{row['us']:9.0f} us {row['calls']:5} x {row['kernel'][:90]}"
          for row in result.get("kernels", [])[:12]),
        *result["failed"],
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    stage_arguments(parser, 0.1)
    options = parsed(parser, argv)
    if options.size:
        globals().update(K=2, T=1, BATCH=2)
        alignment.M, alignment.BASE, alignment.SIZE = 8, 4, 16
    allow_tf32(False)  # true fp32
    about = environment()

    def write(result: dict[str, Any]) -> Path:
        return write_result("gpu_stages", result, about, options.results)

    result = measured(options.device, options.seconds, options.is_late, write)
    print("wrote", write(result))
    print(TABLE, *lines_of(result), sep="\n")
    red = [row["way"] for row in result.get("updates", []) if not row.get("passes", True)]
    if red:
        print("RED:", *red, file=sys.stderr)
    return 1 if red or "parts" not in result or "updates" not in result else 0


if __name__ == "__main__":
    sys.exit(main())
