"""What benches of trained runs share: making them, side by side, and the figures of each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from _harness import RESULTS, environment, write_result

from pydisent import systems
from pydisent.evaluation import scoring
from pydisent.sweeps.engine import Job, LocalEngine, Outcome, cores
from pydisent.training import Interrupted, Plan, Run, RunFolder, open_run, train

SHARED = ("data", "image_size", "preset", "steps")


def figures(folder: RunFolder, base: str) -> dict[str, Any]:
    """The scores of one run, without their details, and the settings that made them.

    Settings are those that the preset of system `base` lacks or has otherwise.
    """
    config, log = folder.read_config(), folder.read_log()
    found = folder.read_scores() or {}
    preset = systems.preset(base, config["preset"], config["data"]).config
    common = {name: value for name, _, value in systems.describe(preset)}
    return {
        **{name: config[name] for name in ("system", "seed", *SHARED)},
        "settings": {k: v for k, v in config["config"].items() if common.get(k, v is None) != v},
        "scores": {name: entry["score"] for name, entry in found.items()},
        "seconds": max(line["seconds"] for line in log),
        "threads": folder.read_environment()["threads"],
    }


def together(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The runs with what they share said once; ValueError if they do not share it."""
    for name in SHARED:
        if len({run[name] for run in runs}) > 1:
            raise ValueError(f"the runs differ in {name}")
    shared = {name: runs[0][name] for name in SHARED}
    return {**shared, "runs": [{k: v for k, v in run.items() if k not in SHARED} for run in runs]}


def add_run_arguments(parser: argparse.ArgumentParser, out: str, data: str) -> None:
    """Add what is trained, how, and where to."""
    parser.add_argument("--out", type=Path, default=Path("runs", out), help="of the run folders")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--data", default=data)
    parser.add_argument("--data-path", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--steps", type=int, help="updates of the first phase; the preset's if none"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="of the figures; bench/results by default"
    )
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--workers", type=int, default=cores(), help="runs at a time")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # the run of a worker


def planned(
    args: argparse.Namespace, variants: Mapping[str, tuple[str, dict[str, Any]]]
) -> dict[str, Plan]:
    """The plan of each run by the name of its folder, of each variant's system and settings.

    ValueError, before any work, if one fails.
    """
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
        for variant, (system, settings) in variants.items()
    }


def variant_of(name: str) -> str:
    """The variant that the name of a run's folder begins with."""
    return name.split("-seed-")[0]


def write_runs(question: str, result: dict[str, Any], args: argparse.Namespace) -> Path:
    """Write a result without the command's arguments: folders are of this machine."""
    about = environment()
    return write_result(question, result, about | {"command": about["command"][:1]}, args.results)


def trained(
    plan: Plan, folder: RunFolder, threads: int, metrics: Sequence[str], keep: int = 2
) -> Run:
    """The run, trained and scored as far as it is not, with its last `keep` checkpoints."""
    if folder.environment.is_file():  # another number of threads would round differently
        threads = folder.read_environment()["threads"]
    torch.set_num_threads(threads)
    train(plan, folder.path, resume=True, accelerator="cpu", keep=keep)
    run = open_run(folder.path)
    fitting = [name for name in metrics if name in scoring.applicable(run)]
    if missing := [name for name in fitting if name not in (run.scores or {})]:
        print(f"scoring {folder.path}: {', '.join(missing)}")
        scoring.score(run, missing, max_images=scoring.MAX_IMAGES, keep=folder.add_scores)
        run.scores = folder.read_scores()
    return run


def answer(
    script: str,
    args: argparse.Namespace,
    plans: Mapping[str, Plan],
    metrics: Sequence[str],
    argv: Sequence[str] | None,
    write: Callable[[argparse.Namespace, dict[str, Run]], Path],
    table: Callable[[dict[str, Any]], list[str]],
    keep: int = 2,
    made: Collection[str] = (),
) -> int:
    """Make all runs but those `made` already, `write` their figures and print them.

    Returns the exit status.
    """
    missing = {name: plan for name, plan in plans.items() if name not in made}
    if status := make_all(script, args, missing, metrics, argv, keep):
        return status
    if not args.only:
        runs = {
            name: trained(plan, RunFolder(args.out / name), args.threads, metrics, keep)
            for name, plan in plans.items()
        }
        written = write(args, runs)
        print(*table(json.loads(written.read_text())), written, sep="\n")
    return 0


def make_all(
    script: str,
    args: argparse.Namespace,
    plans: Mapping[str, Plan],
    metrics: Sequence[str],
    argv: Sequence[str] | None,
    keep: int = 2,
) -> int:
    """Train and score all runs as far as they are not, in processes of their own if several.

    Returns the exit status, 0 if all are there. A process that was started for one run makes it.
    """
    if args.only:
        return _make(args, args.only, plans[args.only], metrics, keep)
    if args.workers > 1:
        return _make_side_by_side(script, args, list(plans), argv)
    return next((s for name in plans if (s := _make(args, name, plans[name], metrics, keep))), 0)


def _make(
    args: argparse.Namespace, name: str, plan: Plan, metrics: Sequence[str], keep: int
) -> int:
    """Train and score one run as far as it is not; the exit status."""
    print(f"{name}: {plan.steps:,} updates of {plan.system} on {plan.data}")
    try:
        trained(plan, RunFolder(args.out / name), args.threads, metrics, keep)
    except Interrupted as stop:
        print(f"{stop}: start the same command again to go on", file=sys.stderr)
        return 128 + stop.signum
    return 0


def _make_side_by_side(
    script: str, args: argparse.Namespace, names: Sequence[str], argv: Sequence[str] | None
) -> int:
    failed = []

    def note(outcome: Outcome) -> None:
        print(outcome, flush=True)
        if outcome.state == "failed":
            failed.append(outcome)

    argv = sys.argv[1:] if argv is None else argv
    command = (sys.executable, script, *argv, "--only")
    jobs = [
        Job(name, ((*command, name),), args.out / f"{name}.txt", args.threads) for name in names
    ]
    signum = LocalEngine(args.workers).run(jobs, note)
    if signum:
        print("stopped: start the same command again to go on", file=sys.stderr)
        return 128 + signum
    return 1 if failed else 0
