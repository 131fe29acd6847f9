"""What the GPU achieves: a copy, matrix products, and the library calls of the penalty's step.

    python bench/_probes.py ceilings|probes [--device cuda] [--limit 45] [--results FOLDER]

``ceilings``: GB/s of a copy, TFLOP/s of products, launch time. ``probes``, each with its floor
under these ceilings: the generator's transposed convolutions with the rows of a pass along all m
axes and along r directions (cuDNN, by dtype and layout); the Gram matrices J'J of its columns;
eigenvectors of (B, m, m) against steps of block power iteration. What cannot run is reported in its
row.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from _gpu import first_line, measure_kernels
from _harness import TABLE, environment, load_result, parsed, stage_arguments, write_result
from _work import floor
from torch import Tensor

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
SEARCHED = "channels-last, searched"  # cuDNN benchmarks its algorithms instead of guessing
LAYOUTS = {
    "channels-last": torch.channels_last,
    "contiguous": torch.contiguous_format,
    SEARCHED: torch.channels_last,
}


class Sizes(NamedTuple):
    """Sizes of the penalty's step: batch, latent size, feature maps, directions, image pixels."""

    batch: int = 32
    latent: int = 128
    widths: tuple[int, ...] = (512, 256, 128, 64, 3)
    rank: int = 32
    pixels: int = 64


TINY = Sizes(2, 8, (4, 3), 2, 8)


class Probe(NamedTuple):
    """A torch call, with its minimum of bytes and operations."""

    name: str
    case: str
    dtype: str
    make: Callable[[], Callable[[], Any]]
    bytes: int
    flops: int


