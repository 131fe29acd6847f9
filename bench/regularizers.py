"""What does a regularizer of the Jacobian cost per generator update? Time, memory and errors.

Each regularizer with its gradient, on the spectral GAN paper's DCGAN (base 64, 64×64×3), in
float32, against the public way of computing it, in plain PyTorch (``_regularizer_ways.py``): with
the same generator, codes and random directions, in turns in one run. Times are also given in plain
updates: generator, discriminator, backward and RMSProp, without a regularizer. Hessian penalties
use softplus in place of the generator's leaky activations, which have no curvature.

Value and gradient are first checked against float64: a way that should be exact but is not gets no
time. Finite differences are biased by their step; they are validated in float64 with a small step,
which must come close. Their errors in the value, the gradient and the derivatives along the
directions are those of the published step, and part of the answer.

Run ``python bench/regularizers.py``; results go to ``bench/results/<machine>/regularizers.json``.
The whole takes a few minutes on two cores, ``--quick`` one: m = 10, and no other objectives.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _harness import (
    RESULTS,
    environment,
    gpu_peak_rise,
    peak_rise,
    percentiles,
    printed_by,
    relative_error,
    write_result,
)
from _regularizer_ways import (
    ESTIMATES,
    EXACT,
    FUNC,
    IN_TURN,
    ORTHOGONAL,
    OURS,
    PUBLISHED,
    REGULARIZERS,
    Given,
    Regularizer,
)
from _tables import machine, markdown
from torch import Tensor, nn

from pydisent.nn import DCGANDiscriminator, DCGANGenerator
from pydisent.nn.activation import TranslatedPReLU

BASE, SIZE, BATCH = 64, 64, 8
SIZES = (10, 32, 128)
#: Accepted relative errors of value and gradient, for exact ways and for small differences. Within
#: rounding of a leaky activation's kink, float32 may be on its other side.
GATE, SMALL_GATE = 5e-3, 1e-2
SMALLEST = {"base": 2, "size": 16, "batch": 2}  # for a smoke test


def setting(
    m: int,
    smooth: bool,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    base: int = BASE,
    size: int = SIZE,
    batch: int = BATCH,
) -> tuple[nn.Module, Tensor, Given]:
    """The generator, codes and random draws, with the same numbers in every dtype and process."""
    torch.manual_seed(0)
    generator = DCGANGenerator(m, 3, base, size)
    z, given = torch.randn(batch, m), Given.drawn(batch, m, generator.image_shape)
    if smooth:
        for parent in list(generator.modules()):
            for name, child in parent.named_children():
                if isinstance(child, TranslatedPReLU):
                    setattr(parent, name, nn.Softplus())
    return generator.to(device, dtype), z.to(device, dtype), given.to(device, dtype)


def evaluated(way: Callable, generator: nn.Module, z: Tensor, given: Given) -> list[Tensor]:
    """The value, and the gradient of all weights as one vector."""
    generator.zero_grad(set_to_none=True)
    value = way(generator, z, given)
    value.backward()
    grads = [p.grad.flatten() for p in generator.parameters() if p.grad is not None]
    return [value.detach()[None], torch.cat(grads)]


def plain_update(m: int, smooth: bool, device: str, **sizes: int) -> Callable[[], None]:
    """One RMSProp update of the generator without a regularizer."""
    generator, z, _ = setting(m, smooth, device=device, **sizes)
    discriminator = DCGANDiscriminator(3, sizes.get("base", BASE), sizes.get("size", SIZE))
    discriminator.to(device).requires_grad_(False)
    optimizer = torch.optim.RMSprop(generator.parameters(), lr=1e-4, alpha=0.9, eps=1e-6)

    def update() -> None:
        optimizer.zero_grad()
        F.softplus(-discriminator(generator(z))).mean().backward()
        optimizer.step()

    return update


def errors(regularizer: Regularizer, m: int, device: str, **sizes: int) -> dict[str, dict]:
    """Errors of each way in float32, and whether it passes its gate."""
    wide = setting(m, regularizer.smooth, torch.float64, device, **sizes)
    narrow = setting(m, regularizer.smooth, device=device, **sizes)
    exact = evaluated(regularizer.reference, *wide)
    found: dict[str, dict[str, Any]] = {}
    for name, way in regularizer.ways.items():
        value, gradient = (
            relative_error([got], [true])
            for got, true in zip(evaluated(way, *narrow), exact, strict=True)
        )
        found[name] = {"value_error": value, "gradient_error": gradient, "gate": GATE}
        found[name]["passes"] = bool(max(value, gradient) <= GATE)
    if regularizer.small is not None:
        small = relative_error(evaluated(regularizer.small, *wide), exact)
        found[PUBLISHED] |= {"gate": SMALL_GATE, "small_step_error": small}
        found[PUBLISHED]["passes"] = bool(small <= SMALL_GATE)
    for name, along in (regularizer.directional or {}).items():
        found[name]["directional_error"] = _directional(regularizer, along, wide, narrow)
    return found


def _directional(regularizer: Regularizer, along: Callable, wide: tuple, narrow: tuple) -> float:
    """Relative error of the derivatives along the given directions."""
    by_func = (regularizer.directional or {})[FUNC]
    with torch.no_grad():
        exact, got = (
            f(generator, z, given.signs)
            for f, (generator, z, given) in ((by_func, wide), (along, narrow))
        )
    return relative_error([got], [exact])


def in_turns(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, in turns, after one warm-up call."""
    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            wait()
            start = time.perf_counter()
            call()
            wait()
            if turn:
                times[name].append(time.perf_counter() - start)
    return times


