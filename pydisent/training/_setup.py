"""Set-up before the first update: the folder, the system and its data, the precision."""

import random
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import torch

from pydisent import data, parallel, systems
from pydisent._environment import environment
from pydisent._notice import warn_once
from pydisent._precision import has_native_bf16
from pydisent.systems import System
from pydisent.systems.precision import chosen_precision
from pydisent.training import checkpoint as checkpoints
from pydisent.training.files import write_json
from pydisent.training.folder import RunFolder
from pydisent.training.memory import keep_freed_memory
from pydisent.training.plan import Plan, check_resumable


def build(plan: Plan) -> tuple[System, data.ImageDataset]:
    """Return the untrained system and its training images."""
    dataset = data.load(**plan.data_arguments())
    dataset, _ = data.hold_out(dataset, plan.held_out)
    system = systems.build(plan.system, plan.config, dataset.image_shape)
    _check_attributes(system, dataset)
    system.dataset_size = len(dataset)
    system.attribute_names = dataset.attribute_names
    return system, dataset


def precision_of(
    plan: Plan, folder: RunFolder, kept: str | None, device: torch.device
) -> str | None:
    """Return the precision of a run on all processes; None if its system has no such setting.

    A resumed run keeps its original precision, `kept`, which rank 0 has read.
    """
    asked = getattr(plan.config, "precision", None)
    if asked is None:
        return None
    order = (None, "fp32", "bf16")
    if found := order[parallel.highest(order.index(kept))]:
        if found == "bf16" and not has_native_bf16(device):
            warn_once(
                f"{folder.path} was started in bf16 and continues in it; this {device.type} has no "
                "native bf16, and is 7 to 100 times slower in it than in fp32"
            )
        return found
    own = chosen_precision(asked, device)
    return "fp32" if parallel.highest(int(own == "fp32")) else "bf16"


def begin_folder(
    plan: Plan,
    folder: RunFolder,
    resume: bool,
    overwrite: bool,
    locks: ExitStack,
    precision: str | None,
) -> Callable[[], bool]:
    """Create or clear the folder, lock it, and write the plan and the environment.

    Returns a function that checks whether the folder still exists.
    """
    if parallel.rank() > 0:
        return lambda: True
    is_there = None
    if folder.path.is_dir():
        is_there = locks.enter_context(folder.locked())
        check_free(plan, folder, resume, overwrite)  # it may have changed before it was locked
        if folder.is_run() and not resume:
            folder.clear()
            is_there = None  # the lock file was deleted with it
    if is_there is None:
        folder.path.resolve().mkdir(parents=True, exist_ok=True)
        is_there = locks.enter_context(folder.locked())
        check_free(plan, folder, resume, overwrite=False)
    checkpoints.discard_unfinished(folder.checkpoints)
    if resume:
        _check_not_lost(plan, folder)
    if not folder.is_run():
        write_json(folder.config, plan.to_json())
    trained_in = {"precision": precision} if precision else {}
    write_json(folder.environment, environment() | {"devices": parallel.processes(), **trained_in})
    return is_there


def _check_not_lost(plan: Plan, folder: RunFolder) -> None:
    """Raise FileNotFoundError if a run has lost its saved checkpoints."""
    if checkpoints.steps_kept(folder.checkpoints):
        return
    log = folder.read_log()
    # Training may stop at the step of the first checkpoint before saving it.
    went_on = bool(log) and log[-1]["step"] > plan.checkpoint_every
    if went_on or (folder.checkpoints / "latest").exists():
        raise FileNotFoundError(
            f"{folder.checkpoints} has no checkpoint, though the run has been saved there; put one "
            "back, or start over with --overwrite"
        )


def check_free(plan: Plan, folder: RunFolder, resume: bool, overwrite: bool) -> None:
    """Raise ValueError or FileExistsError unless the run may be written into the folder."""
    if resume and overwrite:
        raise ValueError("resume and overwrite must not both be given")
    if resume and folder.is_run():
        check_resumable(folder.path, folder.read_plan().to_json(), plan.to_json())
    elif overwrite and folder.is_run():
        return
    elif not folder.is_free():
        raise FileExistsError(
            f"{folder.path} exists already"
            + (
                ": continue it with --resume, replace it with --overwrite, or choose another folder"
                if folder.is_run()
                else " and is not a run folder, as it has no config.json: choose another"
            )
        )


def _check_attributes(system: System, dataset: data.ImageDataset) -> None:
    """Raise ValueError unless the data has the attributes that the system needs."""
    if not system.needs_attributes:
        return
    if dataset.attributes is None:
        accepted = ", ".join(map(repr, data.WITH_ATTRIBUTES))
        raise ValueError(
            f"data must be one of {accepted} for {system.name}, which learns from attributes, got "
            f"{dataset.name!r}"
        )
    wanted, there = system.config.attributes, dataset.attributes.shape[1]
    if wanted != there:
        raise ValueError(
            f"attributes must be {there} for {dataset.name!r} (--set attributes={there}), "
            f"got {wanted}"
        )


def prepare(seed: int, device: torch.device) -> None:
    """Seed every generator, make arithmetic deterministic, and avoid slow denormals."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
    if device.type == "cpu":
        # Weights and moments that decay to denormals at least halve the speed.
        torch.set_flush_denormal(True)
        keep_freed_memory()
    else:
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True


def describe_precision(precision: str, device: torch.device) -> str:
    """Return the line that announces the precision."""
    native = "native" if has_native_bf16(device) else "not native"
    return f"precision: {precision} (bf16 is {native} on this {device.type})"
