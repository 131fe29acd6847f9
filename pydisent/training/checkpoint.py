"""Checkpoints: safetensors and JSON in a folder that appears whole or not at all."""

import base64
import hashlib
import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from pydisent._extras import optional
from pydisent._notice import warn
from pydisent.systems import System
from pydisent.training._files import (
    NUMBER,
    Types,
    check_count,
    check_fields,
    check_value,
    read_object,
    remove,
    sync,
    write_atomic,
    write_new,
)

with optional():
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file, save

FORMAT = 1
_WAYS = ("fused", "foreach", "capturable", "differentiable")
_TENSORS = ("model.safetensors", "optimizers.safetensors")
_STATE = "state.json"
_FIELDS: Types = {
    "format": (int,),
    "step": (int,),
    "image_shape": (list,),
    "attribute_names": (list,),
    "phase": (str,),
    "phase_step": (int,),
    "seconds": NUMBER,
    "rng": (list,),
    "optimizers": (dict,),
    "sha256": (dict,),
    "plan": (str,),
}
_LATER = ("attribute_names", "sha256", "plan")  # fields that the first checkpoints lack
_LARGEST_SIDE = 2**16  # pixels, of any image


def save_checkpoint(
    folder: Path,
    system: System,
    step: int,
    seconds: float,
    rng: list[Any],
    keep: int = 2,
    plan: str | None = None,
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
    plan : str or None
        `RunFolder.plan_sum()`, by which the checkpoint is told from those of other runs.
    """
    final = path_of(folder, step)
    temporary = folder / f".{final.name}.tmp"
    remove(temporary)
    temporary.mkdir(parents=True)
    moments, settings = _pack_optimizers(system.optimizers)
    weights = {key: _plain(value) for key, value in system.state_dict().items()}
    tensors = dict(zip(_TENSORS, (save(weights), save(moments))))
    state = {
        "format": FORMAT,
        "step": step,
        "image_shape": list(system.image_shape),
        "attribute_names": list(system.attribute_names),
        "phase": system.phase,
        "phase_step": system.phase_step,
        "seconds": seconds,
        "rng": rng,
        "optimizers": settings,
    }
    if plan is not None:
        state["plan"] = plan
    sums = {file: hashlib.sha256(data).hexdigest() for file, data in tensors.items()}
    state["sha256"] = {**sums, _STATE: _sum_of(state)}
    try:
        for file, data in {**tensors, _STATE: json.dumps(state).encode()}.items():
            write_new(temporary / file, data)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)  # it would keep a full disk full
        raise
    sync(temporary)
    os.rename(temporary, final)
    sync(folder)
    write_atomic(folder / "latest", final.name)
    for old in _kept(folder)[:-keep]:
        remove(old)
    return final


def latest_checkpoint(folder: Path, *, contents: bool = True) -> Path | None:
    """Return the newest whole checkpoint in `folder`, or None if there is none at all.

    The file `latest` tells people which it is; a stop may come before it is written.

    Parameters
    ----------
    folder : Path
        The run's checkpoints.
    contents : bool
        Whether tensors are read, to see that they are those that were written.

    Warns
    -----
    UserWarning
        Of each newer checkpoint that is damaged: which file, and how.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are checkpoints and none is whole; the message says why not.
    """
    whole, damaged = _newest(folder, contents)
    for path, error in damaged.items():
        warn(f"{error}: {path} is passed over, for {whole}")
    return whole


def _newest(folder: Path, contents: bool) -> tuple[Path | None, dict[Path, Exception]]:
    """Return the newest whole checkpoint, and what is wrong with those that are newer."""
    damaged: dict[Path, Exception] = {}
    for checkpoint in reversed(_kept(folder)):
        try:
            _check_whole(checkpoint, contents)
        except (ValueError, OSError) as error:
            damaged[checkpoint] = error
        else:
            return checkpoint, damaged
    if not damaged:
        return None, {}
    errors = list(damaged.values())
    kind = FileNotFoundError if isinstance(errors[0], FileNotFoundError) else ValueError
    raise kind(f"no checkpoint in {folder} is whole: {'; '.join(map(str, errors))}")


def _check_whole(checkpoint: Path, contents: bool) -> None:
    """Raise FileNotFoundError or ValueError, naming the file, unless a checkpoint is whole."""
    missing = [file for file in (*_TENSORS, _STATE) if not (checkpoint / file).exists()]
    if missing:
        raise FileNotFoundError(f"checkpoint {checkpoint} lacks {', '.join(missing)}")
    state = read_state(checkpoint)
    if contents:
        for file in _TENSORS:
            _check_tensors(checkpoint / file, state)


def _check_tensors(file: Path, state: dict[str, Any]) -> None:
    """Raise ValueError unless a file of tensors is what was written."""
    if not file.is_file():
        raise ValueError(f"{file} is not a file")
    try:
        # This looks at the header and at the size, all that can be known of an older checkpoint.
        with safe_open(file, "pt"):
            pass
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}") from None
    if "sha256" in state:
        with file.open("rb") as data:
            found = hashlib.file_digest(data, "sha256").hexdigest()
        if found != state["sha256"].get(file.name):
            raise ValueError(f"{file} is damaged: its checksum is not that in {_STATE}")


def path_of(folder: Path, step: int) -> Path:
    """Return where the checkpoint after so many updates is, or would be."""
    return folder / f"step-{step:08d}"


def _kept(folder: Path) -> list[Path]:
    """Return the checkpoints, whole or damaged, the oldest first."""
    return [path for path in _named_as_one(folder) if path.is_dir()]


def _named_as_one(folder: Path) -> list[Path]:
    """Return what is named as a checkpoint is, whatever it is: not copies such as step-20."""
    found = {path.name.removeprefix("step-") for path in folder.glob("step-*")}
    steps = sorted(int(digits) for digits in found if digits.isdecimal() and len(digits) < 20)
    paths = dict.fromkeys(path_of(folder, step) for step in steps)
    return [path for path in paths if path.name.removeprefix("step-") in found]


def steps_kept(folder: Path) -> list[int]:
    """Return the updates behind each checkpoint in `folder`, the oldest first."""
    return [int(path.name.removeprefix("step-")) for path in _kept(folder)]


def checkpoint_at(folder: Path, step: int) -> Path:
    """Return the checkpoint after so many updates; FileNotFoundError names those that are there.

    It is a ValueError, or a FileNotFoundError, if that one is damaged.
    """
    if step not in (kept := steps_kept(folder)):
        there = ", ".join(map(str, kept))
        raise FileNotFoundError(f"{folder} has no checkpoint of step {step}; there are: {there}")
    _check_whole(checkpoint := path_of(folder, step), contents=True)
    return checkpoint


def discard_unfinished(folder: Path) -> None:
    """Make a folder ready for the checkpoints after the newest whole one.

    What a stop left half written is deleted. Damaged checkpoints are renamed to damaged-step-N,
    as training comes to their steps again.

    Warns
    -----
    UserWarning
        Of each damaged checkpoint: which file, and how.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are checkpoints and none is whole; nothing has been changed then.
    """
    if (pointer := folder / "latest").is_dir():
        raise ValueError(f"{pointer} is a folder; accepted: a file")
    if os.path.lexists(folder) and not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; accepted: one, or none")
    whole, damaged = _newest(folder, contents=True)
    for path in _named_as_one(folder):
        if not path.is_dir():
            damaged[path] = ValueError(f"{path} is not a folder")
    for path, error in damaged.items():
        aside = path.with_name(f"damaged-{path.name}")
        remove(aside)
        path.rename(aside)
        warn(f"{error}: it is now in {aside}, and {whole or 'no other'} is used")
    for path in folder.glob(".step-*.tmp"):
        remove(path)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint holds beside tensors.

    Raises
    ------
    OSError, ValueError
        If the file is missing or damaged; the message names it.
    """
    file = checkpoint / _STATE
    state, source = read_object(file), str(file)
    if state.get("format") != FORMAT:
        raise ValueError(f"{file} has format {state.get('format')!r:.40}; accepted: {FORMAT}")
    check_fields(source, state, _FIELDS, optional=_LATER)
    if "sha256" in state and state["sha256"].get(_STATE) != _sum_of(state):
        raise ValueError(f"{file} is damaged: its checksum is not that in it")
    for name in ("step", "phase_step"):
        check_count(f"{source}: {name}", state[name])
    if path_of(checkpoint.parent, state["step"]).name != checkpoint.name:
        raise ValueError(f"{file} is of step {state['step']}")
    if state["seconds"] < 0:
        raise ValueError(f"{file}: seconds is {state['seconds']}; accepted: a number >= 0")
    for field, kind in (("image_shape", int), ("attribute_names", str), ("rng", dict)):
        for value in state.get(field, ()):
            check_value(f"{source}: an entry of {field}", value, (kind,))
    if len(state["image_shape"]) != 3:
        raise ValueError(f"{file}: image_shape is {state['image_shape']!r:.60}; accepted: 3 sides")
    for side in state["image_shape"]:
        check_count(f"{source}: an entry of image_shape", side, 1, _LARGEST_SIDE)
    return state


def _sum_of(state: dict[str, Any]) -> str:
    """Return the checksum of a state without its checksums."""
    rest = {name: value for name, value in state.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest).encode()).hexdigest()


