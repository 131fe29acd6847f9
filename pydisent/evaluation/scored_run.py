"""Run folders as read by comparisons: plan, scores and progress, without weights."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydisent.evaluation.conditions import conditions_of
from pydisent.training.files import Types, check_fields
from pydisent.training.folder import RunFolder
from pydisent.training.run import updates

# The fields of a plan, besides its configuration and seed, that determine a score.
_DECISIVE = ("image_size", "steps", "partial", "held_out", "split", "crop", "mirror", "bins")
_FIELDS: Types = {
    "system": (str,),
    "data": (str,),
    "seed": (int,),
    "config": (dict,),
    "image_size": (int, type(None)),
    "steps": (int,),
}


@dataclass(frozen=True)
class ScoredRun:
    """The plan, scores and progress of a run folder.

    Attributes
    ----------
    path : Path
        The folder.
    config : dict
        The plan as plain values.
    scores : dict of str to float
        The finite scores by metric.
    updates : tuple of int or None
        The updates of its last checkpoint and of the plan; None without checkpoints.
    nets : dict of str to str
        The net that judged the images, for each metric with one.
    conditions : dict of str to dict
        What each score depends on besides the run; see `conditions_of`.
    """

    path: Path
    config: dict[str, Any]
    scores: dict[str, float]
    updates: tuple[int, int] | None = None
    nets: dict[str, str] = field(default_factory=dict)
    conditions: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """Return whether all updates of the plan have been made."""
        return self.updates is not None and self.updates[0] >= self.updates[1]

    @property
    def settings(self) -> dict[str, Any]:
        """Return everything that determines the scores, except the seed."""
        return {**self.config["config"], **{name: self.config[name] for name in _DECISIVE}}

    @property
    def key(self) -> str:
        """Return a key that is equal for runs that differ only in their seeds."""
        return json.dumps([self.config["system"], self.settings], sort_keys=True)


def read_run(path: Path) -> ScoredRun:
    """Read the plan and the scores of a run folder.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is not a run folder, or one of its files is damaged.
    """
    folder = RunFolder(path)
    folder.require_run()
    config = folder.read_config()
    check_fields(str(folder.config), config, _FIELDS, others=True)
    made = updates(path)
    scores = folder.read_scores(None if made is None else made[0])
    return scored_run(path, config, scores or {}, made)


def scored_run(
    path: Path,
    config: dict[str, Any],
    entries: Mapping[str, Any],
    made: tuple[int, int] | None = None,
) -> ScoredRun:
    """Return a run from its plan and its score entries, as stored in the files."""
    scores, nets, conditions = {}, {}, {}
    for metric, entry in entries.items():
        value, details = entry["score"], entry.get("details", {})
        if math.isfinite(value):
            scores[metric] = float(value)
            conditions[metric] = conditions_of(metric, details)
        if (net := details.get("distance")) is not None:
            nets[metric] = net
    return ScoredRun(path, config, scores, made, nets, conditions)


def check_same_data(runs: Sequence[ScoredRun], names: Sequence[str]) -> None:
    """Raise ValueError unless these fields of the plans are equal for all runs."""
    first = runs[0]
    for run in runs:
        for name in names:
            one, other = first.config.get(name), run.config.get(name)
            if one != other:
                raise ValueError(
                    f"runs must be on the same data, got {name} {one} for {first.path} and {other} "
                    f"for {run.path}"
                )
