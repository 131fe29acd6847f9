"""The plans of new and of resumed runs."""

import dataclasses
import sys
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
        Where the run is, or will be.
    system : str
        The system that is asked for.
    asked : dict
        Other arguments of `Plan.from_preset` that were given: what was not is as it was.
    settings : dict of str to str
        Settings of the system that were given.
    resume : bool
        Whether a run that is there is resumed.

    Raises
    ------
    ValueError
        If something is unknown or not accepted, or the run was started with something else.
    """
    from pydisent.training import Plan

    if resume and folder.is_run():
        return _resumed_plan(folder, system, asked, settings)
    return Plan.from_preset(system, settings=settings, command=("pydisent", *sys.argv[1:]), **asked)


def _resumed_plan(
    folder: "RunFolder", system: str, asked: dict[str, Any], settings: dict[str, str]
) -> "Plan":
    from pydisent import systems
    from pydisent.training._files import absolute
    from pydisent.training.plan import check_resumable

    plan = folder.read_plan()
    kept = plan.to_json()
    changed = {"system": system} | asked
    if "data_path" in changed:
        changed["data_path"] = absolute(changed["data_path"])
    config = dataclasses.asdict(systems.override(plan.config, settings))
    check_resumable(folder.path, kept, kept | changed | {"config": config})
    return plan