def adopt(checkpoint: Path, folder: Path, plan: str) -> None:
    """Copy a checkpoint of another run into `folder`, as one of the plan with this sum.

    For a run that begins where another one ended, where both are alike up to there.
    """
    state = read_state(checkpoint) | {"plan": plan}
    if "sha256" in state:
        state["sha256"] |= {_STATE: _sum_of(state)}
    shutil.copytree(checkpoint, folder / checkpoint.name)
    write_atomic(folder / checkpoint.name / _STATE, json.dumps(state))
    write_atomic(folder / "latest", checkpoint.name)


def load_weights(checkpoint: Path, system: System, plan: str | None = None) -> dict[str, Any]:
    """Load the weights into `system`, put it in the saved phase, and return the saved state.

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
            f"{checkpoint / _STATE} is not of the plan in {config}: it is of another run, or that "
            "file has been changed"
        )
    _check_tensors(file := checkpoint / "model.safetensors", state)
    names = [phase for phase, _ in system.phases(1)]
    if state["phase"] not in names:
        raise ValueError(f"{checkpoint / _STATE} is in phase {state['phase']!r}; accepted: {names}")
    for phase in names[: names.index(state["phase"]) + 1]:
        system.start_phase(phase)
    weights = load_file(file, device=str(system.device))
    try:
        system.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{file} does not fit {system.name}: {error}") from None
    system.phase_step = state["phase_step"]
    system.attribute_names = tuple(state.get("attribute_names", ()))
    return state


def load_training(checkpoint: Path, system: System, plan: str | None = None) -> dict[str, Any]:
    """Load weights and optimisers into `system` and return the saved state.

    Raises
    ------
    OSError, ValueError
        See `load_weights`.
    """
    state = load_weights(checkpoint, system, plan)
    file = checkpoint / "optimizers.safetensors"
    _check_tensors(file, state)
    moments = load_file(file, device=str(system.device))
    with named(file):
        _unpack_optimizers(system.optimizers, moments, state["optimizers"])
    return state


@contextmanager
def named(file: Path) -> Iterator[None]:
    """Have an error of what a file holds say in which; it is a ValueError."""
    wrong = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except wrong as error:
        raise ValueError(f"{file} does not fit: {type(error).__name__}: {error}") from error


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
