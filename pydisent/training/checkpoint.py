"""Checkpoints: folders of safetensors and JSON, written atomically."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pydisent._atomic import remove, sync, write_atomic, write_new
from pydisent._checks import check_one_of
from pydisent._extras import optional
from pydisent._notice import warn
from pydisent.systems import System
from pydisent.training._checkpoint_files import (
    FORMAT,
    MOMENTS,
    STATE,
    WEIGHTS,
    check_tensors,
    check_undamaged,
    checkpoint_folders,
    named_as_checkpoints,
    newest_undamaged,
    path_of,
    read_state,
    state_sum,
    steps_kept,
)
from pydisent.training._optimizer_state import own_storage, pack_optimizers, unpack_optimizers
from pydisent.training._rng import rng_state, set_rng_state

with optional():
    from safetensors.torch import load_file, save

__all__ = [
    "adopt",
    "checkpoint_at",
    "discard_unfinished",
    "latest_checkpoint",
    "load_training",
    "load_weights",
    "named",
    "path_of",
    "read_state",
    "restore",
    "rng_state",
    "save_checkpoint",
    "set_rng_state",
    "steps_kept",
]


def save_checkpoint(
    folder: Path,
    system: System,
    step: int,
    seconds: float,
    rng: list[Any],
    keep: int = 2,
    plan: str | None = None,
    losses: Mapping[str, float] | None = None,
) -> Path:
    """Write checkpoint `step` into `folder`, point `latest` at it, and delete the oldest ones.

    Parameters
    ----------
    folder : Path
        The run's checkpoints.
    system : System
        Its weights, optimisers, phase and phase step are saved.
    step : int
        Updates so far, over all phases.
    seconds : float
        Training time so far.
    rng : list
        `rng_state()` of one process; all processes of a run share the same state.
    keep : int
        Number of checkpoints to keep.
    plan : str or None
        `RunFolder.plan_sum()`, which identifies the run that the checkpoint belongs to.
    losses : mapping of str to float, optional
        The losses that the next log line will hold unless later updates have them too.
    """
    final = path_of(folder, step)
    temporary = folder / f".{final.name}.tmp"
    remove(temporary)
    temporary.mkdir(parents=True)
    # A system without all its parts cannot be trained on, and has no optimisers.
    moments, settings = pack_optimizers({} if system.left_out else system.optimizers)
    weights = {key: own_storage(value) for key, value in system.state_dict().items()}
    tensors = {WEIGHTS: save(weights), MOMENTS: save(moments)}
    state = {
        "format": FORMAT,
        "step": step,
        "image_shape": list(system.image_shape),
        "attribute_names": list(system.attribute_names),
        "left_out": list(system.left_out),
        "phase": system.phase,
        "phase_step": system.phase_step,
        "seconds": seconds,
        "rng": rng,
        "optimizers": settings,
        "losses": dict(losses or {}),
    }
    if plan is not None:
        state["plan"] = plan
    sums = {file: hashlib.sha256(data).hexdigest() for file, data in tensors.items()}
    state["sha256"] = {**sums, STATE: state_sum(state)}
    try:
        for file, data in {**tensors, STATE: json.dumps(state).encode()}.items():
            write_new(temporary / file, data)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)  # the disk may be full
        raise
    sync(temporary)
    os.rename(temporary, final)
    sync(folder)
    write_atomic(folder / "latest", final.name)
    for old in checkpoint_folders(folder)[:-keep]:
        remove(old)
    return final


def latest_checkpoint(folder: Path, *, contents: bool = True) -> Path | None:
    """Return the newest intact checkpoint in `folder`, or None if there are no checkpoints.

    The file `latest` is not read: it is informative, and training may stop before it is updated.

    Parameters
    ----------
    folder : Path
        The run's checkpoints.
    contents : bool
        Whether to verify the checksums of the tensors.

    Warns
    -----
    UserWarning
        For each newer, damaged checkpoint: the file, and the damage.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are checkpoints and all are damaged.
    """
    whole, damaged = newest_undamaged(folder, contents)
    for path, error in damaged.items():
        warn(f"{error}: {path} is skipped in favour of {whole}")
    return whole


def checkpoint_at(folder: Path, step: int) -> Path:
    """Return the checkpoint at `step` updates.

    Raises
    ------
    FileNotFoundError
        If there is none; the message lists the existing ones.
    FileNotFoundError, ValueError
        If it is damaged.
    """
    if step not in (kept := steps_kept(folder)):
        there = ", ".join(map(str, kept))
        raise FileNotFoundError(f"{folder} has no checkpoint of step {step}, only {there}")
    check_undamaged(checkpoint := path_of(folder, step), contents=True)
    return checkpoint


def discard_unfinished(folder: Path) -> None:
    """Prepare a folder for the checkpoints after the newest undamaged one.

    Half-written checkpoints are deleted. Damaged ones are renamed to damaged-step-N, since
    training will reach their steps again.

    Warns
    -----
    UserWarning
        For each damaged checkpoint: the file, and the damage.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are checkpoints and all are damaged; nothing is changed in that case.
    """
    if (pointer := folder / "latest").is_dir():
        raise ValueError(f"{pointer} must be a file, got a folder")
    if os.path.lexists(folder) and not folder.is_dir():
        raise ValueError(f"{folder} must be a folder or absent")
    whole, damaged = newest_undamaged(folder, contents=True)
    for path in named_as_checkpoints(folder):
        if not path.is_dir():
            damaged[path] = ValueError(f"{path} is not a folder")
    for path, error in damaged.items():
        aside = path.with_name(f"damaged-{path.name}")
        remove(aside)
        path.rename(aside)
        warn(f"{error}: it has been moved to {aside}, and {whole or 'no other'} is used")
    for path in folder.glob(".step-*.tmp"):
        remove(path)


def adopt(checkpoint: Path, folder: Path, plan: str) -> None:
    """Copy another run's checkpoint into `folder`, for the plan with this checksum.

    For runs that share their first updates with another run.
    """
    state = read_state(checkpoint) | {"plan": plan}
    if "sha256" in state:
        state["sha256"] |= {STATE: state_sum(state)}
    shutil.copytree(checkpoint, folder / checkpoint.name)
    write_atomic(folder / checkpoint.name / STATE, json.dumps(state))
    write_atomic(folder / "latest", checkpoint.name)


def load_weights(checkpoint: Path, system: System, plan: str | None = None) -> dict[str, Any]:
    """Load weights into `system`, put it in the saved phase, and return the saved state.

    Raises
    ------
    OSError, ValueError
        If the checkpoint is damaged, belongs to another system or configuration, or, where `plan`
        (`RunFolder.plan_sum()`) is given, to another run.
    """
    state = read_state(checkpoint)
    if plan is not None and state.get("plan", plan) != plan:
        config = checkpoint.parent.with_name("config.json")
        raise ValueError(
            f"{checkpoint / STATE} does not belong to the plan in {config}: it is from another "
            "run, or that file has been changed"
        )
    check_tensors(file := checkpoint / WEIGHTS, state)
    restore(system, file, state, str(checkpoint / STATE))
    return state


def restore(system: System, file: Path, state: dict[str, Any], source: str) -> None:
    """Load checked weights into `system`, in the phase of a `state` read from `source`.

    Raises
    ------
    ValueError
        If there is no such phase, or the weights do not fit.
    """
    names = [phase for phase, _ in system.phases(1)]
    check_one_of(f"{source}: phase", state["phase"], names)
    for phase in names[: names.index(state["phase"]) + 1]:
        system.start_phase(phase)
    try:
        system.leave_out(state.get("left_out", ()))
    except ValueError as error:
        raise ValueError(f"{source}: left_out: {error}") from None
    weights = load_file(file, device=str(system.device))
    try:
        system.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{file} does not fit {system.name}: {error}") from None
    system.phase_step = state["phase_step"]
    system.attribute_names = tuple(state.get("attribute_names", ()))


def load_training(checkpoint: Path, system: System, plan: str | None = None) -> dict[str, Any]:
    """Load weights and optimisers into `system` and return the saved state; see `load_weights`."""
    state = load_weights(checkpoint, system, plan)
    optimizers = system.optimizers  # refuses a system without all its parts
    file = checkpoint / MOMENTS
    check_tensors(file, state)
    moments = load_file(file, device=str(system.device))
    with named(file):
        unpack_optimizers(optimizers, moments, state["optimizers"])
    return state


@contextmanager
def named(file: Path) -> Iterator[None]:
    """Turn errors about the contents of a file into a ValueError that names it."""
    wrong = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except wrong as error:
        raise ValueError(f"{file} does not fit: {type(error).__name__}: {error}") from error
