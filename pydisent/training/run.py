"""A finished or unfinished run, opened for use."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from pydisent import data, systems
from pydisent.data import ImageDataset
from pydisent.systems import System
from pydisent.training import checkpoint as checkpoints
from pydisent.training.folder import RunFolder


@dataclass
class Run:
    """What a run folder holds.

    Attributes
    ----------
    path : Path
        The folder.
    config : dict
        `config.json`.
    environment : dict
        `environment.json`.
    log : list of dict
        The lines of `log.jsonl`.
    scores : dict or None
        `scores.json`.
    system : System
        With the last checkpoint's weights, in eval mode.
    step : int
        Updates behind those weights.
    loaded : ImageDataset or None
        All images of its data, at its image size, if they have been loaded before.
    """

    path: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    log: list[dict[str, Any]]
    scores: dict[str, Any] | None
    system: System
    step: int
    loaded: ImageDataset | None = field(default=None, repr=False, compare=False)

    @cached_property
    def _parts(self) -> tuple[ImageDataset, ImageDataset | None]:
        loaded = data.load(**self._source) if self.loaded is None else self.loaded
        return data.hold_out(loaded, self.config.get("held_out", 0.0))

    @property
    def _source(self) -> dict[str, Any]:
        """Return the arguments of `pydisent.data.load`."""
        return {
            "name": self.config["data"],
            "path": self.config["data_path"],
            "image_size": self.config["image_size"],
            "partial": self.config.get("partial", False),
        }

    @property
    def dataset(self) -> ImageDataset:
        """Return the data set that the run trained on, at its image size."""
        return self._parts[0]

    @cached_property
    def held_out(self) -> ImageDataset | None:
        """Return images of the same data that it did not train on; None if there are none.

        They are those held out, or else the data's official test part.
        """
        if self.config.get("held_out", 0.0):
            return self._parts[1]
        return data.load_test(**self._source)


def open_run(
    path: str | Path, device: str | torch.device = "cpu", *, step: int | None = None
) -> Run:
    """Open a run folder with the weights of a checkpoint; it may be unfinished.

    Parameters
    ----------
    path : path
        The run folder.
    device : device
        Where the weights go.
    step : int, optional
        The updates behind the checkpoint; the last one's by default.

    Raises
    ------
    FileNotFoundError
        If the folder, its plan or a checkpoint is missing; the message says which.
    ValueError
        If a file is damaged or its format is another.
    """
    folder = RunFolder(Path(path))
    folder.require_run()
    config, plan = folder.read_config(), folder.read_plan()
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
        config=config,
        environment=folder.read_environment(),
        log=folder.read_log(),
        scores=folder.read_scores(),
        system=system.eval(),
        step=state["step"],
    )


def updates(path: str | Path) -> tuple[int, int] | None:
    """Return the updates behind a run's last checkpoint, and those of its whole plan.

    Parameters
    ----------
    path : path
        The run folder.

    Returns
    -------
    tuple of int or None
        They are equal when the run is finished; None if there is no checkpoint.

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
    return state["step"], sum(count for _, count in system.phases(plan.steps))
