"""Does Jacobian supervision let a student set attributes as its teacher does? Lezama, Table 2.

``python bench/attribute_ae.py`` trains on ``faces`` the teacher, a student of it with Jacobian
supervision and one with the cycle losses alone, and scores each by attribute flips and
reconstruction error on faces held out. Both students start from the one teacher's checkpoint.
``--ablation`` adds students without either (Table 5). Stopped, it goes on where it was when started
again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from _harness import environment, write_result
from _runs import add_run_arguments, figures, make_all, together, trained
from plot import flips_table

from pydisent.reports.attributes import write_attributes
from pydisent.training import Plan, Run, RunFolder
from pydisent.training._files import write_json
from pydisent.training.checkpoint import latest_checkpoint

QUESTION = "attribute_ae"
METRICS = ("attribute-flips",)
SHOWN_ALPHA = 2.0  # far enough to be seen; scores are best where images have left the faces
STUDENTS: dict[str, dict[str, Any]] = {
    "jacobian": {"supervision": "jacobian"},
    "cycle": {"supervision": "cycle"},
}
# Table 5, students of one teacher, by λ_diff and λ_y; and Table 6, teachers, by λ_xcov.
ABLATION: dict[str, dict[str, Any]] = {
    "none": {"supervision": "none"},
    **{
        f"weights-{difference}-{y}": {"difference_weight": float(difference), "y_weight": float(y)}
        for difference, y in ((10, 1), (1, 10), (1, 1))
    },
    **{
        f"teacher-xcov-{weight:g}": {"students": 0, "cross_covariance_weight": weight}
        for weight in (1e-3, 1e-2)
    },
}


def plans(args: argparse.Namespace) -> dict[str, Plan]:
    """The plan of each run by the name of its folder; ValueError, before any work, if one fails."""
    students = STUDENTS | (ABLATION if args.ablation else {})
    return {
        f"{row}-seed-{seed}": Plan.from_preset(
            "attribute-ae",
            args.data,
            args.preset,
            data_path=args.data_path,
            seed=seed,
            steps=args.steps,
            settings=settings,
        )
        for seed in args.seeds
        for row, settings in {"teacher": {"students": 0}, **students}.items()
    }


def branch(teacher: RunFolder, plan: Plan, to: RunFolder) -> None:
    """Let a run begin where its teacher's ended, unless it has begun: all up to there is alike."""
    if to.is_run():
        return
    latest = latest_checkpoint(teacher.checkpoints)
    assert latest is not None
    to.path.mkdir(parents=True, exist_ok=True)
    shutil.copytree(teacher.checkpoints, to.checkpoints, dirs_exist_ok=True)
    shutil.copy(teacher.log, to.log)
    write_json(to.environment, teacher.read_environment())
    write_json(to.config, plan.to_json())


def entry(name: str, run: Run) -> dict[str, Any]:
    """What is kept of a run."""
    details = (run.scores or {})["attribute-flips"]["details"]
    kept = ("alpha", "reconstruction_mse", "others_kept", "by_attribute", "classifier_accuracy")
    return {
        "row": name.split("-seed-")[0],
        **figures(RunFolder(run.path), "attribute-ae"),
        **{key: details[key] for key in kept},
        "changed": float(np.mean(details["changed"])),
        "attributes": details["attributes"],
        "z_size": run.system.z_size,
    }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ablation", action="store_true", help="students without either (Table 5)")
    add_run_arguments(parser, "attribute-ae", "faces")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = arguments(argv)
    planned = plans(args)
    teachers = {name: plan for name, plan in planned.items() if name.startswith("teacher-")}
    students = {name: plan for name, plan in planned.items() if plan.config.students}
    if args.only is None and (status := make_all(__file__, args, teachers, METRICS, argv)):
        return status
    for name, plan in students.items() if args.only is None else ():
        teacher = RunFolder(args.out / f"teacher-seed-{name.split('-seed-')[1]}")
        branch(teacher, plan, RunFolder(args.out / name))
    if status := make_all(
        __file__, args, students if args.only is None else planned, METRICS, argv
    ):
        return status
    if args.only:
        return 0
    runs = {
        name: trained(plan, RunFolder(args.out / name), args.threads, METRICS)
        for name, plan in planned.items()
    }
    result = together([entry(name, run) for name, run in runs.items()])
    shown = next(run for name, run in runs.items() if name.startswith("jacobian-"))
    result["settings"] = asdict(Plan.from_json(shown.config).config)
    about = environment()
    about["command"] = about["command"][:1]  # folders are of this machine; settings are above
    written = write_result(QUESTION, result, about, args.results)
    write_attributes(shown, written.with_suffix(".png"), alpha=SHOWN_ALPHA, faces=3)
    print("\n".join(flips_table(result | {"environment": about})))
    print(written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
