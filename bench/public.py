"""The alignment penalty against the plain way on other projects' generators.

Public generators as their authors wrote them, at tiny size, so that call overhead dominates:
k = T = 2, batch 2, float32, one thread, in evaluation mode. Penalty and gradient, against the
paper's Listing 1, which tiles the batch k times. Gradients are first checked against the unrolled
algorithm in float64 (float32 where a generator computes in nothing else).

The repositories are not part of this one. Clone them into a folder, and pass it::

    python bench/public.py --clone checkouts     # prints the commands
    python bench/public.py checkouts

Results go to ``bench/results/<machine>/public.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _baselines import listing_1
from _baselines import ours as pydisent_penalty
from _checkouts import COMMITS
from _harness import environment, measure, write_result
from _public_generators import GENERATORS, Public
from torch import Tensor, nn

from pydisent.jacobian.decompositions import DecomposedFunctions

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "jacobian"))
from _oracle import random_signs, unrolled

K = ITERATIONS = BATCH = 2
GATE = 1e-3
CONTENDERS: dict[str, Callable[..., Tensor]] = {
    "pydisent": partial(pydisent_penalty, tolerance=1e-3),
    "listing_1": listing_1,
}


class Problem:
    """A generator in one dtype, its codes and its probing signs."""

    def __init__(self, public: Public, checkouts: Path, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        with contextlib.redirect_stdout(io.StringIO()):
            self.network: nn.Module = public.make(public.checkout(checkouts))
        self.network.to(dtype).eval()
        self.fn = public.function(self.network)
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        generator = torch.Generator().manual_seed(1)
        z = torch.randn(BATCH, public.size, generator=generator, dtype=torch.float64)
        self.z, self.probe = z.to(dtype), random_signs(z, K).to(dtype)

    def gradient(self, penalty: Callable[..., Tensor]) -> list[Tensor]:
        """The penalty's gradient for all parameters, with the same random numbers."""
        torch.manual_seed(2)
        value = penalty(self.fn, self.z, self.probe, ITERATIONS)
        return list(torch.autograd.grad(value, self.parameters, materialize_grads=True))

    def exact(self) -> list[Tensor]:
        """The gradient of the unrolled algorithm, by correct derivatives."""
        torch.manual_seed(2)
        with DecomposedFunctions():
            return unrolled(
                self.fn, self.parameters, self.z, iterations=ITERATIONS, probe=self.probe
            ).parameters


def error(got: list[Tensor], exact: list[Tensor]) -> float:
    """Relative error in norm, over all parameters together."""
    flat = [torch.cat([t.detach().double().flatten() for t in side]) for side in (got, exact)]
    return ((flat[0] - flat[1]).norm() / flat[1].norm()).item()


def row_of(public: Public, checkouts: Path, seconds: float) -> dict[str, Any]:
    wide = Problem(public, checkouts, torch.float64 if public.double else torch.float32)
    exact = wide.exact()
    problem = Problem(public, checkouts, torch.float32)
    row: dict[str, Any] = {"repository": public.repository}
    for name, penalty in CONTENDERS.items():
        row[name] = {"gradient_error": error(problem.gradient(penalty), exact)}
    passing = [name for name in CONTENDERS if row[name]["gradient_error"] <= GATE]
    if passing == list(CONTENDERS):
        runs = {n: lambda _, p=p: problem.gradient(p) for n, p in CONTENDERS.items()}
        times = measure(runs, dict.fromkeys(runs, lambda: None), seconds)
        for name, found in times.items():
            row[name] |= found
        row["ratio"] = times["listing_1"]["p50"] / times["pydisent"]["p50"]
    return row


def table(result: dict[str, Any]) -> list[str]:
    rows = result["generators"]
    ratios = {name: row["ratio"] for name, row in rows.items() if "ratio" in row}
    slower = sorted((ratio, name) for name, ratio in ratios.items() if ratio < 1)
    ordered = sorted(ratios.values())
    off = sum(row["listing_1"]["gradient_error"] > GATE for row in rows.values())
    named = ", ".join(f"{name} {ratio:.2f}×" for ratio, name in slower)
    return [
        f"On {len(rows)} generators of {len(result['commits'])} public repositories, as their "
        f"authors wrote them but at tiny size (k = T = {K}, {BATCH} codes, one thread, float32), "
        f"penalty and gradient run at {ordered[0]:.2f}× to {ordered[-1]:.2f}× Listing 1's speed, "
        f"{statistics.median(ordered):.2f}× in the median"
        + (f"; in {off} Listing 1's gradient is off by more than {GATE:.0e}" if off else "")
        + (f". Slower in {len(slower)}: {named}." if slower else "; never slower."),
        "",
    ]


def clone_commands(folder: Path) -> list[str]:
    lines = []
    for repository, commit in COMMITS.items():
        target = folder / repository.split("/")[1]
        lines.append(f"git clone https://github.com/{repository} {target}")
        lines.append(f"git -C {target} checkout -q {commit}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", type=Path, help="folder of the clones")
    parser.add_argument("names", nargs="*", help="generators; by default all")
    parser.add_argument("--clone", action="store_true", help="print the commands that clone")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each contender")
    options = parser.parse_args()
    if options.clone:
        print("\n".join(clone_commands(options.checkouts)))
        return 0
    used = {GENERATORS[name].checkout(options.checkouts) for name in options.names or GENERATORS}
    if missing := sorted(str(folder) for folder in used if not folder.is_dir()):
        parser.error(f"checkouts must contain {', '.join(missing)}; --clone prints the commands")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = {}
    for name in options.names or GENERATORS:
        rows[name] = row = row_of(GENERATORS[name], options.checkouts, options.seconds)
        errors = ", ".join(f"{row[c]['gradient_error']:.1e}" for c in CONTENDERS)
        print(f"{name:36} x{row.get('ratio', 0):.2f}   errors {errors}", flush=True)
    if not options.names:
        print(write_result("public", {"commits": COMMITS, "generators": rows}, environment()))
    return int(any(row["pydisent"]["gradient_error"] > GATE for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
