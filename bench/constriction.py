"""Speed of spatial constriction relative to eager PyTorch, torch.compile and a copy.

    python bench/constriction.py [--cases 0 1 2 3 4 5] [--seconds 3] [--device cuda]

Band masks from logits (4 rectangles), then the fold over the codes (Zhu et al. 2021, Eqs. 1-7):
forward, backward, and both, with gradients to the feature map, the logits, the scales and the
shifts. GB/s count the bytes that must move, and are compared with a plain copy of the map; peak
memory is for both passes, with each contender in a separate process. It exits with an error if a
contender fails the gate.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from _harness import (
    gate,
    gpu_peak_rise,
    measure,
    measure_passes,
    print_peak_rise,
    printed_by,
    timing_arguments,
    write_result,
)
from _tables import COMPILED, OTHERS, OURS, brief, panels, versus
from _work import work
from torch import Tensor

from pydisent.ops import band_mask, spatial_constriction
from pydisent.ops.registry import REGISTRY
from pydisent.ops.spec import BACKWARD

EPS, RECTANGLES = 1e-8, 4
CAPTIONS = {"constriction.png": "Spatial constriction against PyTorch, and against a plain copy"}
#: Accepted relative errors of a contender, in single precision or bfloat16.
BOUNDS = {"float32": 1e-5, "bfloat16": 5e-2}


@dataclass(frozen=True)
class Case:
    """A feature map (B, C, H, W) and the number of codes."""

    shape: tuple[int, int, int, int]
    codes: int
    channels_last: bool = False
    dtype: str = "float32"

    def __str__(self) -> str:
        details = [f"N = {self.codes}", *["channels-last"] * self.channels_last]
        return f"{self.shape}, {', '.join([*details, self.dtype])}"


CASES = [
    Case((16, 64, 64, 64), 1),
    Case((16, 64, 64, 64), 5),
    Case((16, 256, 16, 16), 5),
    Case((16, 64, 64, 64), 1, channels_last=True),
    Case((16, 64, 64, 64), 5, channels_last=True),
    Case((16, 64, 64, 64), 5, dtype="bfloat16"),
]


def eager_gate(rise: Tensor, fall: Tensor) -> Tensor:
    rise, fall = rise.softmax(-1).cumsum(-1), fall.softmax(-1).cumsum(-1)
    return rise * (1 - fall)


def eager(x, rise_h, fall_h, rise_w, fall_w, scales, shifts):
    """The module's equations as one would write them, with autograd."""
    rows, columns = eager_gate(rise_h, fall_h), eager_gate(rise_w, fall_w)
    masks = torch.einsum("bnjh,bnjw->bnhw", rows, columns) / rows.shape[2]
    mean = x.mean((2, 3), keepdim=True)
    variance = x.var((2, 3), keepdim=True, correction=0)
    normalized = (x - mean) * torch.rsqrt(variance + EPS)
    for n in range(masks.shape[1]):
        styled = scales[:, n, :, None, None] * normalized + shifts[:, n, :, None, None]
        x = x * (1 - masks[:, n, None]) + styled * masks[:, n, None]
    return x


def ours(x, rise_h, fall_h, rise_w, fall_w, scales, shifts):
    impl = "triton" if x.is_cuda else "native"
    masks = band_mask(rise_h, fall_h, rise_w, fall_w, impl=impl)
    return spatial_constriction(x, masks, scales, shifts, EPS, impl=impl)


def contenders() -> dict:
    return {"eager": eager, "torch.compile": torch.compile(eager), "pydisent": ours}


def problem(
    case: Case, dtype: torch.dtype | None = None, device: str = "cpu"
) -> tuple[list[Tensor], Tensor]:
    """The inputs and the cotangent of the result."""
    torch.manual_seed(0)
    (batch, channels, height, width), codes = case.shape, case.codes
    shapes = [case.shape]
    shapes += [(batch, codes, RECTANGLES, length) for length in (height, height, width, width)]
    shapes += [(batch, codes, channels)] * 2
    inputs = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    cotangent = torch.randn(case.shape, dtype=torch.float64)
    layout = torch.channels_last if case.channels_last else torch.contiguous_format
    inputs[0], cotangent = (t.to(memory_format=layout) for t in (inputs[0], cotangent))
    stored = getattr(torch, case.dtype)
    # Rounded first, so that float64 computes on the same numbers as the others.
    inputs, cotangent = [t.to(stored) for t in inputs], cotangent.to(stored)
    wanted = dtype or stored
    return [t.to(device, wanted).requires_grad_() for t in inputs], cotangent.to(device, wanted)


def both(function, inputs: list[Tensor], cotangent: Tensor) -> tuple[Tensor, ...]:
    out = function(*inputs)
    return out.detach(), *torch.autograd.grad(out, inputs, cotangent)


def traffic(case: Case, inputs: list[Tensor]) -> dict[str, int]:
    """Bytes that must move in each pass, according to the op's spec."""
    x, styles = inputs[0].detach(), inputs[-2:]
    masks = x.new_empty(case.shape[0], case.codes, *case.shape[2:])
    args = x, masks, *styles, EPS
    forward, full = (work("spatial_constriction", args, both)[0] for both in (False, True))
    return {"forward": forward, "backward": full - forward, "full": full}


def copy_rate(x: Tensor, limit: float) -> float:
    """GB/s, read and written, of a copy of the map to allocated memory."""
    source = x.detach()
    target = torch.empty_like(source)
    t = measure({"copy": target.copy_}, {"copy": lambda: source}, limit / 3, x.device.type)["copy"]
    return 2 * source.nbytes / t["p50"] / 1e9


