"""How close the Jacobian's pass is to the matrix product rate of the same run, layer by layer.

A layer's floor is the time of its multiplications at the rate of a product of square matrices, in
the same dtype and with the same threads. Some products are faster than that.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import torch
from torch import Tensor, nn

import pydisent
from pydisent.jacobian.linearization import linearize_unchecked

SIZE = 1024  # of the square matrices
LIMITS = {
    "native": {},
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "PYDISENT_INSTRUCTION_SET": "avx2",
    },
}
"""Settings that limit each library to the instructions of an older processor."""


def start_again_with(limits: dict[str, str]) -> None:
    """Restart the process under the given limits, which libraries read when loaded."""
    if any(os.environ.get(name) != value for name, value in limits.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **limits})


def instruction_sets() -> dict[str, Any]:
    """The limits set for the libraries, and the instruction sets that they report."""
    return {
        "aten": torch.backends.cpu.get_cpu_capability(),
        "pydisent": pydisent.backends()["cpu"].get("instruction_set"),
        "limits": {name: os.environ.get(name) for name in LIMITS["avx2"]},
    }


def measured(generator: nn.Module, z: Tensor, dtype: torch.dtype, repeats: int) -> dict[str, Any]:
    """Seconds of each step in one chunk of the pass, with the floors of its products."""
    linear = linearize_unchecked(generator, z, (), {}, dtype)
    program, chunk = linear.program, linear.chunks(linear.basis())[0].to(dtype)
    captured = program.prepare(dtype)
    left, right = torch.randn(2, SIZE, SIZE, device=z.device).to(dtype)
    seconds: dict[str, float] = {}

    def note(name: str, since: float) -> float:
        now = time.perf_counter()
        seconds[name] = min(seconds.get(name, float("inf")), now - since)
        return time.perf_counter()

    names = [f"{place} {step.name}" for place, step in enumerate(program.steps)]
    for _ in range(repeats):
        start = time.perf_counter()
        left @ right
        start = last = note("gemm", start)
        following = iter(names)

        def watch(_, results):
            nonlocal last
            last = note(next(following), last)  # noqa: B023
            return results

        with torch.no_grad():
            program.push(chunk, captured, overwrite=True, watch=watch)
        note("pass", start)
    rate = SIZE**3 / seconds["gemm"]
    counts = [len(chunk) * program.products_of(step) for step in program.steps]
    floors = [count / rate for count in counts]
    layers = [
        {"step": name, "seconds": seconds[name], "floor": floor}
        for name, floor in zip(names, floors)
    ]
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "rows": len(chunk) * len(z),
        "gemm_products_per_s": rate,
        "seconds": seconds["pass"],
        "floor": sum(floors),
        "share": sum(floors) / seconds["pass"],
        "layers": layers,
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The overall share and each layer's, as text."""
    shares = [
        f"{layer['step'].split()[1]} {100 * layer['floor'] / layer['seconds']:.0f} %"
        for layer in found["layers"]
        if layer["floor"]
    ]
    rest = sum(layer["seconds"] for layer in found["layers"] if not layer["floor"])
    return [
        f"- The pass of J in {found['dtype']}, {found['rows']} rows: "
        f"{100 * found['share']:.0f} % of the rate of a product of {SIZE}² matrices in the same "
        f"run; its products, in their order: {', '.join(shares)}; "
        f"{100 * rest / found['seconds']:.0f} % of its time is the rest."
    ]
