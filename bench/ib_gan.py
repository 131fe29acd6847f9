"""What does the information bottleneck bring to a GAN's codes? Jeon et al., Table 1, Figs. 3 and 4.

``python bench/ib_gan.py`` trains gan, infogan and ib-gan on ``sprites``, scores each, and keeps the
figures and pictures; ``--data color-sprites`` does the same in colour, and ``--betas 0 0.05 1``
adds IB-GANs of these β (Fig. 3). Runs go side by side, one a core. Stopped, it goes on where it was
when started again.
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
from _tables import OURS, counted, grouped, machine, markdown, minutes, panels, spread

from pydisent.metrics import factor_vae_score
from pydisent.reports import write_traversals
from pydisent.reports.information import draw_information
from pydisent.training import Plan, Run, RunFolder, open_run
from pydisent.training.checkpoint import steps_kept

SYSTEMS = {"gan": "GAN", "infogan": "InfoGAN", "ib-gan": "IB-GAN"}
METRICS = ("factor-vae", "mig")
ALL = 10**6  # checkpoints that are kept
IMAGES = 20_000  # that the scores over training draw from
ACTIVE = 0.05  # variance of a code over the data, Jeon et al.'s bound
CAPTIONS = {
    "ib_gan_sprites_information.png": "IB-GAN on sprites: bounds, KL of each dimension, score",
    "ib_gan_sprites.png": "IB-GAN's codes varied one at a time, on sprites",
    "ib_gan_sprites_betas.png": "What β does (Jeon et al., Fig. 3)",
    "ib_gan_color_sprites_information.png": "The same on coloured sprites",
    "ib_gan_color_sprites.png": "IB-GAN's codes varied one at a time, on coloured sprites",
}
HEADS = ("system", "FactorVAE, Jeon ↑", "FactorVAE ↑", "MIG ↑", "lower bound", "upper bound",
         "active", "minutes")  # fmt: skip
BOUNDS = ("mi_lower", "mi_upper")


def plans(args: argparse.Namespace) -> dict[str, Plan]:
    chosen: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in SYSTEMS}
    return planned(args, chosen | {f"beta-{b:g}": ("ib-gan", {"beta": b}) for b in args.betas})


def entry(name: str, run: Run) -> dict[str, Any]:
    """What is kept of a run."""
    details = (run.scores or {})["factor-vae"]["details"]
    kept = {
        "variant": variant_of(name),
        **figures(RunFolder(run.path), "ib-gan"),
        "factor_vae_jeon": details["jeon"],
        "active": sum(std**2 >= ACTIVE for std in details["std"]),
    }
    # The paper's Fig. 3 takes the median over training.
    for bound in BOUNDS:
        values = [line[bound] for line in run.log if bound in line]
        kept[bound] = statistics.median(values) if values else None
    if run.system.name == "ib-gan":
        kept["beta"] = run.config["config"]["beta"]
        last = run.log[-1]
        kept["kl"] = sorted((v for k, v in last.items() if k.startswith("kl/")), reverse=True)
    return kept


def scores_over_training(path: Path) -> dict[int, float]:
    """The FactorVAE score with Jeon et al.'s settings of each checkpoint."""
    scores = {}
    for step in steps_kept(RunFolder(path).checkpoints):
        run = open_run(path, step=step)
        found = factor_vae_score(
            run.system.encode, run.dataset, variant="jeon", max_images=IMAGES, seed=0
        )
        scores[step] = found.score
    return scores


def keep_pictures(run: Run, result: dict[str, Any], written: Path) -> dict[int, float]:
    """Put the bounds over training and the traversals of a run beside the figures."""
    over_training = scores_over_training(run.path)
    title = f"ib-gan on {run.dataset.name}, β = {run.config['config']['beta']:g}"
    picture = draw_information(run.log, title, over_training)
    written.with_name(f"{written.stem}_information.png").write_bytes(picture)
    drawn = write_traversals(run, run.path / "figures", sort="code", bases=1)[0]
    written.with_suffix(".png").write_bytes(drawn.read_bytes())
    draw_betas(result, written.with_name(f"{written.stem}_betas.png"))
    return over_training


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--betas", type=float, nargs="*", default=[], help="of further IB-GANs")
    add_run_arguments(parser, "ib-gan", "sprites")
    return parser.parse_args(argv)


def write(args: argparse.Namespace, runs: dict[str, Run]) -> Path:
    """Keep the figures, and pictures of the first ib-gan."""
    result = together([entry(name, run) for name, run in runs.items()])
    shown = next(run for name, run in runs.items() if name.startswith("ib-gan-"))
    result["settings"] = asdict(shown.system.config)
    question = f"ib_gan_{args.data.replace('-', '_')}"
    written = write_runs(question, result, args)
    result["over_training"] = keep_pictures(shown, result, written)
    write_runs(question, result, args)
    return written


def table(result: dict) -> list[str]:
    seeds = counted(len({run["seed"] for run in result["runs"]}), "seed")
    lines = [
        f"IB-GAN and its baselines (Jeon et al., Table 1), preset `{result['preset']}` "
        f"({result['data']} at {result['image_size']} px, {result['steps']:,} updates; "
        f"{seeds}; {machine(result['environment'])}). These are early scores: the paper trains "
        "15 to 50 times as long. FactorVAE scores are with Jeon et al.'s settings and with "
        "disentanglement_lib's; the bounds on the information, in nats, are medians over "
        "training; active are codes whose variance over the data is at least 0.05.",
        "",
    ]
    rows = []
    for (variant,), found in grouped(result["runs"], "variant").items():
        name = SYSTEMS.get(variant, "IB-GAN")
        if "beta" in found[0]:
            name = f"{name}, β = {found[0]['beta']:g}"
        rows.append([
            name,
            spread([run["factor_vae_jeon"] for run in found], 2),
            spread([run["scores"]["factor-vae"] for run in found], 2),
            spread([run["scores"]["mig"] for run in found], 2),
            *(spread([r[bound] for r in found if r[bound] is not None], 2) for bound in BOUNDS),
            spread([run["active"] for run in found], 0 if len(found) == 1 else 1),
            minutes(found),
        ])  # fmt: skip
    return [*lines, *markdown(HEADS, rows)]


def draw_betas(result: dict, path: Path) -> None:
    """Both bounds and the score against β (Jeon et al., Fig. 3), if it was varied: a dot a run."""
    if not any(run["variant"].startswith("beta-") for run in result["runs"]):
        return
    runs = sorted((run for run in result["runs"] if "beta" in run), key=lambda run: run["beta"])
    betas = sorted({run["beta"] for run in runs})
    places = range(len(betas))  # 0 has no place on a logarithmic scale
    shown = {
        "mi_upper": "upper bound, nats",
        "mi_lower": "lower bound, nats",
        "factor_vae_jeon": "FactorVAE score",
    }
    figure, axes = panels(9, 2.8, len(shown))
    for axis, (key, title) in zip(axes, shown.items()):
        means = [statistics.fmean(r[key] for r in runs if r["beta"] == b) for b in betas]
        axis.plot(places, means, color=OURS)
        axis.scatter([betas.index(r["beta"]) for r in runs], [r[key] for r in runs],
                     color=OURS, s=16)  # fmt: skip
        axis.set(title=title, xlabel="β")
        axis.set_xticks(places, [f"{beta:g}" for beta in betas], fontsize=7)
        axis.set_ylim(bottom=min(0, *means))
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


FIGURES = {"_betas": draw_betas}


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    return answer(__file__, args, plans(args), METRICS, argv, write, table, ALL)


if __name__ == "__main__":
    sys.exit(main())
