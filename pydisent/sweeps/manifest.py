"""The record of a sweep: its plan and the state of each run, in sweep.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydisent._checks import check_one_of
from pydisent.sweeps.engine import Outcome
from pydisent.sweeps.plan import SweepPlan
from pydisent.training.files import (
    NUMBER,
    Types,
    absolute,
    as_object,
    check_fields,
    check_value,
    read_object,
    write_json,
)
from pydisent.training.folder import RunFolder
from pydisent.training.plan import Plan, difference

FORMAT = 1
MANIFEST = "sweep.json"
_FIELDS: Types = {"format": (int,), "asked": (dict,), "runs": (dict,)}
_RUN: Types = {"state": (str,), "plan": (dict,), "error": (str,), "seconds": NUMBER}
# Missing from the oldest sweeps.
_ADDED_LATER: dict[str, Any] = {
    "partial": False,
    **dict.fromkeys(("image_size", "split", "crop", "mirror", "factors", "bins")),
}
_STATES = ("waiting", "running", "done", "failed", "interrupted")


class Manifest:
    """The contents of sweep.json.

    Parameters
    ----------
    folder : Path
        The sweep's folder.
    plan : SweepPlan
        The requested sweep.
    runs : mapping of str to Plan
        Its runs.

    Raises
    ------
    ValueError
        If the folder holds another sweep, or something else, or its sweep.json is damaged.
    """

    def __init__(self, folder: Path, plan: SweepPlan, runs: Mapping[str, Plan]) -> None:
        self.folder, self.file = folder, folder / MANIFEST
        self.asked = asdict(plan) | {"grid": {key: list(v) for key, v in plan.grid.items()}}
        self.asked = {k: list(v) if isinstance(v, tuple) else v for k, v in self.asked.items()}
        self.plans = {name: each.to_json() for name, each in runs.items()}
        self.states: dict[str, dict[str, Any]] = {name: {"state": "waiting"} for name in runs}
        if self.file.exists():
            self._read()
        elif not RunFolder(folder).is_free():
            raise ValueError(
                f"{folder} is not a sweep's folder, and not empty; it has no {MANIFEST}: choose "
                "another"
            )

    def _read(self) -> None:
        kept, source = read_object(self.file), str(self.file)
        if kept.get("format") != FORMAT:
            raise ValueError(f"{source}: format must be {FORMAT}, got {kept.get('format')!r:.40}")
        check_fields(source, kept, _FIELDS)
        asked = _ADDED_LATER | kept["asked"]
        for name in ("data_path", "factors"):
            check_value(f"{source}: {name}", asked.get(name), (str, type(None)))
            asked[name] = absolute(asked.get(name))
        for name, value in self.asked.items():
            if asked.get(name) != value:
                raise ValueError(
                    f"{self.folder} holds a sweep with {name} {asked.get(name)!s:.300}, not "
                    f"{value}: it can only be continued as it was started ({MANIFEST})"
                )
        for name, plan in self.plans.items():
            self.states[name] = self._read_state(name, plan, kept["runs"].get(name))

    def _read_state(self, name: str, plan: dict[str, Any], kept: Any) -> dict[str, Any]:
        source = str(self.file)
        about = as_object(kept, f"{source}: run {name}")
        check_fields(f"{source}: {name}", about, _RUN, optional=("error", "seconds"))
        if difference(about["plan"], plan):
            raise ValueError(f"{source}: {name} has a different plan from the one requested")
        check_one_of(f"{source}: state of {name}", about["state"], _STATES)
        return {k: v for k, v in about.items() if k != "plan"}

    def write(self) -> None:
        """Write the file atomically."""
        runs = {name: {**self.states[name], "plan": plan} for name, plan in self.plans.items()}
        write_json(self.file, {"format": FORMAT, "asked": self.asked, "runs": runs})

    def record(self, outcome: Outcome) -> None:
        """Record the start or the end of a run."""
        state: dict[str, Any] = {"state": outcome.state}
        if outcome.error is not None:
            state["error"] = outcome.error
        if outcome.seconds is not None:
            state["seconds"] = round(outcome.seconds, 1)
        self.states[outcome.name] = state
        self.write()

    def is_done(self, name: str, metrics: Sequence[str]) -> bool:
        """Return whether a run is trained and has these scores."""
        run = RunFolder(self.folder / name)
        if self.states[name]["state"] != "done" or not run.is_run():
            return False
        scored = run.read_scores() or {}
        return set(metrics) <= scored.keys()
