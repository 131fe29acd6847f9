"""Does training in bf16 cost anything in the end? Scores in both precisions, over seeds.

``python bench/precision.py`` trains beta-vae on ``sprites`` in fp32 and in bf16 from several seeds,
and scores each. Runs go side by side, one a core. Stopped, it goes on where it was when started
again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from _harness import environment, write_result
from _runs import add_run_arguments, figures, make_all, together, trained
from plot import precision_table

from pydisent._precision import has_native_bf16
from pydisent.training import Plan, RunFolder

QUESTION = "precision"
METRICS = ("factor-vae", "mig", "sap", "reconstruction")


def plans(args: argparse.Namespace) -> dict[str, Plan]:
    """The plan of each run by the name of its folder; ValueError, before any work, if one fails."""
    return {
        f"{system}-{precision}-seed-{seed}": Plan.from_preset(
            system,
            args.data,
            args.preset,
            data_path=args.data_path,
            seed=seed,
            steps=args.steps,
            settings={"precision": precision},
        )
        for system in args.systems
        for seed in args.seeds
        for precision in ("fp32", "bf16")
    }


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", default=["beta-vae"])
    add_run_arguments(parser, "precision", "sprites")
    args = parser.parse_args(argv)
    if not has_native_bf16("cuda" if torch.cuda.is_available() else "cpu"):
        parser.error("there is no native bf16 here: bf16 would be computed in fp32")
    planned = plans(args)
    if status := make_all(__file__, args, planned, METRICS, argv):
        return status
    if args.only:
        return 0
    entries = []
    for name, plan in planned.items():
        folder = RunFolder(args.out / name)
        trained(plan, folder, args.threads, METRICS)
        entries.append({"precision": plan.config.precision, **figures(folder, plan.system)})
    result, about = together(entries), environment()
    about["command"] = about["command"][:1]  # folders are of this machine; settings are above
    print("\n".join(precision_table(result | {"environment": about})))
    print(write_result(QUESTION, result, about, args.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