def measured(name: str, m: int, rounds: int, device: str, ways: set[str], **sizes: int) -> dict:
    """A regularizer at one latent size: errors, times and memory of its ways."""
    whole = REGULARIZERS[name]
    chosen = {key: way for key, way in whole.ways.items() if key in ways}
    regularizer = Regularizer(chosen, whole.reference, whole.small, whole.directional, whole.smooth)
    rows = errors(regularizer, m, device, **sizes)
    parts = setting(m, whole.smooth, device=device, **sizes)
    calls: dict[str, Callable[[], object]] = {
        key: lambda way=way: evaluated(way, *parts)
        for key, way in chosen.items()
        if rows[key]["passes"]
    }
    plain = plain_update(m, whole.smooth, device, **sizes)
    times = in_turns({"plain": plain, **calls}, rounds)
    update = percentiles(times.pop("plain"))
    baseline = next(iter(chosen))
    for key, seconds in times.items():
        rows[key] |= percentiles(seconds) | {"peak_mib": peak(name, m, key, device, **sizes)}
        rows[key]["updates"] = rows[key]["p50"] / update["p50"]
        if baseline in times:
            # Round by round, so that disturbances affect both contenders.
            ratios = [a / b for a, b in zip(seconds, times[baseline], strict=True)]
            rows[key]["ratio"] = statistics.median(ratios)
    return {"m": m, "batch": len(parts[1]), "plain_update": update, "ways": rows}


def peak(name: str, m: int, way: str, device: str, **sizes: int) -> float:
    """Peak MiB above what the process held before, in a fresh process."""
    own = [f"--{key}={value}" for key, value in sizes.items()]
    return printed_by(__file__, "--peak", name, "--way", way, "--m", m, "--device", device, *own)


def _peak_here(options: argparse.Namespace) -> None:
    regularizer = REGULARIZERS[options.peak]
    parts = setting(options.m[0], regularizer.smooth, device=options.device, **options.sizes)
    # Load libraries, and allocate the model's own memory.
    evaluated(regularizer.ways[options.way], *setting(2, regularizer.smooth, device=options.device,
                                                      **SMALLEST))  # fmt: skip
    parts[0](parts[1]).sum().backward()
    rise = gpu_peak_rise if options.device == "cuda" else peak_rise
    print(rise(lambda: evaluated(regularizer.ways[options.way], *parts)))


