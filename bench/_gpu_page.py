"""The tables of docs/gpu.md: predicted GPU times next to measured ones.

The predictions come from this file alone; the measurements from the committed results.
"""

from __future__ import annotations

from typing import Any

import _stages
import torch
from _harness import RESULTS
from _tables import brief, load, markdown
from _work import OPS, floor, is_torchs_own, problem, work
from torch._subclasses import FakeTensorMode

from pydisent.nn import DCGANGenerator
from pydisent.ops.registry import REGISTRY

#: Expected sustained rates of an H200; its data sheet has 4,800 GB/s, and 67, 495 and 989 TFLOP/s.
ASSUMED = {"copy_gb_s": 4300.0, "fp32_tflop_s": 50.0, "tf32_tflop_s": 350.0,
           "bf16_tflop_s": 780.0, "launch_us": 5.0, "graph_us": 3.0}  # fmt: skip
UNITS = {"copy_gb_s": "copy, GB/s", "fp32_tflop_s": "fp32 product, TFLOP/s",
         "tf32_tflop_s": "tf32 product, TFLOP/s", "bf16_tflop_s": "bf16 product, TFLOP/s",
         "launch_us": "launch, µs of the host", "graph_us": "kernel as a graph, µs"}  # fmt: skip
#: Fraction of the floor's rate that an op's kernel, and a network pass, should reach.
KERNEL, NETWORK = 0.85, 0.75
#: Seconds for starting a graph replay, and for each launch in it.
START, LAUNCH = 3e-6, 1.5e-6
LAUNCHES = {False: 2, True: 5}  # maximum, forward and both passes
RANK = 32
#: Seconds of sequential steps on matrices too small to fill the GPU.
SERIAL = {"trace": 2e-4, "power iterations": 8e-5, "directions": 2e-4}
PLAIN = 2.1e-3  # an update without the penalty: 40 GFLOP in fp32, at a third to half of the rate


def measured(question: str) -> dict[str, Any] | None:
    """The result from a GPU, if one is committed."""
    found = (load(folder, question) for folder in sorted(RESULTS.glob("*/")))
    return next((r for r in found if r and r["environment"]["gpu"]), None)


def pair(predicted: float, outcome: float | None, scale: float) -> list[str]:
    """A prediction, its outcome and their ratio."""
    if outcome is None:
        return [brief(scale * predicted), "–", "–"]
    ratio = f"{outcome / predicted:.2f}×"
    return [brief(scale * predicted), brief(scale * outcome), ratio]


def ceiling_table() -> list[str]:
    top = (measured("gpu_ceilings") or {}).get("ceilings", {})
    rows = [[UNITS[key], *pair(value, top.get(key), 1.0)] for key, value in ASSUMED.items()]
    return markdown(("", "prediction", "measured", "ratio"), rows)


def step_predictions() -> dict[str, tuple[float, float]]:
    """Floor and predicted seconds of each part of the penalty's step, in bf16."""
    layers = _stages.layers_of(DCGANGenerator(128, 3, 64, 64), torch.zeros(1, 128))
    least = _stages.floors(layers, 128, RANK, ASSUMED, "bf16")
    found = {n: (s, s / NETWORK + SERIAL.get(n, 0.0)) for n, s in least.items()}
    found["whole"] = tuple(map(sum, zip(*found.values())))  # type: ignore[assignment]
    return found


def step_table() -> list[str]:
    result = measured("gpu_stages") or {}
    outcome = {row["part"]: row["p50"] for row in result.get("parts", [])}
    outcome |= {f"update, {row['way']}": row["p50"]
                for row in result.get("updates", []) if "p50" in row}  # fmt: skip
    parts = step_predictions()
    rows = [[name, brief(1e3 * least), *pair(predicted, outcome.get(name), 1e3)]
            for name, (least, predicted) in parts.items()]  # fmt: skip
    updates = {"none": PLAIN, "gram_graph_bf16": PLAIN + parts["whole"][1]}
    rows += [[f"update, {way}", "–", *pair(seconds, outcome.get(f"update, {way}"), 1e3)]
             for way, seconds in updates.items()]  # fmt: skip
    return markdown(("ms", "floor", "prediction", "measured", "ratio"), rows)


