"""Checkpoints: safetensors and JSON in a folder that appears whole or not at all."""

import base64
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from pydisent._extras import optional
from pydisent.systems import System
from pydisent.training._files import read_json, sync, write_atomic

with optional():
    from safetensors.torch import load_file, save


_WAYS = ("fused", "foreach", "capturable", "differentiable")
_FILES = ("model.safetensors", "optimizers.safetensors", "state.json")


def save_checkpoint(
    folder: Path, system: System, step: int, seconds: float, rng: list[Any], keep: int = 2
) -> Path:
    """Write checkpoint `step` into `folder`, point `latest` at it, and keep the newest few.

    Parameters
    ----------
    folder : Path
        The run's checkpoints.
    system : System
        Its weights, optimisers, phase and phase step are saved.
    step : int
        Updates done over all phases.
    seconds : float
        Training time so far.
    rng : list
        `rng_state()` of a process: all that train together are in the same.
    keep : int
        How many checkpoints stay.
    """
    name = f"step-{step:08d}"
    temporary, final = folder / f".{name}.tmp", folder / name
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    moments, settings = _pack_optimizers(system.optimizers)
    state = {
        "format": 1,
        "step": step,
        "image_shape": list(system.image_shape),
        "attribute_names": list(system.attribute_names),
        "phase": system.phase,
        "phase_step": system.phase_step,
        "seconds": seconds,
        "rng": rng,
        "optimizers": settings,
    }
    weights = {key: _plain(value) for key, value in system.state_dict().items()}
    for file, data in zip(_FILES, (save(weights), save(moments), json.dumps(state).encode())):
        (temporary / file).write_bytes(data)
        sync(temporary / file)
    sync(temporary)
    os.rename(temporary, final)
    sync(folder)
    write_atomic(folder / "latest", name)
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return final


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint in `folder`, or None."""
    pointer = folder / "latest"
    if not pointer.is_file():
        return None
    checkpoint = folder / Path(pointer.read_text().strip()).name
    missing = [file for file in _FILES if not (checkpoint / file).is_file()]
    if missing:
        raise FileNotFoundError(f"checkpoint {checkpoint} lacks {', '.join(missing)}")
    return checkpoint


def steps_kept(folder: Path) -> list[int]:
    """Return the updates behind each checkpoint in `folder`, the oldest first."""
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


def checkpoint_at(folder: Path, step: int) -> Path:
    """Return the checkpoint after so many updates; FileNotFoundError names those that are there."""
    if step not in (kept := steps_kept(folder)):
        there = ", ".join(map(str, kept))
        raise FileNotFoundError(f"{folder} has no checkpoint of step {step}; there are: {there}")
    return folder / f"step-{step:08d}"


def discard_unfinished(folder: Path) -> None:
    """Delete what a stop left half written: temporaries, and checkpoints past `latest`."""
    newest = latest_checkpoint(folder)
    for path in [*folder.glob(".*.tmp"), *folder.glob("step-*")]:
        if path.is_dir() and (newest is None or path.name > newest.name or path.name[0] == "."):
            shutil.rmtree(path)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint holds beside tensors."""
    return read_json(checkpoint / "state.json")


def load_weights(checkpoint: Path, system: System) -> dict[str, Any]:
    """Load the weights into `system`, put it in the saved phase, and return the saved state.

    Raises
    ------
    ValueError
        If the checkpoint belongs to another system or configuration.
    """
    state = read_state(checkpoint)
    names = [phase for phase, _ in system.phases(1)]
    if state["phase"] not in names:
        raise ValueError(f"{checkpoint} is in phase {state['phase']!r}; accepted: {names}")
    for phase in names[: names.index(state["phase"]) + 1]:
        system.start_phase(phase)
    weights = load_file(checkpoint / "model.safetensors", device=str(system.device))
    try:
        system.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{checkpoint} does not fit {system.name}: {error}") from None
    system.phase_step = state["phase_step"]
    system.attribute_names = tuple(state.get("attribute_names", ()))
    return state


def load_training(checkpoint: Path, system: System) -> dict[str, Any]:
    """Load weights and optimisers into `system` and return the saved state."""
    state = load_weights(checkpoint, system)
    moments = load_file(checkpoint / "optimizers.safetensors", device=str(system.device))
    _unpack_optimizers(system.optimizers, moments, state["optimizers"])
    return state


def rng_state() -> dict[str, Any]:
    """Return the states of the generators of Python, NumPy and torch as plain values.

    Of GPUs the state is that of the current one.
    """
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, [int(key) for key in keys], *rest],
        "torch": _to_text(torch.get_rng_state()),
        "cuda": [_to_text(state) for state in cuda],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore what `rng_state` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(_from_text(state["torch"]))
    if torch.cuda.is_available() and state["cuda"]:
        torch.cuda.set_rng_state(_from_text(state["cuda"][0]))


def _to_text(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()


def _from_text(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)


def _plain(tensor: Tensor) -> Tensor:
    """Return a copy that shares no storage, as the format requires."""
    return tensor.detach().clone().contiguous()


def _pack_optimizers(optimizers: dict[str, Optimizer]) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors by "optimizer/parameter/moment", and the rest as plain values."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        values: dict[str, dict[str, Any]] = {}
        for index, moments in state["state"].items():
            values[str(index)] = {}
            for key, value in moments.items():
                if isinstance(value, Tensor):
                    tensors[f"{name}/{index}/{key}"] = _plain(value)
                else:
                    values[str(index)][key] = value
        rest[name] = {"state": values, "param_groups": state["param_groups"]}
    return tensors, rest


def _unpack_optimizers(
    optimizers: dict[str, Optimizer], tensors: dict[str, Tensor], rest: dict[str, Any]
) -> None:
    for name, optimizer in optimizers.items():
        own = [{flag: group.get(flag) for flag in _WAYS} for group in optimizer.param_groups]
        state = {int(index): dict(values) for index, values in rest[name]["state"].items()}
        for path, tensor in tensors.items():
            owner, index, key = path.split("/", 2)
            if owner == name:
                state[int(index)][key] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": rest[name]["param_groups"]})
        # How a step is computed is this program's choice, and this device's.
        for group, ways in zip(optimizer.param_groups, own):
            group.update({flag: way for flag, way in ways.items() if flag in group})
        _lay_out_alike(optimizer)


def _lay_out_alike(optimizer: Optimizer) -> None:
    """Give moments the memory layout of their weights: fused steps walk both in memory's order."""
    for parameter, moments in optimizer.state.items():
        for key, value in moments.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                moments[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
