"""Does training in bf16 cost anything in the end? Scores in both precisions, over seeds.

``python bench/precision.py`` trains beta-vae on ``sprites`` in fp32 and in bf16 from several seeds,
and scores each. Runs go side by side, one a core. Stopped, it goes on where it was when started
again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from _runs import add_run_arguments, answer, figures, planned, together, write_runs
from _tables import grouped, machine, markdown, minutes, spread

from pydisent._precision import has_native_bf16
from pydisent.training import Plan, Run, RunFolder

QUESTION = "precision"
# score: its title, digits
SCORES = {
    "factor-vae": ("FactorVAE ↑", 3),
    "mig": ("MIG ↑", 3),
    "sap": ("SAP ↑", 3),
    "reconstruction": ("squared error ↓", 5),
}
METRICS = tuple(SCORES)


def plans(args: argparse.Namespace) -> dict[str, Plan]:
    variants = {
        f"{system}-{precision}": (system, {"precision": precision})
        for system in args.systems
        for precision in ("fp32", "bf16")
    }
    return planned(args, variants)


def table(result: dict) -> list[str]:
    seeds = sorted({run["seed"] for run in result["runs"]})
    lines = [
        f"Scores after training in either precision, preset `{result['preset']}` "
        f"({result['data']} at {result['image_size']} px, {result['steps']:,} updates, seeds "
        f"{', '.join(map(str, seeds))}; {machine(result['environment'])}): mean ± standard "
        "deviation over seeds.",
        "",
    ]
    rows = [
        [
            *key,
            *(spread([run["scores"][name] for run in found], digits)
              for name, (_, digits) in SCORES.items()),
            minutes(found),
        ]
        for key, found in grouped(result["runs"], "system", "precision").items()
    ]  # fmt: skip
    titles = [title for title, _ in SCORES.values()]
    return [*lines, *markdown(["system", "precision", *titles, "minutes"], rows, 2)]


def write(args: argparse.Namespace, runs: dict[str, Run]) -> Path:
    """Keep the figures."""
    entries = [
        {"precision": run.system.config.precision, **figures(RunFolder(run.path), run.system.name)}
        for run in runs.values()
    ]
    return write_runs(QUESTION, together(entries), args)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", default=["beta-vae"])
    add_run_arguments(parser, "precision", "sprites")
    args = parser.parse_args(argv)
    if not has_native_bf16("cuda" if torch.cuda.is_available() else "cpu"):
        parser.error("there is no native bf16 here: bf16 would be computed in fp32")
    return answer(__file__, args, plans(args), METRICS, argv, write, table)


if __name__ == "__main__":
    sys.exit(main())
