"""Training throughput of each system relative to a plain PyTorch loop.

    python bench/throughput.py [--systems ib-gan beta-vae] [--seconds 5] [--device cuda]

For beta-vae and ib-gan a plain loop is hand-written PyTorch (``_plain_loops.py``); for the others
it is the system itself in torch's usual memory layout, with unfused optimiser steps and the
reference ops. Gate: after 100 steps (20 for large networks) from the same weights and draws, both
must have the same losses within 1e-5, in double precision: in single precision RMSprop's first
steps, whose length does not depend on the gradient's, amplify any rounding into a different GAN.
The difference in single precision is reported as well. Each contender has its own process, as
training configures its process's allocator; steps are timed in turns. Batches come from the data as
in training, and are timed separately. A profile shows where our step spends its time; ``--trace
FOLDER`` saves it for a viewer.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from _harness import environment, percentiles, write_result
from _plain_loops import plain_loop
from _tables import machine, markdown
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from pydisent import data, systems
from pydisent._precision import has_native_bf16
from pydisent.systems import System
from pydisent.training.graphs import GraphedSteps
from pydisent.training.memory import keep_freed_memory
from pydisent.training.sampling import BatchSampler

BOUND = 1e-5
# Systems with the papers' networks; the others' would take seconds per step on a CPU.
PUBLISHED = ("beta-vae", "gan", "ib-gan", "infogan", "vae")
DATA = {"attribute-ae": "faces", "jacobian-ae": "digits"}
PROFILED = 10  # steps
WARM_UP = 100  # batches
UNTIMED, A_TURN = 5, 5  # steps; all but the first of a turn see the caches as in training
TOP = 6  # operations kept from the profile
Batch = tuple[Tensor, ...]


def preset_of(name: str) -> str:
    return "paper" if name in PUBLISHED else "quick"


def build(name: str, size: str, device: str, **settings: Any) -> tuple[System, systems.Preset, Any]:
    """A fresh system at a preset's size, with its data, ready to train."""
    source = DATA.get(name, "sprites")
    preset = systems.preset(name, size, source)
    dataset = data.load(source, image_size=preset.image_size)
    torch.manual_seed(0)
    config = dataclasses.replace(preset.config, **settings)
    system = systems.build(name, config, dataset.image_shape)
    system.dataset_size = len(dataset)
    system.to(device).train()
    system.start_phase(system.phases(1)[0][0])
    return system, preset, dataset


