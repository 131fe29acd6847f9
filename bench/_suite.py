"""Presentation of a suite of all ops (``run.py``): terminal, README and figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _tables import COMPILED, OURS, brief, grouped, machine, markdown, panels

from pydisent.ops.spec import BACKWARD

CAPTIONS = {
    "gpu_suite.png": "Every op on the GPU under the measured ceilings",
    "cpu_suite.png": "Every op on the CPU under the measured ceilings",
}
COLOURS = {"fp32": OURS, "bf16": COMPILED}
HEADS = ("op", "size", "pydisent", "reference", "torch.compile", "rate, share", "host", "bf16",
         "a step's size")  # fmt: skip


def lines_of(rows: list[dict[str, Any]]) -> list[str]:
    """Terminal output: one line per op, size and dtype, for both passes if there are two."""
    lines = [
        f"{'op':28} {'shape':30} {'dtype':5} {'pass':7} {'ours':>8} {'reference':>9} "
        f"{'compile':>8} {'ratio':>5} {'rate':>16} {'share':>6} {'host':>6}"
    ]
    for row in rows:
        start = f"{row['op']:28} {row['shape']:30} {row['dtype']:5}"
        if "seconds" not in row:
            why = "torch's own" if "torchs_own" in row else row.get("failed", "RED: fails its gate")
            lines.append(f"{start} {why[:70]}")
            continue
        key, times, done = last_pass(row)
        ours = times.pop("pydisent")
        others = [f"{times[n]:.1f}" if n in times else "-" for n in ("reference", "torch.compile")]
        best = min(times.values(), default=float("nan"))
        rate = f"{done['gb_s']:.1f} GB/s"
        if done["bound_by"] == "operations":
            rate = f"{done['tflop_s']:.3f} TFLOP/s"
        found = row["seconds"][key]["pydisent"]
        host = f"{1e6 * found['host']:.0f}" if "host" in found else ""
        how = f"  {found['how']}: {found['why']}" if "why" in found else ""
        lines.append(
            f"{start} {key:7} {ours:8.1f} {others[0]:>9} {others[1]:>8} {best / ours:5.2f} "
            f"{rate:>16} {100 * done['share']:5.1f}% {host:>6}{how}"
        )
    told = "In µs; ratio: the faster of the others over ours; share: of the ceiling"
    return [*lines, f"{told}; host: of the host, in a call of ours."]


def last_pass(row: dict) -> tuple[str, dict[str, float], dict]:
    """Both passes, or the only one: its name, the contenders' microseconds, and its work."""
    key = "both" if "both" in row["seconds"] else "forward"
    times = {name: 1e6 * found["p50"] for name, found in row["seconds"][key].items()}
    return key, times, row["work"][key]


def main_cells(row: dict | None) -> list[str]:
    """Our time, the others', and the rate with its share of the ceiling."""
    if row is None:
        return ["not measured", "–", "–", "–", "–"]
    _, times, work = last_pass(row)
    rate = f"{brief(work['gb_s'])} GB/s"
    if work["bound_by"] == "operations":
        rate = f"{brief(work['tflop_s'])} TFLOP/s"
    others = [
        f"{brief(times[name])} ({times[name] / times['pydisent']:.1f}×)" if name in times else "–"
        for name in ("reference", "torch.compile")
    ]
    host = [found["pydisent"].get("host") for found in row["seconds"].values()][-1]
    share = f"{rate}, {100 * work['share']:.0f} %"
    return [brief(times["pydisent"]), *others, share, "–" if host is None else brief(1e6 * host)]


def narrow_cell(row: dict | None) -> str:
    """Our time and share."""
    if row is None:
        return "–"
    _, times, work = last_pass(row)
    return f"{brief(times['pydisent'])}, {100 * work['share']:.0f} %"


def step_cell(row: dict | None) -> str:
    """Our time and the faster of the others'."""
    if row is None:
        return "–"
    _, times, _ = last_pass(row)
    ours = times.pop("pydisent")
    return f"{brief(ours)} ({min(times.values()) / ours:.1f}×)" if times else brief(ours)


def table(result: dict) -> list[str]:
    """One row per op: the larger size in both dtypes, and a training step's size."""
    top = result["ceilings"]
    large, *small = dict.fromkeys(row["size"] for row in result["rows"])
    lines = [
        "Every op, forward and backward (forward alone if it has no backward pass), in "
        f"microseconds ({machine(result['environment'])}); brackets hold the others in units of "
        "ours, of a training step the faster one. Shares are of the least time that a copy at "
        f"{brief(top['copy_gb_s'])} GB/s and products at {brief(top['fp32_tflop_s'])} (bf16: "
        f"{brief(top['bf16_tflop_s'])}) TFLOP/s, measured in the same run, allow; a launch takes "
        f"{brief(top['launch_us'])} µs of the host. On a GPU the times are the kernels' own, "
        "replayed as a CUDA graph with the second-level cache flushed; host: what a call of ours "
        "takes of the host, whether or not the GPU hides it.",
        "",
    ]
    rows = []
    for (op,), measured in grouped(result["rows"], "op").items():
        timed = {(r["size"], r["dtype"]): r for r in measured if "seconds" in r}
        if "torchs_own" in measured[0]:
            rows.append([f"`{op}`", measured[0]["shape"], "torch's own", *["–"] * 7][: len(HEADS)])
            continue
        rows.append([
            f"`{op}`",
            measured[0]["shape"],
            *main_cells(timed.get((large, "fp32"))),
            narrow_cell(timed.get((large, "bf16"))),
            step_cell(timed.get((small[0], "fp32"))) if small else "–",
        ])  # fmt: skip
    return [*lines, *markdown(HEADS, rows, 2)]


def ops_on_gpu(result: dict) -> set[str]:
    """Ops of the registry that were timed on a GPU, adjoints included."""
    if result["device"] != "cuda":
        return set()
    return {
        row["op"] + (BACKWARD if key == "both" else "")
        for row in result["rows"]
        for key in row.get("seconds", {})
    }


def draw_roofline(result: dict, path: Path) -> None:
    """Operations per second against operations per byte, under the measured ceilings."""
    figure, (axis,) = panels(7.5, 4.6)
    top, largest = result["ceilings"], result["rows"][0]["size"]
    shown = [r for r in result["rows"] if "seconds" in r and r["size"] == largest]
    points = []
    for row in shown:
        done = last_pass(row)[2]
        points.append((done["operations"] / done["bytes"], done["tflop_s"], row))
        axis.plot(*points[-1][:2], "o", color=COLOURS[row["dtype"]], markersize=4)
    named = sorted(((x, y, r["op"]) for x, y, r in points if r["dtype"] == "fp32"))
    for place, (x, y, op) in enumerate(named):  # alternately above and below
        axis.annotate(op, (x, y), (4, -9 if place % 2 else 3), textcoords="offset points",
                      fontsize=6)  # fmt: skip
    low, high = 1e-2, 1e4
    for dtype, colour in COLOURS.items():
        speed, copy = top[f"{dtype}_tflop_s"], top["copy_gb_s"] / 1e3
        axis.plot([low, speed / copy, high], [low * copy, speed, speed], color=colour, label=dtype)
    axis.set(xlabel="operations a byte that must move", ylabel="TFLOP/s", xscale="log",
             yscale="log", xlim=(low, high))  # fmt: skip
    axis.legend(title="a copy, and products in", frameon=False, fontsize=8, title_fontsize=8)
    figure.savefig(path, dpi=150)


FIGURES = {"": draw_roofline}
