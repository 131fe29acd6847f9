"""The files of checkpoints: their paths, and whether they are complete and intact."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydisent._extras import optional
from pydisent.training.files import (
    NUMBER,
    Types,
    check_count,
    check_fields,
    check_value,
    read_object,
)

with optional():
    from safetensors import SafetensorError, safe_open

FORMAT = 1
WEIGHTS, MOMENTS, STATE = "model.safetensors", "optimizers.safetensors", "state.json"
_FIELDS: Types = {
    "format": (int,),
    "step": (int,),
    "image_shape": (list,),
    "attribute_names": (list,),
    "left_out": (list,),
    "phase": (str,),
    "phase_step": (int,),
    "seconds": NUMBER,
    "rng": (list,),
    "optimizers": (dict,),
    "sha256": (dict,),
    "plan": (str,),
    "losses": (dict,),
}
# Missing from the oldest checkpoints.
_ADDED_LATER = ("attribute_names", "left_out", "sha256", "plan", "losses")
_LARGEST_SIDE = 2**16  # pixels


def path_of(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint at `step` updates, whether or not it exists."""
    return folder / f"step-{step:08d}"


def steps_kept(folder: Path) -> list[int]:
    """Return the number of updates of each checkpoint in `folder`, in ascending order."""
    return [int(path.name.removeprefix("step-")) for path in checkpoint_folders(folder)]


def checkpoint_folders(folder: Path) -> list[Path]:
    """Return the checkpoints, damaged or not, the oldest first."""
    return [path for path in named_as_checkpoints(folder) if path.is_dir()]


def named_as_checkpoints(folder: Path) -> list[Path]:
    """Return all paths named as checkpoints are, which copies such as step-20 are not."""
    found = {path.name.removeprefix("step-") for path in folder.glob("step-*")}
    steps = sorted(int(digits) for digits in found if digits.isdecimal() and len(digits) < 20)
    paths = dict.fromkeys(path_of(folder, step) for step in steps)
    return [path for path in paths if path.name.removeprefix("step-") in found]


def newest_undamaged(folder: Path, contents: bool) -> tuple[Path | None, dict[Path, Exception]]:
    """Return the newest undamaged checkpoint, and the errors of the newer ones.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are checkpoints and all are damaged.
    """
    damaged: dict[Path, Exception] = {}
    for checkpoint in reversed(checkpoint_folders(folder)):
        try:
            check_undamaged(checkpoint, contents)
        except (ValueError, OSError) as error:
            damaged[checkpoint] = error
        else:
            return checkpoint, damaged
    if not damaged:
        return None, {}
    errors = list(damaged.values())
    kind = FileNotFoundError if isinstance(errors[0], FileNotFoundError) else ValueError
    raise kind(f"no checkpoint in {folder} is intact: {'; '.join(map(str, errors))}")


def check_undamaged(checkpoint: Path, contents: bool) -> None:
    """Raise FileNotFoundError or ValueError, naming the file, if a checkpoint is damaged."""
    names = (WEIGHTS, MOMENTS, STATE)
    if missing := [file for file in names if not (checkpoint / file).exists()]:
        raise FileNotFoundError(f"checkpoint {checkpoint} lacks {', '.join(missing)}")
    state = read_state(checkpoint)
    if contents:
        for file in (WEIGHTS, MOMENTS):
            check_tensors(checkpoint / file, state)


def check_tensors(file: Path, state: dict[str, Any], source: str = STATE) -> None:
    """Raise ValueError unless a file of tensors has the checksum in the checkpoint's state."""
    if not file.is_file():
        raise ValueError(f"{file} is not a file")
    try:
        # Compares the header with the file size, the only check of files without checksums.
        with safe_open(file, "pt"):
            pass
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}") from None
    if "sha256" in state:
        with file.open("rb") as data:
            found = hashlib.file_digest(data, "sha256").hexdigest()
        if found != state["sha256"].get(file.name):
            raise ValueError(f"{file} is damaged: its checksum is not that in {source}")


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return a checkpoint's state: everything but its tensors.

    Raises
    ------
    OSError, ValueError
        If the file is missing or damaged; the message names it.
    """
    file = checkpoint / STATE
    state, source = read_object(file), str(file)
    if state.get("format") != FORMAT:
        raise ValueError(f"{file}: format must be {FORMAT}, got {state.get('format')!r:.40}")
    check_fields(source, state, _FIELDS, optional=_ADDED_LATER)
    if "sha256" in state and state["sha256"].get(STATE) != state_sum(state):
        raise ValueError(f"{file} is damaged: its checksum is not the one recorded in it")
    for name in ("step", "phase_step"):
        check_count(f"{source}: {name}", state[name])
    if path_of(checkpoint.parent, state["step"]).name != checkpoint.name:
        raise ValueError(f"{file} belongs to step {state['step']}")
    if state["seconds"] < 0:
        raise ValueError(f"{file}: seconds must be >= 0, got {state['seconds']}")
    for value in state["rng"]:
        check_value(f"{source}: an entry of rng", value, (dict,))
    for name, value in state.get("losses", {}).items():
        check_value(f"{source}: loss {name}", value, NUMBER)
    check_model(source, state)
    return state


def check_model(source: str, values: dict[str, Any]) -> None:
    """Raise ValueError unless image shape, attribute names and left-out parts are well-formed."""
    for field, kind in (("image_shape", int), ("attribute_names", str), ("left_out", str)):
        for value in values.get(field, ()):
            check_value(f"{source}: an entry of {field}", value, (kind,))
    if len(values["image_shape"]) != 3:
        raise ValueError(
            f"{source}: image_shape must have 3 entries, got {values['image_shape']!r:.60}"
        )
    for side in values["image_shape"]:
        check_count(f"{source}: an entry of image_shape", side, 1, _LARGEST_SIDE)


def state_sum(state: dict[str, Any]) -> str:
    """Return the checksum of a state without its own checksums."""
    rest = {name: value for name, value in state.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest).encode()).hexdigest()