def batches(system: System, dataset: Any, count: int, device: str) -> tuple[list[Batch], float]:
    """Draw ``count`` batches as in training, and time their preparation, in seconds per batch.

    Earlier warm-up batches are not counted: they draw or read what is then cached.
    """
    sampler = BatchSampler(len(dataset), system.images_per_step, 0)
    made, seconds = [], []
    for step in range(WARM_UP):
        dataset.images(torch.from_numpy(sampler(step)))
    for step in range(WARM_UP, WARM_UP + count):
        begin = time.perf_counter()
        indices = torch.from_numpy(sampler(step))
        batch: Batch = (dataset.images(indices),)
        if system.needs_attributes:
            batch += (2 * dataset.attributes[indices].float() - 1,)
        seconds.append(time.perf_counter() - begin)
        made.append(tuple(part.to(device) for part in batch))
    return made, sorted(seconds)[len(seconds) // 2]


def losses_apart(
    name: str, size: str, device: str, dtype: torch.dtype, count: int
) -> dict[str, float]:
    """Difference of each of our losses from the plain loop's after `count` steps.

    Relative to the loss, or absolute if the loss is below one.
    """
    torch.set_default_dtype(dtype)
    try:
        system, _, dataset = build(name, size, device, **single(name))
        made, _ = batches(system, dataset, 16, device)
        ended = []
        for step in (plain_loop(copy.deepcopy(system)), system.step):
            torch.manual_seed(1)
            for number in range(count):
                logs = step(*(part.to(dtype) for part in made[number % len(made)]))
            ended.append({key: float(value) for key, value in logs.items()})
    finally:
        torch.set_default_dtype(torch.float32)
    plain, ours = ended
    return {key: abs(ours[key] - value) / max(abs(value), 1) for key, value in plain.items()}


def single(name: str) -> dict[str, str]:
    """The setting that disables a system's mixed precision."""
    known = [setting for setting, *_ in systems.describe(systems.config_class(name)())]
    return {"precision": "fp32"} if "precision" in known else {}


def profiled(step: Callable, made: list[Batch], device: str, trace: Path | None) -> dict[str, Any]:
    """The stages and operations that dominate a step, as fractions of its time."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    with profile(activities=activities) as seen:
        for number in range(PROFILED):
            step(*made[number % len(made)])
    if trace is not None:
        trace.parent.mkdir(parents=True, exist_ok=True)
        seen.export_chrome_trace(str(trace))
    field = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    rows = seen.key_averages()
    total = sum(getattr(row, field) for row in rows)
    stages = {
        row.key.removeprefix("pydisent."): row.cpu_time_total / 1e3 / PROFILED
        for row in rows
        if row.key.startswith("pydisent.") and row.cpu_time_total
    }
    operations = sorted(rows, key=lambda row: -getattr(row, field))[:TOP]
    return {
        "milliseconds_by_stage": stages,
        "share_by_operation": {row.key: getattr(row, field) / total for row in operations},
    }


def contenders(ours: System, device: str) -> list[str]:
    """The plain loop, and ours in fp32, and in bf16 if system and device support it."""
    narrow = bool(single(ours.name)) and has_native_bf16(device)
    made = ["pydisent", *(["pydisent bf16"] if narrow else [])]
    graphs = device == "cuda" and ours.graph_key() is not None
    return ["plain", *made, *(f"{key}, graphs" for key in made if graphs)]


def work(pipe: Connection, contender: str, name: str, size: str, device: str, threads: int) -> None:
    """Run the requested numbers of steps of one contender, and send their seconds."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # as in training
    precision = {"precision": "bf16"} if " bf16" in contender else single(name)
    system, _, dataset = build(name, size, device, **precision)
    if contender == "plain":
        step: Callable = plain_loop(system)
    else:
        keep_freed_memory()
        step = GraphedSteps(system) if contender.endswith("graphs") else system.step
    prepared, _ = batches(system, dataset, 16, device)
    synchronise = torch.cuda.synchronize if device == "cuda" else lambda: None
    number = 0
    while count := pipe.recv():
        times = []
        for _ in range(count):
            batch = prepared[number % len(prepared)]
            synchronise()
            begin = time.perf_counter()
            step(*batch)
            synchronise()
            times.append(time.perf_counter() - begin)
            number += 1
        pipe.send(times)


def timed_in_turns(
    which: Sequence[str], seconds: float, *arguments: Any
) -> dict[str, dict[str, float]]:
    """Time each contender for about ``seconds``; the arguments are those of `work`."""
    context = multiprocessing.get_context("spawn")
    pipes, workers = {}, []
    for contender in which:
        pipes[contender], theirs = context.Pipe()
        workers.append(context.Process(target=work, args=(theirs, contender, *arguments)))
        workers[-1].start()
        theirs.close()

    def steps(contender: str, count: int) -> list[float]:
        pipes[contender].send(count)
        return pipes[contender].recv()

    try:
        for contender in which:
            steps(contender, UNTIMED)
        times: dict[str, list[float]] = {contender: [] for contender in which}
        while min(map(sum, times.values())) < seconds:
            for contender, spent in times.items():
                if sum(spent) < seconds:
                    times[contender] += steps(contender, A_TURN)
        for pipe in pipes.values():
            pipe.send(0)
    finally:
        for pipe in pipes.values():
            pipe.close()  # closing also ends the worker
        for worker in workers:
            worker.join()
    return {contender: percentiles(found) for contender, found in times.items()}


def bench(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """All results for one system."""
    size = args.preset or preset_of(name)
    ours, preset, dataset = build(name, size, args.device, **single(name))
    count = args.gate_steps or (100 if name in PUBLISHED else 20)
    prepared, data_seconds = batches(ours, dataset, 16, args.device)
    apart, rounded = (
        losses_apart(name, size, args.device, dtype, count)
        for dtype in (torch.float64, torch.float32)
    )
    passes = max(apart.values()) <= BOUND
    print(
        f"gate  {name:14} losses after {count} steps apart by {max(apart.values()):.1e} in "
        f"double, {max(rounded.values()):.1e} in single precision  {'ok' if passes else 'RED'}"
    )
    which = [key for key in contenders(ours, args.device) if passes or key != "pydisent"]
    timed = timed_in_turns(which, args.seconds, name, size, args.device, args.threads)
    images = len(prepared[0][0])
    for key, row in timed.items():
        row["images_per_second"] = images / (row["p50"] + data_seconds)
        print(
            f"{name:14}{key:15} {1e3 * row['p50']:9.2f} ms {row['images_per_second']:9.0f} images/s"
            f"  {timed['plain']['p50'] / row['p50']:5.2f} x plain"
        )
    trace = args.trace / f"{name}.json" if args.trace else None
    return {
        "data": dataset.name,
        "image_size": preset.image_size,
        "networks": size,
        "images_a_step": images,
        "gate": {
            "steps": count,
            "error": max(apart.values()),
            "bound": BOUND,
            "passes": passes,
            "single_precision": rounded,
        },
        "seconds": timed,
        "data_seconds": data_seconds,
        "profile": profiled(ours.step, prepared, args.device, trace),
    }


def table(result: dict) -> list[str]:
    rows = result["systems"]
    ways = list(dict.fromkeys(w for row in rows.values() for w in row["seconds"] if w != "plain"))
    sizes = dict.fromkeys(row["networks"] for row in rows.values())
    presets = "; ".join(
        f"`{size}` ({', '.join(name for name, row in rows.items() if row['networks'] == size)})"
        for size in sizes
    )
    lines = [
        f"Training steps against a plain PyTorch loop in the same run "
        f"({machine(result['environment'])}). For beta-vae and ib-gan the plain loop is written "
        "from the papers; for any other it is the system without channels-last weights, fused "
        "steps and compiled kernels. Each has a process of its own; ours keeps the memory it "
        f"frees, as training has it. Networks are those of the preset {presets}; data is the "
        "share of a step's time in which its images are made.",
        "",
    ]
    ordered = sorted(rows.items(), key=lambda item: item[1]["networks"] != "paper")
    heads = ["system", "images", "plain, ms a step", *ways, "images/s", "data, %"]
    return [*lines, *markdown(heads, [cells(name, row, ways) for name, row in ordered], 2)]


def cells(name: str, row: dict[str, Any], ways: Sequence[str]) -> list[str]:
    seconds = {key: found["p50"] for key, found in row["seconds"].items()}
    plain, fastest = seconds["plain"], min(seconds.values())
    return [
        name,
        f"{row['images_a_step']} of {row['data']}, {row['image_size']} px",
        f"{1e3 * plain:.1f}",
        *(f"{1e3 * seconds[way]:.1f} ({plain / seconds[way]:.2f}×)" if way in seconds else "–"
          for way in ways),
        f"{max(found['images_per_second'] for found in row['seconds'].values()):,.0f}",
        f"{100 * row['data_seconds'] / (row['data_seconds'] + fastest):.1f}",
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", default=systems.names(), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each contender")
    parser.add_argument(
        "--preset", choices=systems.PRESETS, help="for all systems; by default, paper for some"
    )
    parser.add_argument("--gate-steps", type=int, help="default 100, or 20 for large networks")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--trace", type=Path, help="folder for profiles, for a trace viewer")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # as in training
    found = {name: bench(name, args) for name in args.systems}
    print(write_result("throughput", {"systems": found}, environment()))
    return 0 if all(row["gate"]["passes"] for row in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
