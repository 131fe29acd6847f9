"""Opened runs, finished or not."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from pydisent import _html, data, systems
from pydisent.data import ImageDataset
from pydisent.systems import System
from pydisent.training import checkpoint as checkpoints
from pydisent.training import pretrained
from pydisent.training.folder import RunFolder
from pydisent.training.plan import Plan

_KEYS = ("step", "seconds", "phase")  # of a log line, besides the logged values
_CURVES = 8


@dataclass
class Run:
    """The contents of a run folder.

    Attributes
    ----------
    path : Path
        The folder.
    plan : Plan
        `config.json`.
    environment : dict
        `environment.json`.
    log : list of dict
        The lines of `log.jsonl`.
    scores : dict or None
        `scores.json`.
    system : System
        The system with the weights of a checkpoint, in eval mode.
    step : int
        Number of updates behind those weights.
    loaded : ImageDataset or None
        The data set at the plan's image size, if it has been loaded already.
    """

    path: Path
    plan: Plan
    environment: dict[str, Any]
    log: list[dict[str, Any]]
    scores: dict[str, Any] | None
    system: System
    step: int
    loaded: ImageDataset | None = field(default=None, repr=False, compare=False)

    @property
    def config(self) -> dict[str, Any]:
        """Return the plan as plain values; see `Plan.to_json`."""
        return self.plan.to_json()

    @property
    def planned(self) -> int:
        """Return the number of updates of the whole plan; `step` of them have been made."""
        return _planned(self.plan, self.system)

    @cached_property
    def _parts(self) -> tuple[ImageDataset, ImageDataset | None]:
        loaded = self.loaded
        if loaded is None:
            loaded = data.load(**self.plan.data_arguments())
        return data.hold_out(loaded, self.plan.held_out)

    @property
    def dataset(self) -> ImageDataset:
        """Return the training images, at the plan's image size."""
        return self._parts[0]

    @cached_property
    def held_out(self) -> ImageDataset | None:
        """Return the images held out of training, else the official test set, else None."""
        if self.plan.held_out:
            return self._parts[1]
        return data.load_test(**self.plan.data_arguments())

    def _repr_html_(self) -> str:
        """Return the plan, scores and curves of the log for a notebook."""
        plan = self.plan
        about = {
            "folder": self.path,
            "preset": plan.preset,
            "images (C, H, W)": self.system.image_shape,
            "codes": len(self.system.code_names),
            "seed": plan.seed,
            "updates": self.step,
            "phase": self.system.phase,
        }
        scores = {name: entry["score"] for name, entry in (self.scores or {}).items()}
        logged = list(dict.fromkeys(k for line in self.log for k in line if k not in _KEYS))
        curves = {name: [ln[name] for ln in self.log if name in ln] for name in logged[:_CURVES]}
        return _html.block(
            f"{plan.system} on {plan.data}",
            _html.table(about.items()),
            _html.table(scores.items()),
            _html.table((name, _html.curve(values)) for name, values in curves.items()),
        )

    def save_pretrained(self, folder: str | Path, **options: Any) -> Path:
        """Write the system and the record of its training into a folder; return the folder.

        This writes weights, configuration and a model card in the Hugging Face hub's layout, for
        `pydisent.from_pretrained` to load. For the options see
        `pydisent.training.save_pretrained`.
        """
        return pretrained.save_pretrained(self, folder, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the same to the Hugging Face hub; see `pydisent.training.push_to_hub`."""
        return pretrained.push_to_hub(self, repo_id, **options)


def open_run(
    path: str | Path, device: str | torch.device = "cpu", *, step: int | None = None
) -> Run:
    """Open a run folder, finished or not, with the weights of a checkpoint.

    Parameters
    ----------
    path : path
        The run folder.
    device : device
        Device of the weights.
    step : int, optional
        Number of updates of the checkpoint; by default, the last checkpoint.

    Raises
    ------
    FileNotFoundError
        If the folder, its plan or a checkpoint is missing; the message says which.
    ValueError
        If a file is damaged or its format unknown.
    """
    folder = RunFolder(Path(path))
    folder.require_run()
    plan = folder.read_plan()
    if step is None:
        chosen = checkpoints.latest_checkpoint(folder.checkpoints)
    else:
        chosen = checkpoints.checkpoint_at(folder.checkpoints, step)
    if chosen is None:
        raise FileNotFoundError(
            f"{folder.path} has no checkpoint yet: its training stopped before the first one"
        )
    shape = checkpoints.read_state(chosen)["image_shape"]
    system = systems.build(plan.system, plan.config, tuple(shape)).to(device)
    state = checkpoints.load_weights(chosen, system, folder.plan_sum())
    return Run(
        path=folder.path,
        plan=plan,
        environment=folder.read_environment(),
        log=folder.read_log(),
        scores=folder.read_scores(state["step"]),
        system=system.eval(),
        step=state["step"],
    )


def updates(path: str | Path) -> tuple[int, int] | None:
    """Return the number of updates of a run's last checkpoint and of its whole plan.

    Parameters
    ----------
    path : path
        The run folder.

    Returns
    -------
    tuple of int or None
        Both numbers, equal if the run is finished; None if there is no checkpoint.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing or damaged.
    """
    folder = RunFolder(Path(path))
    latest = checkpoints.latest_checkpoint(folder.checkpoints, contents=False)
    if latest is None:
        return None
    plan, state = folder.read_plan(), checkpoints.read_state(latest)
    system = systems.build(plan.system, plan.config, tuple(state["image_shape"]))
    return state["step"], _planned(plan, system)


def _planned(plan: Plan, system: System) -> int:
    return sum(count for _, count in system.phases(plan.steps))
