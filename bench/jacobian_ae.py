"""Does Jacobian supervision keep the factors while the code grows? Lezama (2019), Table 1.

``python bench/jacobian_ae.py --data-path MNIST`` trains the five rows on a folder with MNIST's idx
files: the teacher (d = 0), students with supervision (d = 14 and 18), one without (d = 14), and
random weights; it scores each by class swaps and reconstruction error on the images held out, and
draws what the first two units do (Fig. 1). ``--epochs 70`` trains each stage so long, and keeps the
result beside. Runs go side by side, one a core; stopped, it goes on where it was when started
again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from _runs import add_run_arguments, answer, figures, planned, together, variant_of, write_runs
from _tables import grouped, machine, markdown, minutes, spread

from pydisent import data, systems
from pydisent.evaluation.scoring import score
from pydisent.reports.planes import factor_plane, write_planes
from pydisent.training import Plan, Run, RunFolder

METRICS = ("class-swaps",)
#: λ_y, λ_diff and λ_xcov of Table 4.
TABLE_4 = [
    (0, 0, 1e-1), (0, 0, 1e-2), (0, 0, 1e-4), (0.25, 0.1, 1e-1), (0.25, 0.1, 1e-2), (1, 1, 1e-3),
    (0.1, 1, 1e-3), (1, 0.1, 1e-3), (0.1, 0.1, 1e-3), (0.01, 0.1, 1e-3), (0.1, 0.01, 1e-3),
    (0.01, 0.01, 1e-3),
]  # fmt: skip
ROWS: dict[str, dict[str, Any]] = {
    "teacher": {"nuisance": 0},
    "supervised-14": {"nuisance": 14},
    "supervised-18": {"nuisance": 18},
    "unsupervised-14": {"nuisance": 14, "supervision": False},
}

WEIGHTS = ("weight_y", "weight_diff", "weight_cross_covariance")
ROWS |= {
    f"weights-{y:g}-{diff:g}-{xcov:g}": {
        "nuisance": 14,
        **dict(zip(WEIGHTS, (float(y), float(diff), xcov))),
    }
    for y, diff, xcov in TABLE_4
}
TABLE_1 = [row for row in ROWS if not row.startswith("weights-")]
TITLES = {
    "teacher": "Teacher",
    "supervised-14": "Student with Jacobian supervision",
    "supervised-18": "Student with Jacobian supervision",
    "unsupervised-14": "Student without",
    "random-14": "Random weights",
}
HEADS = ("model", "d", "class swaps, % ↑", "to the true class, % ↑", "squared error ↓", "minutes")
CAPTIONS = {
    "jacobian_ae.png": "What the first two units do: teacher, and students with and without",
    "jacobian_ae_long.png": "The same after longer stages",
}


def plans(args: argparse.Namespace) -> dict[str, Plan]:
    chosen = {row: ("jacobian-ae", ROWS[row]) for row in (ROWS if args.ablation else args.rows)}
    if args.epochs:
        preset = systems.preset("jacobian-ae", args.preset, args.data)
        whole = len(data.load(args.data, args.data_path)) * (1 - preset.held_out)
        steps = round(args.epochs * whole / preset.config.batch_size)
        args = argparse.Namespace(**vars(args) | {"steps": steps})
    return planned(args, chosen)


def entry(name: str, run: Run) -> dict[str, Any]:
    """What is kept of a run."""
    shown = figures(RunFolder(run.path), "jacobian-ae")
    return {"row": variant_of(name), **shown, **_swaps(run)}


def _swaps(run: Run) -> dict[str, Any]:
    details = (run.scores or {})["class-swaps"]["details"]
    kept = ("author_code", "reconstruction_mse", "reconstruction_accuracy", "classifier_accuracy")
    return {name: details[name] for name in kept}


def random_weights(run: Run) -> dict[str, Any]:
    """The last row: a student's network as it is drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.config["seed"])
        system = systems.build("jacobian-ae", run.system.config, run.system.image_shape)
        for phase, _ in system.phases(1):
            system.start_phase(phase)
    fresh = Run(run.path, run.plan, run.environment, [], None, system.eval(), 0)
    fresh.scores = score(fresh, METRICS)
    scores = {name: found["score"] for name, found in fresh.scores.items()}
    name = f"random-{run.system.config.nuisance}"
    return {"row": name, "seed": run.config["seed"], "scores": scores, **_swaps(fresh)}


def draw(runs: dict[str, Run], path: Path) -> None:
    """Draw what the first two units do in each model, the others as in one held-out image."""
    planes, seed = {}, min(run.config["seed"] for run in runs.values())
    for row in TABLE_1:
        if (run := runs.get(f"{row}-seed-{seed}")) is None:
            continue
        assert run.held_out is not None
        with torch.no_grad():
            codes = run.system.encode(run.held_out.images(range(min(500, len(run.held_out)))))
        first, second = run.system.factor_columns[:2]
        spans = (2 * float(codes[:, first].std()), 2 * float(codes[:, second].std()))
        title = f"{row.split('-')[0]}, d = {run.system.config.nuisance}"
        planes[title] = factor_plane(run.system, codes[0], columns=(first, second), spans=spans)
    write_planes(planes, path)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=TABLE_1)
    parser.add_argument("--ablation", action="store_true", help="the rows of Table 4, too")
    parser.add_argument("--epochs", type=int, help="of a stage, instead of --steps")
    parser.add_argument("--name", default="jacobian_ae", help="of the files of results")
    add_run_arguments(parser, "jacobian-ae", "mnist")
    return parser.parse_args(argv)


def write(args: argparse.Namespace, runs: dict[str, Run]) -> Path:
    """Keep the figures, with those of random weights, and the picture."""
    result = together([entry(name, run) for name, run in runs.items()])
    largest = max(runs.values(), key=lambda run: (run.system.config.nuisance == 14, run.step))
    result["runs"].append(random_weights(largest))
    result["settings"] = asdict(largest.system.config)
    written = write_runs(args.name, result, args)
    draw(runs, written.with_suffix(".png"))
    return written


def table(result: dict) -> list[str]:
    lines = [
        f"Jacobian supervision (Lezama, Table 1), preset `{result['preset']}`, {result['data']}, "
        f"{result['steps']:,} updates a stage ({machine(result['environment'])}). Class swaps and "
        "squared errors a pixel are of the images held out; the first column's targets are what "
        "the classifier says of the reconstructions, as in the authors' code, the second's the "
        "true classes.",
        "",
    ]
    rows = []
    for (row,), found in grouped(result["runs"], "row", first=TITLES).items():
        size = "0" if row == "teacher" else row.split("-")[1] if row in TITLES else "14"
        rows.append([
            TITLES.get(row) or weights(found[-1]),
            size,
            spread([100 * run["author_code"] for run in found if run["author_code"]], 1),
            spread([100 * run["scores"]["class-swaps"] for run in found], 1),
            spread([run["reconstruction_mse"] for run in found], 4),
            minutes(found),
        ])  # fmt: skip
    return [*lines, *markdown(HEADS, rows)]


def weights(run: dict) -> str:
    """Name a run by the weights that are not the preset's."""
    told = ", ".join(f"{name} {value:g}" for name, value in run["settings"].items())
    return f"Student with {told}"


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    return answer(__file__, args, plans(args), METRICS, argv, write, table)


if __name__ == "__main__":
    sys.exit(main())
