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

from _harness import environment, write_result
from _runs import add_run_arguments, figures, make_all, together, trained
from plot import bottleneck_table, draw_betas

from pydisent.metrics import factor_vae_score
from pydisent.reports import write_traversals
from pydisent.reports.information import draw_information
from pydisent.training import Plan, Run, RunFolder, open_run
from pydisent.training.checkpoint import steps_kept

SYSTEMS = ("gan", "infogan", "ib-gan")
METRICS = ("factor-vae", "mig")
ALL = 10**6  # checkpoints that are kept
IMAGES = 20_000  # that the scores over training draw from
ACTIVE = 0.05  # variance of a code over the data, Jeon et al.'s bound


def plans(args: argparse.Namespace) -> dict[str, Plan]:
    """The plan of each run by the name of its folder; ValueError, before any work, if one fails."""
    chosen: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in SYSTEMS}
    chosen |= {f"beta-{beta:g}": ("ib-gan", {"beta": beta}) for beta in args.betas}
    return {
        f"{variant}-seed-{seed}": Plan.from_preset(
            system,
            args.data,
            args.preset,
            data_path=args.data_path,
            seed=seed,
            steps=args.steps,
            settings=settings,
        )
        for seed in args.seeds
        for variant, (system, settings) in chosen.items()
    }


def entry(name: str, run: Run) -> dict[str, Any]:
    """What is kept of a run."""
    details = (run.scores or {})["factor-vae"]["details"]
    kept = {
        "variant": name.split("-seed-")[0],
        **figures(RunFolder(run.path), "ib-gan"),
        "factor_vae_jeon": details["jeon"],
        "active": sum(std**2 >= ACTIVE for std in details["std"]),
    }
    # The paper's Fig. 3 takes the median over training.
    for bound in ("mi_lower", "mi_upper"):
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
    if any(found["variant"].startswith("beta-") for found in result["runs"]):
        draw_betas(result, written.with_name(f"{written.stem}_betas.png"))
    return over_training


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--betas", type=float, nargs="*", default=[], help="of further IB-GANs")
    add_run_arguments(parser, "ib-gan", "sprites")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = arguments(argv)
    planned = plans(args)
    if status := make_all(__file__, args, planned, METRICS, argv, ALL):
        return status
    if args.only:
        return 0
    runs = {
        name: trained(plan, RunFolder(args.out / name), args.threads, METRICS, ALL)
        for name, plan in planned.items()
    }
    result = together([entry(name, run) for name, run in runs.items()])
    shown = next(run for name, run in runs.items() if name.startswith("ib-gan-"))
    result["settings"] = asdict(shown.system.config)
    about = environment()
    about["command"] = about["command"][:1]  # folders are of this machine; settings are above
    question = f"ib_gan_{args.data.replace('-', '_')}"
    written = write_result(question, result, about, args.results)
    result["over_training"] = keep_pictures(shown, result, written)
    write_result(question, result, about, args.results)
    print("\n".join(bottleneck_table(result | {"environment": about})))
    print(written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
