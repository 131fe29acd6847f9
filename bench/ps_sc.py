"""What do perceptual simplicity (PS) and spatial constriction (SC) each bring? Zhu et al., Table 3.

``python bench/ps_sc.py`` trains InfoGAN, + PS, + SC and + both on ``shapes3d``, scores each, and
keeps the figures and pictures; ``--softmax`` adds the softmax masks of Table 4. Runs go side by
side, one a core: networks this small gain little from a second thread. Stopped, it goes on where
it was when started again.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _runs import add_run_arguments, answer, figures, planned, together, variant_of, write_runs
from _tables import counted, grouped, markdown, minutes, panels, spread

from pydisent.reports import write_traversals
from pydisent.training import Plan, Run, RunFolder

QUESTION = "ps_sc"
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "infogan": ("ps-sc", {"ps_weight": 0.0, "spatial_constriction": False}),
    "ps": ("ps-sc", {"spatial_constriction": False}),
    "sc": ("ps-sc", {"ps_weight": 0.0}),
    "both": ("ps-sc", {}),
}
SOFTMAX = {"softmax": ("ps-sc", {"mask": "softmax"})}
TITLES = {
    "infogan": "InfoGAN",
    "ps": "+ PS loss",
    "sc": "+ SC module",
    "both": "+ both",
    "softmax": "+ both, softmax masks",
}
COLOURS = dict(zip(TITLES, ("#999999", "#56B4E9", "#E69F00", "#0072B2", "#CC79A7")))
# score: its title, whether less is better, digits
SCORES = {
    "tpl": ("TPL", True, 2),
    "ppl": ("PPL", True, 2),
    "fid": ("FID", True, 3),
    "factor-vae": ("FactorVAE", False, 3),
    "mask-overlap": ("mask overlap", True, 2),
}
METRICS = tuple(SCORES)
CAPTIONS = {
    "ps_sc_scores.png": "Scores of InfoGAN with PS, with SC and with both",
    "ps_sc.png": "Traversals of PS-SC with each code's mask, the longest first",
}


def plans(args: argparse.Namespace) -> dict[str, Plan]:
    return planned(args, VARIANTS | (SOFTMAX if args.softmax else {}))


def entry(name: str, run: Run) -> dict[str, Any]:
    """What is kept of a run."""
    details = (run.scores or {})["tpl"]["details"]
    return {
        "variant": variant_of(name),
        **figures(RunFolder(run.path), "ps-sc"),
        "active": details["active"],
        "measured_by": details["distance"],
    }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--softmax", action="store_true", help="softmax masks, too (Table 4)")
    add_run_arguments(parser, "ps-sc", "shapes3d")
    return parser.parse_args(argv)


def write(args: argparse.Namespace, runs: dict[str, Run]) -> Path:
    """Keep the figures, and the scores and traversals with masks as pictures beside them."""
    result = together([entry(name, run) for name, run in runs.items()])
    shown = next(run for name, run in runs.items() if name.startswith("both-"))
    result["settings"] = asdict(Plan.from_json(shown.config).config)
    written = write_runs(QUESTION, result, args)
    draw_scores(result, written.with_name(f"{QUESTION}_scores.png"))
    drawn = write_traversals(shown, shown.path / "figures", sort="tpl", bases=1)[0]
    written.with_suffix(".png").write_bytes(drawn.read_bytes())
    return written


def table(result: dict) -> list[str]:
    runs = result["runs"]
    seeds = sorted({run["seed"] for run in runs})
    lines = [
        f"PS and SC apart and together (Zhu et al., Table 3), preset `{result['preset']}` "
        f"({result['data']} at {result['image_size']} px, {result['steps']:,} updates, "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}, "
        f"{counted(runs[0]['threads'], 'thread')} a run). TPL, PPL and FID are by the feature net "
        f"`{runs[0]['measured_by']}`: they are not to be compared with published figures. "
        f"{'' if len(seeds) == 1 else 'Mean ± standard deviation over seeds. '}"
        "Arrows point to better.",
        "",
    ]
    titles = [f"{title} {'↓' if less else '↑'}" for title, less, _ in SCORES.values()]
    rows = [
        [
            TITLES[variant],
            *(spread([r["scores"][name] for r in found if name in r["scores"]], digits)
              for name, (_, _, digits) in SCORES.items()),
            spread([run["active"] for run in found], 0 if len(found) == 1 else 1),
            minutes(found),
        ]
        for (variant,), found in grouped(runs, "variant", first=TITLES).items()
    ]  # fmt: skip
    return [*lines, *markdown(["system", *titles, "active dimensions", "minutes"], rows)]


def draw_scores(result: dict, path: Path) -> None:
    """A panel a score, a bar a variant (the mean over seeds), a dot a seed."""
    variants = grouped(result["runs"], "variant", first=TITLES)
    told = {name for run in result["runs"] for name in run["scores"]}
    scores = {name: titled for name, titled in SCORES.items() if name in told}
    width, height = 1.6 + 1.9 * len(scores), 1.2 + 0.36 * len(variants)
    figure, axes = panels(width, height, len(scores), sharey=True)
    for axis, (name, (title, less, digits)) in zip(axes, scores.items()):
        for row, ((variant,), found) in enumerate(variants.items()):
            values = [run["scores"][name] for run in found if name in run["scores"]]
            if not values:
                continue
            mean = statistics.fmean(values)
            axis.barh(row, mean, 0.62, color=COLOURS[variant])
            if len(values) > 1:
                axis.plot(values, [row] * len(values), "o", color="black", markersize=3)
            axis.annotate(f"{mean:.{digits}f}", (max(mean, *values) if len(values) > 1 else mean,
                          row), (4, 0), textcoords="offset points", va="center",
                          fontsize=8)  # fmt: skip
        axis.set_title(f"{title}\n{'less' if less else 'more'} is better", fontsize=9)
        axis.margins(x=0.28)
        axis.set_xlim(left=0)
        axis.tick_params(labelsize=8)
    axes[0].set_yticks(range(len(variants)), [TITLES[v] for (v,) in variants])
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=150)


FIGURES = {"_scores": draw_scores}


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    return answer(__file__, args, plans(args), METRICS, argv, write, table)


if __name__ == "__main__":
    sys.exit(main())
