"""What do perceptual simplicity (PS) and spatial constriction (SC) each bring? Zhu et al., Table 3.

``python bench/ps_sc.py`` trains InfoGAN, + PS, + SC and + both on ``shapes3d``, scores each, and
keeps the figures and pictures; ``--softmax`` adds the softmax masks of Table 4. Runs go side by
side, one a core: networks this small gain little from a second thread. Stopped, it goes on where
it was when started again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _harness import environment, write_result
from _runs import add_run_arguments, figures, make_all, together, trained
from plot import ablation_table, draw_ablation

from pydisent.reports import write_traversals
from pydisent.training import Plan, Run, RunFolder

QUESTION = "ps_sc"
METRICS = ("tpl", "ppl", "fid", "factor-vae", "mask-overlap")
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "infogan": ("ps-sc", {"ps_weight": 0.0, "spatial_constriction": False}),
    "ps": ("ps-sc", {"spatial_constriction": False}),
    "sc": ("ps-sc", {"ps_weight": 0.0}),
    "both": ("ps-sc", {}),
}
SOFTMAX = {"softmax": ("ps-sc", {"mask": "softmax"})}


def plans(args: argparse.Namespace) -> dict[str, Plan]:
    """The plan of each run by the name of its folder; ValueError, before any work, if one fails."""
    chosen = VARIANTS | (SOFTMAX if args.softmax else {})
    made = {}
    for seed in args.seeds:
        for variant, (system, settings) in chosen.items():
            made[f"{variant}-seed-{seed}"] = Plan.from_preset(
                system,
                args.data,
                args.preset,
                data_path=args.data_path,
                seed=seed,
                steps=args.steps,
                settings=settings,
            )
    return made


def entry(name: str, run: Run) -> dict[str, Any]:
    """What is kept of a run."""
    details = (run.scores or {})["tpl"]["details"]
    return {
        "variant": name.split("-seed-")[0],
        **figures(RunFolder(run.path), "ps-sc"),
        "active": details["active"],
        "measured_by": details["distance"],
    }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--softmax", action="store_true", help="softmax masks, too (Table 4)")
    add_run_arguments(parser, "ps-sc", "shapes3d")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = arguments(argv)
    planned = plans(args)
    if status := make_all(__file__, args, planned, METRICS, argv):
        return status
    if args.only:
        return 0
    entries, shown = [], None
    for name, plan in planned.items():
        run = trained(plan, RunFolder(args.out / name), args.threads, METRICS)
        entries.append(entry(name, run))
        if shown is None and name.startswith("both-"):
            shown = run
    assert shown is not None
    about = environment()
    about["command"] = about["command"][:1]  # folders are of this machine; settings are below
    result = together(entries) | {"settings": asdict(Plan.from_json(shown.config).config)}
    written = write_result(QUESTION, result, about, args.results)
    keep_pictures(shown, result, written)
    print("\n".join(ablation_table(result)))
    print(written)
    return 0


def keep_pictures(run: Run, result: dict[str, Any], written: Path) -> None:
    """Put the scores, and the traversals with masks of the run, beside the figures."""
    draw_ablation(result, written.with_name(f"{QUESTION}_scores.png"))
    drawn = write_traversals(run, run.path / "figures", sort="tpl", bases=1)[0]
    written.with_suffix(".png").write_bytes(drawn.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
