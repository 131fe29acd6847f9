"""Plans of new and resumed runs."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydisent.training import Plan, RunFolder


def plan_of(
    folder: "RunFolder", system: str, asked: dict[str, Any], settings: dict[str, str], resume: bool
) -> "Plan":
    """Return the plan of the run in `folder` if it is resumed, or else a new one.

    Parameters
    ----------
    folder : RunFolder
        The folder of the run.
    system : str
        The system asked for.
    asked : dict
        The given arguments of `Plan.from_preset`; a resumed run keeps the others.
    settings : dict of str to str
        The given settings of the system.
    resume : bool
        Whether to resume an existing run.

    Raises
    ------
    ValueError
        If an argument is invalid, or differs from the plan of the resumed run.
    """
    from pydisent.training import Plan

    if resume and folder.is_run():
        return _resumed_plan(folder, system, asked, settings)
    return Plan.from_preset(system, settings=settings, command=_command(), **asked)


def chosen_run(
    system: str | None,
    asked: dict[str, Any],
    settings: dict[str, str],
    file: Path | None,
    out: Path | None,
    resume: bool,
) -> "tuple[Plan, RunFolder]":
    """Return the plan and the folder of a run, from a system and its options or a plan file.

    Parameters
    ----------
    system, asked, settings, resume
        As for `plan_of`.
    file : Path or None
        A plan file, in place of the system and its options.
    out : Path or None
        The folder; runs/SYSTEM-DATA-PRESET-SEED by default.

    Raises
    ------
    OSError, ValueError
        If an argument is invalid, or both or neither of system and file are given.
    """
    from pydisent import systems
    from pydisent.training import RunFolder

    if (system is None) == (file is None) or (file is not None and (asked or settings)):
        given = "neither" if system is file is None else "both"
        raise ValueError(f"system and its options, or --plan, must be given, got {given}")
    if file is not None:
        plan = _plan_in(file)
        names = [plan.system, plan.data, plan.preset, str(plan.seed)]
        return plan, RunFolder(out or Path("runs", "-".join(names)))
    assert system is not None
    defaults = {"data": systems.default_data(system), "preset": "quick", "seed": 0} | asked
    names = [system, *(str(defaults[name]) for name in ("data", "preset", "seed"))]
    folder = RunFolder(out or Path("runs", "-".join(names)))
    return plan_of(folder, system, asked, settings, resume), folder


def _plan_in(file: Path) -> "Plan":
    """Return the plan in a file, with this command line."""
    from pydisent.training import Plan
    from pydisent.training.files import read_object

    return dataclasses.replace(Plan.from_json(read_object(file), str(file)), command=_command())


def _command() -> tuple[str, ...]:
    return ("pydisent", *sys.argv[1:])


def _resumed_plan(
    folder: "RunFolder", system: str, asked: dict[str, Any], settings: dict[str, str]
) -> "Plan":
    from pydisent import systems
    from pydisent.training.files import absolute
    from pydisent.training.plan import check_resumable

    plan = folder.read_plan()
    kept = plan.to_json()
    changed = {"system": system} | asked
    for name in changed.keys() & {"data_path", "factors"}:
        changed[name] = absolute(changed[name])
    config = dataclasses.asdict(systems.override(plan.config, settings))
    check_resumable(folder.path, kept, kept | changed | {"config": config})
    return plan