def allow_tf32(allowed: bool) -> None:
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def ceilings(device: str, seconds: float, tiny: bool) -> dict[str, float]:
    """GB/s of a copy, read and written; TFLOP/s of products; µs per launch, also in a graph."""

    def median(run: Callable[[], Any]) -> float:
        return measure_kernels({"it": run}, device, seconds)["it"]["p50"]

    size, side = (2**31, 8192) if device == "cuda" else (2**26, 1024)
    if tiny:
        size, side = 2**20, 64
    pair = [torch.randn(size // 4, device=device) for _ in range(2)]
    found = {"copy_gb_s": 2 * size / median(lambda: pair[0].copy_(pair[1])) / 1e9}
    pair.clear()
    for name, dtype in DTYPES.items():
        allow_tf32(name == "tf32")
        factors = [torch.randn(side, side, device=device).to(dtype) for _ in range(2)]
        taken = median(lambda: torch.mm(*factors))  # noqa: B023
        found[f"{name}_tflop_s"] = 2 * side**3 / taken / 1e12
    allow_tf32(False)
    one = torch.ones(1, device=device)
    told = measure_kernels({"it": lambda: one.add_(1)}, device, seconds, flush=False)["it"]
    found |= {"launch_us": 1e6 * told["host"], "graph_us": 1e6 * told["p50"]}
    print("ceilings:", ", ".join(f"{name} {value:.4g}" for name, value in found.items()))
    return found


def convolutions(at: Sizes, device: str) -> Iterator[Probe]:
    """Layers by rows: all axes forward; r directions, forward and backward to both arguments."""
    sides = [at.pixels // 2 ** (len(at.widths) - 1 - i) for i in range(len(at.widths) - 1)]
    layers = list(zip(at.widths, at.widths[1:], sides))
    kinds = [("bf16", "channels-last"), ("fp32", "channels-last"), ("tf32", "channels-last"),
             ("bf16", "contiguous"), ("fp32", "contiguous"), ("bf16", SEARCHED)]  # fmt: skip
    axes, few = at.latent * at.batch, at.rank * at.batch
    padded = (layers[-1][0], 16, layers[-1][2])
    for dtype, layout in kinds:
        for layer in [*layers, padded]:
            yield _convolution(dtype, layout, layer, axes, False, device)
    for dtype, layout in kinds[:2]:
        for layer in layers:
            yield _convolution(dtype, layout, layer, few, True, device)
    yield _phases(layers[-1], axes, device)


def _convolution(
    dtype: str, layout: str, layer: tuple, rows: int, both: bool, device: str
) -> Probe:
    narrow, wide, side = layer
    kind = DTYPES[dtype]

    def make() -> Callable[[], Any]:
        x = torch.randn(rows, narrow, side, side, device=device, dtype=kind)
        w = torch.randn(narrow, wide, 4, 4, device=device, dtype=kind)
        x, w = (t.to(memory_format=LAYOUTS[layout]).requires_grad_(both) for t in (x, w))
        if not both:
            return lambda: F.conv_transpose2d(x, w, stride=2, padding=1)
        along = torch.randn_like(F.conv_transpose2d(x, w, stride=2, padding=1))
        return lambda: torch.autograd.grad(
            F.conv_transpose2d(x, w, stride=2, padding=1), (x, w), along
        )

    passes = 3 if both else 1
    moved = rows * side**2 * (narrow + 4 * wide) + 16 * narrow * wide
    case = f"{narrow}→{wide}, {side}→{2 * side} px, {rows} rows, {layout}"
    name = "transposed convolution" + (", forward and backward" if both else "")
    flops = 2 * passes * rows * side**2 * narrow * wide * 16
    return Probe(name, case, dtype, make, passes * moved * kind.itemsize, flops)


def _phases(layer: tuple, rows: int, device: str) -> Probe:
    """The four phases of the last layer as channels of one 3×3 convolution, 12 padded to 16."""
    narrow, wide, side = layer

    def make() -> Callable[[], Tensor]:
        x = torch.randn(rows, narrow, side, side, device=device, dtype=torch.bfloat16)
        w = torch.randn(16, narrow, 3, 3, device=device, dtype=torch.bfloat16)
        x, w = (t.to(memory_format=torch.channels_last) for t in (x, w))
        return lambda: F.pixel_shuffle(F.conv2d(x, w, padding=1)[:, : 4 * wide], 2)

    case = f"{narrow}→{wide}, {side}→{2 * side} px, {rows} rows, channels-last"
    flops = 2 * rows * side**2 * narrow * wide * 16
    moved = 2 * rows * side**2 * (narrow + 4 * wide)
    return Probe("phases as one 3×3 convolution", case, "bf16", make, moved, flops)


def grams(at: Sizes, device: str) -> Iterator[Probe]:
    """J'J per sample, from columns in bf16, in three ways, and in fp32."""
    batch, m, out = at.batch, at.latent, at.widths[-1] * at.pixels**2

    def made(dtype: torch.dtype, product: Callable[[Tensor], Tensor]) -> Callable:
        def make() -> Callable[[], Tensor]:
            columns = torch.randn(batch, m, out, device=device, dtype=dtype)
            return lambda: product(columns)

        return make

    ways: dict[tuple[str, str], Callable[[Tensor], Tensor]] = {
        ("bf16", "into bf16"): lambda c: c @ c.mT,
        ("bf16", "into fp32"): lambda c: torch.bmm(c, c.mT, out_dtype=torch.float32),
        ("bf16", "widened to fp32 first"): lambda c: c.float() @ c.float().mT,
        ("fp32", "into fp32"): lambda c: c @ c.mT,
        ("tf32", "into fp32"): lambda c: c @ c.mT,
    }
    for (dtype, case), product in ways.items():
        kind = DTYPES[dtype]
        moved, flops = batch * m * out * kind.itemsize, 2 * batch * m * m * out
        where = f"{batch} × ({m}, {out}), {case}"
        yield Probe("Gram", where, dtype, made(kind, product), moved, flops)


def eigen(at: Sizes, device: str) -> Iterator[Probe]:
    """The leading r directions of (B, m, m): eigh, and two block power steps in two ways."""
    batch, m, r = at.batch, at.latent, at.rank

    def made(solve: Callable[[Tensor, Tensor], Any]) -> Callable:
        def make() -> Callable[[], Any]:
            root = torch.randn(batch, m, m, device=device)
            start = torch.randn(batch, m, r, device=device)
            square = root @ root.mT / m
            return lambda: solve(square, start)

        return make

    def cholesky(square: Tensor, start: Tensor) -> Tensor:
        for _ in range(2):
            image = square @ start
            factor, _ = torch.linalg.cholesky_ex(image.mT @ image)
            start = torch.linalg.solve_triangular(factor, image.mT, upper=False).mT
        return start

    def householder(square: Tensor, start: Tensor) -> Tensor:
        for _ in range(2):
            start, _ = torch.linalg.qr(square @ start)
        return start

    moved, step = 4 * batch * m * (m + 2 * r), batch * (2 * m * m * r + 3 * m * r * r)
    where = f"{batch} × ({m}, {m})"
    yield Probe(f"{r} directions", f"{where}, two block power steps, Householder", "fp32",
                made(householder), moved, 2 * step)  # fmt: skip
    # About 4/3 m³ for the tridiagonal form, and twice as much again for all vectors.
    whole = made(lambda square, _: torch.linalg.eigh(square))
    both = 8 * batch * m * m
    yield Probe("all eigenvectors", f"{where}, eigh", "fp32", whole, both, 4 * batch * m**3)
    # Last, as a failed capture may leave the process in an undefined state.
    yield Probe(f"{r} directions", f"{where}, two block power steps, Cholesky", "fp32",
                made(cholesky), moved, 2 * step)  # fmt: skip


def row(probe: Probe, top: dict[str, float], device: str, seconds: float) -> dict[str, Any]:
    least, bound = floor(probe.bytes, probe.flops, top, probe.dtype)
    about = {"name": probe.name, "case": probe.case, "dtype": probe.dtype, "bytes": probe.bytes,
             "flops": probe.flops, "floor": least, "bound_by": bound}  # fmt: skip
    allow_tf32(probe.dtype == "tf32")
    torch.backends.cudnn.benchmark = SEARCHED in probe.case
    try:
        return about | measure_kernels({"it": probe.make()}, device, seconds)["it"]
    except Exception as error:  # missing in this version, or out of memory: fails only this row
        return about | {"failed": f"{type(error).__name__}: {first_line(error)}"}
    finally:
        allow_tf32(False)


def line(row: dict[str, Any]) -> str:
    start = f"{row['name']:42} {row['case']:52} {row['dtype']}"
    if "failed" in row:
        return f"{start}  {row['failed'][:80]}"
    return (
        f"{start} {1e3 * row['p50']:9.3f} ms  {row['p50'] / row['floor']:6.2f} x its floor "
        f"({row['bound_by']}), {row['how']}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("ceilings", "probes"))
    stage_arguments(parser, 0.05)
    options, about = parsed(parser, argv), environment()
    tiny = options.size == "tiny"
    if options.what == "ceilings":
        top = ceilings(options.device, options.seconds, tiny)
        print("wrote", write_result("gpu_ceilings", {"ceilings": top}, about, options.results))
        return 0
    top = load_result("gpu_ceilings", about, options.results)["ceilings"]
    at = TINY if tiny else Sizes()
    probes = [p for make in (convolutions, grams, eigen) for p in make(at, options.device)]
    rows: list[dict[str, Any]] = []
    for probe in probes:
        if not options.is_late():
            rows.append(row(probe, top, options.device, options.seconds))
            print(line(rows[-1]), flush=True)
    left = len(probes) - len(rows)
    result = {"ceilings": top, "rows": rows, "left_out": left}
    print("wrote", write_result("gpu_probes", result, about, options.results))
    print(
        TABLE, *map(line, rows), f"{left} probes left out: the time was up" * bool(left), sep="\n"
    )
    return 0 if any("p50" in found for found in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
