"""Shared parts of all benchmarks: the gate, the timer, the environment, the JSON file.

A benchmark answers one question. It first checks every contender against float64; a contender that
fails gets no time, so a speedup is never reported on a red gate. Contenders are timed in turns, so
that disturbances affect them equally.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import pydisent
from pydisent._precision import bf16_devices
from pydisent.nn import TranslatedPReLU

RESULTS = Path(__file__).with_name("results")
TABLE = "--- table ---"  # precedes what a stage of gpu_check.py should show


def relative_error(got: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """Return the largest relative error over tensors, in norm; NaN if any is NaN."""
    errors = [
        float((g.double().cpu() - e.cpu()).norm() / e.cpu().norm().clamp(min=1e-300))
        for g, e in zip(got, exact, strict=True)
    ]
    return max(errors, key=lambda e: (e != e, e))


def at_a_kink(generator: torch.nn.Module, z: Tensor) -> bool:
    """Whether float32's rounding moves the input of any PReLU by half of its value or more."""
    inputs = {}
    for dtype in (torch.float32, torch.float64):
        copy = deepcopy(generator).to(dtype)
        seen = inputs[dtype] = []
        for module in copy.modules():
            if isinstance(module, TranslatedPReLU):  # its threshold is 0 at first
                module.register_forward_pre_hook(
                    lambda _, args, seen=seen: seen.append(args[0].double())
                )
        with torch.no_grad():
            copy(z.to(dtype))
    pairs = zip(*inputs.values(), strict=True)
    return any(bool((2 * (single - exact).abs() >= exact.abs()).any()) for single, exact in pairs)


def gate(
    contenders: dict[str, Callable[[], Sequence[Tensor]]], exact: Sequence[Tensor], bound: float
) -> dict[str, dict[str, Any]]:
    """Run each contender once and return whether it is within the bound of the exact result."""
    report = {}
    for name, run in contenders.items():
        error = relative_error(run(), exact)
        report[name] = {"error": error, "bound": bound, "passes": bool(error <= bound)}
        print(f"gate  {name:24} error {error:.1e}  {'ok' if error <= bound else 'RED'}")
    return report


def timing_arguments(parser: argparse.ArgumentParser) -> None:
    """Add options for the duration, the number of threads and the device."""
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=3.0, help="per contender and pass")


def stage_arguments(parser: argparse.ArgumentParser, seconds: float) -> None:
    """Add the options that gpu_check.py passes to a stage."""
    parser.add_argument("--device", choices=("cpu", "cuda"), help="by default cuda")
    parser.add_argument("--seconds", type=float, default=seconds, help="for each contender")
    parser.add_argument("--limit", type=float, default=1e9, help="seconds until it ends")
    parser.add_argument("--size", choices=("tiny",), help="only check that everything runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for results")


def parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of a stage, with ``is_late``, which returns whether its time is up."""
    options = parser.parse_args(argv)
    ends = time.monotonic() + options.limit
    options.is_late = lambda: time.monotonic() > ends
    options.device = options.device or "cuda"
    return options


def measure(
    contenders: dict[str, Callable[[Any], Any]],
    prepare: dict[str, Callable[[], Any]],
    seconds: float = 3.0,
    device: str = "cpu",
) -> dict[str, dict[str, float]]:
    """Time contenders in turns for about ``seconds`` each.

    ``prepare[name]()`` makes the argument of each call, untimed.
    """
    synchronise = torch.cuda.synchronize if device == "cuda" else lambda: None
    times: dict[str, list[float]] = {name: [] for name in contenders}
    spent = dict.fromkeys(contenders, 0.0)
    for name, run in contenders.items():
        for _ in range(3):
            run(prepare[name]())
    while min(spent.values()) < seconds:
        for name, run in contenders.items():
            # A few calls at a time: all but the first see the caches as in a training loop.
            for _ in range(5 if spent[name] < seconds else 0):
                argument = prepare[name]()
                synchronise()
                begin = time.perf_counter()
                run(argument)
                synchronise()
                times[name].append(time.perf_counter() - begin)
                spent[name] += times[name][-1]
    return {name: percentiles(values) for name, values in times.items()}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return p20, p50 and p80 in seconds, and the number of calls."""
    ordered = sorted(seconds)
    found = {f"p{q}": ordered[round(q / 100 * (len(ordered) - 1))] for q in (20, 50, 80)}
    return {**found, "calls": len(ordered)}