def cases(options: argparse.Namespace) -> list[tuple[str, int, int, set[str]]]:
    """(regularizer, m, rounds, ways): estimators and the exact one at all sizes, others at one.

    One column at a time is by far the slowest: it is timed only at the smallest size.
    """
    first, rounds = options.m[0], options.rounds
    all_ways, fast = {PUBLISHED, FUNC, IN_TURN, OURS}, {PUBLISHED, FUNC, OURS}
    found = [
        (name, m, rounds, all_ways)
        for name in ESTIMATES
        for m in dict.fromkeys((first, options.m[-1]))
    ]
    for m in options.m:
        few = max(2, round(rounds * first / m))
        found.append((ORTHOGONAL, m, few, all_ways if m == first else fast))
    if not options.quick:
        few = max(2, rounds // 2)
        found += [(name, first, few, fast) for name in EXACT if name != ORTHOGONAL]
    return found


def table(result: dict) -> list[str]:
    rows = []
    for name, by_size in result["regularizers"].items():
        for case in by_size:
            for way, row in case["ways"].items():
                rows.append([name, str(case["m"]), _named(way, name), *_cells(row)])
    heads = ("regularizer", "m", "way", "plain updates", "of the first way's time", "peak memory",
             "value error", "gradient error")  # fmt: skip
    return [
        "Regularizers of the Jacobian with their gradients, each against the public way of "
        f"computing it in the same run ({machine(result['environment'])}; DCGAN of base "
        f"{result['base']}, {result['size']}×{result['size']}×3, batch {result['batch']}, float32; "
        "errors are relative to float64, peak memory is above what the process held before):",
        "",
        *markdown(heads, rows, left=3),
        *[f"- {line}" for line in _told(result)],
        "",
    ]


def _named(way: str, regularizer: str) -> str:
    if way == OURS:
        return "**pydisent**"
    if way == PUBLISHED:
        return "`autograd.grad`" if regularizer == "path length" else "finite differences"
    return f"`torch.func`{way.removeprefix(FUNC)}"


def _cells(row: dict) -> list[str]:
    found = [f"{row['value_error']:.0e}", f"{row['gradient_error']:.0e}"]
    if "p50" not in row:
        return ["not timed: fails its gate", "", "", *found]
    ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
    return [f"{row['updates']:.1f}", ratio, f"{row['peak_mib']:.0f} MiB", *found]


def _told(result: dict) -> list[str]:
    """The lines under the table: accuracy along directions, and the exact one's cost."""
    found = result["regularizers"]
    lines = []
    for name, by_size in found.items():
        ways = by_size[0]["ways"]
        if "directional_error" in ways.get(OURS, {}):
            ours, theirs = (ways[key]["directional_error"] for key in (OURS, PUBLISHED))
            lines.append(
                f"{name}: derivatives along the directions are off by {theirs:.0e} by finite "
                f"differences, by {ours:.0e} by pydisent ({theirs / ours:.0e} times less)."
            )
    estimate = found["orthogonal Jacobian, 2 directions"][0]["ways"][OURS]
    exact = found[ORTHOGONAL][0]
    own = exact["ways"][OURS]
    if "updates" in own and "updates" in estimate:
        lines.append(
            f"The exact orthogonal Jacobian takes {own['updates'] / estimate['updates']:.1f} times "
            f"its estimator's time at m = {exact['m']}, without its noise."
        )
    lines.append(
        "Given G(z) of the same update, the published finite differences save one of their passes."
    )
    return lines


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--m", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5, help="for estimators; fewer for others")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="m = 10, and no other objectives")
    parser.add_argument("--smallest", action="store_true", help="only check that everything runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for results")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    for name in SMALLEST:
        parser.add_argument(f"--{name}", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.m = options.m[:1] if options.quick else options.m
    own = {key: getattr(options, key) for key in SMALLEST if getattr(options, key) is not None}
    options.sizes = SMALLEST if options.smallest else own
    return options


def main() -> int:
    options = arguments()
    torch.set_flush_denormal(True)
    torch.backends.cudnn.allow_tf32 = False
    if options.peak:
        _peak_here(options)
        return 0
    begin, red = time.perf_counter(), []
    sizes = {"base": BASE, "size": SIZE, "batch": BATCH} | options.sizes
    result: dict[str, Any] = {**sizes, "regularizers": {}}
    for name, m, rounds, ways in cases(options):
        case = measured(name, m, rounds, options.device, ways, **options.sizes)
        result["regularizers"].setdefault(name, []).append(case)
        red += [f"{name}, m = {m}, {way}" for way, row in case["ways"].items() if not row["passes"]]
        print(f"[{time.perf_counter() - begin:3.0f} s] {name}, m = {m}", flush=True)
        for way, row in case["ways"].items():
            print(f"    {way:26} {'  '.join(_cells(row))}", flush=True)
    if red:
        print("RED:", "; ".join(red), file=sys.stderr)
    about = environment()
    print(write_result("regularizers", result, about, options.results))
    print(*table(result | {"environment": about}), sep="\n")
    return int(bool(red))


if __name__ == "__main__":
    sys.exit(main())