def op_predictions(name: str, dtype: str) -> tuple[int, int, float, float]:
    """Bytes, operations, floor and predicted seconds of an op's large size, with any backward."""
    spec = REGISTRY[name].spec
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    with FakeTensorMode():
        moved, done = work(name, problem(name, "large", kind, "cpu"), not spec.written)
    least, _ = floor(moved, done, ASSUMED, dtype if spec.is_product else "fp32")
    return moved, done, least, least / KERNEL + START + LAUNCH * LAUNCHES[not spec.written]


def op_table() -> list[str]:
    found = {
        (row["op"], row["dtype"]): list(row["seconds"].values())[-1]["pydisent"]["p50"]
        for row in (measured("gpu_suite") or {}).get("rows", [])
        if "seconds" in row and row["size"] == "large"
    }
    rows, missed = [], []
    for name in OPS:
        if is_torchs_own(name):
            continue
        cells = []
        for dtype in ("fp32", "bf16"):
            moved, done, least, predicted = op_predictions(name, dtype)
            outcome = found.get((name, dtype))
            if dtype == "fp32":
                cells += [brief(moved / 1e6), brief(done / 1e9)]
            cells += [brief(1e6 * least), *pair(predicted, outcome, 1e6)]
            if outcome is not None and outcome > 1.25 * least:
                missed.append(f"`{name}` ({dtype}, {outcome / least:.1f}×)")
        rows.append([f"`{name}`", REGISTRY[name].spec.sizes.label("large"), *cells])
    heads = ["op, µs", "size", "MB", "GFLOP", "floor, fp32", "prediction", "measured", "ratio",
             "floor, bf16", "prediction", "measured", "ratio"]  # fmt: skip
    told = f"Above 1.25 × their floors: {', '.join(missed)}." if missed else ""
    return [*markdown(heads, rows, 2), *([told, ""] if told else [])]


def probe_table() -> list[str]:
    """What the libraries achieve; empty until measured."""
    rows = [
        [row["name"], row["case"], row["dtype"], brief(1e3 * row["floor"]),
         brief(1e3 * row["p50"]) if "p50" in row else row["failed"][:60]]
        for row in (measured("gpu_probes") or {}).get("rows", [])
    ]  # fmt: skip
    if not rows:
        return []
    heads = ("", "case", "dtype", "floor, ms", "measured, ms")
    return ["### What the libraries give", "", *markdown(heads, rows, 3)]


def tables() -> str:
    """The text between the markers."""
    gpu = measured("gpu_ceilings")
    told = "Nothing in these tables is measured yet: every time is a **prediction**."
    if gpu:
        told = f"Measured on {gpu['environment']['gpu']}. Every other time is a **prediction**."
    lines = [
        told, "",
        "### The machine", "", *ceiling_table(),
        "### The penalty's step", "",
        f"k = T = 8, batch 32, m = 128, base 64, tangents in bf16, {RANK} directions. Floor: each "
        "layer at its longer time. Prediction: the floor at "
        f"{100 * NETWORK:.0f} % of that rate"
        + "".join(f", {name} and {1e6 * s:.0f} µs" for name, s in SERIAL.items())
        + " (small matrices, one step after another); a plain update of 40 GFLOP in fp32 "
        f"{1e3 * PLAIN:.1f} ms.", "", *step_table(),
        "### Every op at its large size", "",
        "Forward and backward (`activation_tangent_`: forward), replayed as a graph, the cache "
        f"flushed. Prediction: the floor at {100 * KERNEL:.0f} % of its rate, "
        f"{1e6 * START:.0f} µs for the graph's start, {1e6 * LAUNCH:.1f} µs a launch, "
        f"{LAUNCHES[True]} launches both ways ({LAUNCHES[False]} forward).",
        "", *op_table(), *probe_table(),
    ]  # fmt: skip
    return "\n".join(lines).strip()