def measure_passes(
    functions: dict[str, Callable],
    call: Callable[[Callable], Any],
    backward: Callable[[Any], Any],
    seconds: float,
    device: str = "cpu",
    which: Sequence[str] = ("forward", "backward", "full"),
) -> dict[str, dict[str, dict[str, float]]]:
    """Time the forward pass without a graph, the backward pass, and both.

    ``call(function)`` is the forward pass, ``backward(outputs)`` computes the gradients.
    """

    def forward(function: Callable) -> Any:
        with torch.no_grad():
            return call(function)

    same = {name: (lambda f=f: f) for name, f in functions.items()}
    graph = {name: (lambda f=f: call(f)) for name, f in functions.items()}
    passes = {
        "forward": (forward, same),
        "backward": (backward, graph),
        "full": (lambda function: backward(call(function)), same),
    }
    found = {}
    for name in which:
        run, prepare = passes[name]
        found[name] = measure(dict.fromkeys(functions, run), prepare, seconds, device)
        print_times(name, found[name])
    return found


def print_times(what: str, times: dict[str, dict[str, float]]) -> None:
    """Print the results of ``measure`` per contender, with the median in units of ours."""
    ours = times["pydisent"]["p50"]
    scale, unit = (1e3, "ms") if ours >= 1e-3 else (1e6, "us")
    for contender, t in times.items():
        p20, p50, p80 = (scale * t[p] for p in ("p20", "p50", "p80"))
        print(
            f"{what:9}{contender:14} p20 {p20:9.3f}  p50 {p50:9.3f}  p80 {p80:9.3f} {unit}"
            f"  {t['p50'] / ours:7.2f} x ours"
        )


def peak_rise(run: Callable[[], Any]) -> float:
    """Return a call's peak memory in MiB, above what the process held before."""
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) / 1024


def print_peak_rise(run: Callable[[], Any]) -> None:
    """Print the peak rise of a second call, as the first compiles and loads libraries."""
    run()
    ctypes.CDLL(None).malloc_trim(0)  # return the allocator's free memory to the system
    print(peak_rise(run))


def printed_by(script: str, *arguments: object) -> float:
    """The last number that a script prints, run in a separate process."""
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def gpu_peak_rise(run: Callable[[], Any]) -> float:
    """Return the same for GPU memory."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")


def environment() -> dict[str, Any]:
    """Describe the machine and the software behind the figures."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())
        model = found.group(1) if found else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "native_bf16": bf16_devices(),
        "platform": platform.platform(),
        "backends": pydisent.backends(),
        "command": [Path(sys.argv[0]).name, *map(_without_folders, sys.argv[1:])],
    }


def _without_folders(argument: str) -> str:
    """Return an argument, but of an absolute path the name alone: folders are the machine's."""
    return Path(argument).name if Path(argument).is_absolute() else argument


def machine_name(about: dict[str, Any]) -> str:
    """Name the results folder: the GPU if there is one, else the CPU and its cores."""
    name = about["gpu"] or f"{about['cpu']}-{about['cores']}-cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def write_result(
    question: str,
    result: dict[str, Any],
    about: dict[str, Any] | None = None,
    root: Path = RESULTS,
) -> Path:
    """Write a result with its environment to ``<root>/<machine>/<question>.json``."""
    about = about or environment()
    path = root / machine_name(about) / f"{question}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(
        json.dumps({"question": question, **result, "environment": about}, indent=1) + "\n"
    )
    temporary.replace(path)
    return path


def load_result(question: str, about: dict[str, Any], root: Path = RESULTS) -> dict[str, Any]:
    """An earlier result of this machine."""
    path = root / machine_name(about) / f"{question}.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found