def peak(name: str, index: int, args: argparse.Namespace) -> float:
    """Peak MiB of both passes above what the process held before."""
    if args.device == "cuda":
        function, (inputs, cotangent) = contenders()[name], problem(CASES[index], None, "cuda")
        both(function, inputs, cotangent)
        return gpu_peak_rise(lambda: both(function, inputs, cotangent))
    return printed_by(__file__, "--peak", name, "--cases", index, "--threads", args.threads)


def answer(index: int, args: argparse.Namespace) -> dict | None:
    """Gate, times, rates and peaks of one case; None if the gate is red."""
    case = CASES[index]
    print(case)
    torch.compiler.reset()  # else the second shape would be compiled as dynamic
    functions, (inputs, cotangent) = contenders(), problem(case, None, args.device)
    exact = both(eager, *problem(case, torch.float64, args.device))
    runs = {name: lambda f=f: both(f, inputs, cotangent) for name, f in functions.items()}
    report = gate(runs, exact, BOUNDS[case.dtype])
    if not all(entry["passes"] for entry in report.values()):
        return None
    seconds = measure_passes(
        functions,
        lambda function: function(*inputs),
        lambda out: torch.autograd.grad(out, inputs, cotangent),
        args.seconds,
        args.device,
    )
    moved = traffic(case, inputs)
    rates = {name: moved[name] / t["pydisent"]["p50"] / 1e9 for name, t in seconds.items()}
    rates["copy"] = copy_rate(inputs[0], args.seconds)
    print("GB/s:", *(f"{name} {rate:.1f} " for name, rate in rates.items()))
    peaks = {name: peak(name, index, args) for name in functions}
    print("peak MiB:", *(f"{name} {mib:.0f} " for name, mib in peaks.items()))
    about = {"name": str(case), **asdict(case), "gate": report, "seconds": seconds}
    return {**about, "bytes": moved, "gb_per_s": rates, "peak_mib": peaks}


def table(result: dict) -> list[str]:
    lines = [
        "`spatial_constriction` with `band_mask`, forward and backward, against the same equations "
        "in PyTorch (B, C, H, W; N codes); GB/s are of the bytes that must move:",
        "",
    ]
    for case in result["cases"]:
        rates, memory = case["gb_per_s"], case["peak_mib"]
        peaks = ", ".join(f"{name} {brief(mib)}" for name, mib in memory.items())
        lines.append(
            f"- {case['name']}: {versus(case['seconds']['full'], 1e3, 'ms')}; "
            f"{rates['full']:.1f} GB/s (a plain copy {rates['copy']:.1f}); peak MiB: {peaks}."
        )
    return [*lines, ""]


def ops_on_gpu(result: dict) -> set[str]:
    """Registry ops measured here, including adjoints."""
    called = {f.__name__ for f in (band_mask, spatial_constriction)}
    return {name for name in REGISTRY if name.removesuffix(BACKWARD) in called}


def draw(result: dict, path: Path) -> None:
    """Times of both passes in units of ours, and memory traffic next to a copy's."""
    cases = result["cases"]
    height = 1.1 + 0.75 * len(cases)
    figure, (times, rates) = panels(9, height, 2, sharey=True, width_ratios=(3, 2))
    looks = {"eager": OTHERS, "torch.compile": COMPILED, "pydisent": OURS}
    for row, case in enumerate(cases):
        full = case["seconds"]["full"]
        for i, (name, colour) in enumerate(looks.items()):
            ratio = full[name]["p50"] / full["pydisent"]["p50"]
            where = row + 0.26 * (i - 1)
            times.barh(where, ratio, 0.24, color=colour, label=None if row else name)
            text = f"{ratio:.1f}× ({brief(1e3 * full[name]['p50'])} ms)"
            times.annotate(text, (ratio, where), (3, 0), textcoords="offset points",
                           va="center", fontsize=7)  # fmt: skip
        for i, (name, key, colour) in enumerate(
            (("pydisent, both passes", "full", OURS), ("a plain copy", "copy", OTHERS))
        ):
            where, rate = row + 0.3 * (i - 0.5), case["gb_per_s"][key]
            rates.barh(where, rate, 0.28, color=colour, label=None if row else name)
            rates.annotate(f"{rate:.1f}", (rate, where), (3, 0), textcoords="offset points",
                           va="center", fontsize=7)  # fmt: skip
    times.set_yticks(range(len(cases)), [case["name"] for case in cases], fontsize=8)
    times.invert_yaxis()
    times.set_xlabel("forward and backward, in units of pydisent's time")
    rates.set_xlabel("GB/s")
    for axis in (times, rates):
        axis.margins(x=0.25)
        axis.set_xlim(left=0)
        axis.legend(frameon=False, fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    figure.savefig(path, dpi=150)


FIGURES = {"": draw}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cases", type=int, nargs="+", choices=range(len(CASES)), default=range(len(CASES)),
        help="; ".join(f"{i}: {case}" for i, case in enumerate(CASES)),
    )  # fmt: skip
    timing_arguments(parser)
    parser.add_argument("--peak", choices=tuple(contenders()), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.peak:
        function, (inputs, cotangent) = contenders()[args.peak], problem(CASES[args.cases[0]])
        print_peak_rise(lambda: both(function, inputs, cotangent))
        return 0
    cases = [answer(index, args) for index in args.cases]
    if any(case is None for case in cases):
        print("a gate is red: nothing is written", file=sys.stderr)
        return 1
    settings = {"rectangles": RECTANGLES, "eps": EPS}
    print("wrote", write_result("constriction", {**settings, "cases": cases}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
