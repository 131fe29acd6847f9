"""Trained systems in folders and on the Hugging Face hub; see `pydisent.systems.pretrained`."""

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pydisent import systems
from pydisent._checks import check, shown
from pydisent._extras import optional
from pydisent.systems import System
from pydisent.systems.pretrained import CARD, CONFIG, FORMAT, LIBRARY, WEIGHTS, write_pretrained
from pydisent.training._checkpoint_files import check_model, check_tensors
from pydisent.training.checkpoint import restore
from pydisent.training.files import Types, check_count, check_fields, check_value, read_object
from pydisent.training.plan import completed

if TYPE_CHECKING:
    from pydisent.training.run import Run

_NONE = type(None)
_FIELDS: Types = {
    "format": (int,),
    "library": (str,),
    "version": (str,),
    "system": (str,),
    "config": (dict,),
    "image_shape": (list,),
    "phase": (str,),
    "phase_step": (int,),
    "attribute_names": (list,),
    "left_out": (list,),
    "dtype": (str, _NONE),
    "sha256": (str,),
    "plan": (dict, _NONE),
    "step": (int, _NONE),
    "seconds": (int, float, _NONE),
    "scores": (dict, _NONE),
    "environment": (dict, _NONE),
}
_ADDED_LATER = ("left_out", "dtype", "seconds")
_PRIVATE = ("data_path", "factors", "command")  # fields of a plan with paths of its machine
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


def from_pretrained(
    source: str | Path, *, device: str | torch.device = "cpu", revision: str | None = None
) -> System:
    """Load a system written by `save_pretrained` or `push_to_hub`, without running any code in it.

    Parameters
    ----------
    source : path or str
        A folder; or, if no such folder exists, ``"user/name"`` on the Hugging Face hub, from which
        the format's three files are downloaded.
    device : device
        Device of the weights.
    revision : str, optional
        Branch, tag or commit on the hub.

    Returns
    -------
    System
        In eval mode, with `encode`, `decode`, `sample_code` and `code_names`.

    Raises
    ------
    FileNotFoundError
        If `source` is neither, or a file is missing; the message names it.
    ValueError
        If a file is damaged, or from another library or format; the message names it.
    """
    folder = Path(source)
    on_hub = isinstance(source, str) and _REPOSITORY.fullmatch(source) is not None
    if folder.exists() or not on_hub:
        check(revision is None, "revision", "None for a folder", shown(revision))
        return read_pretrained(folder, device)
    with optional("a system from the Hugging Face hub"):
        from huggingface_hub import snapshot_download

    files = [WEIGHTS, CONFIG, CARD]
    folder = Path(snapshot_download(str(source), revision=revision, allow_patterns=files))
    return read_pretrained(folder, device)


def read_pretrained(folder: Path, device: str | torch.device = "cpu") -> System:
    """Load a system from a folder in this format; see `from_pretrained`."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"source must be a folder or 'user/name' on the Hugging Face hub, got {folder}"
        )
    values = read_description(folder)
    file = folder / CONFIG
    check_tensors(folder / WEIGHTS, {"sha256": {WEIGHTS: values["sha256"]}}, CONFIG)
    try:
        default = systems.config_class(values["system"])()
        config = systems.override(default, values["config"])
        channels, height, width = values["image_shape"]
        system = systems.build(values["system"], config, (channels, height, width)).to(device)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    restore(system, folder / WEIGHTS, values, str(file))
    return system.eval()


def read_description(folder: Path) -> dict[str, Any]:
    """Return the checked description of a system: the folder's `config.json`.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, damaged, or from another library or format; the message names it.
    """
    file = folder / CONFIG
    values, source = read_object(file), str(file)
    if values.get("library") != LIBRARY:
        hint = ""
        if (folder / "checkpoints").is_dir():
            hint = "; a run folder is opened by pydisent.training.open_run"
        raise ValueError(
            f"{file}: library must be {LIBRARY!r}, got {values.get('library')!r:.40}{hint}"
        )
    if values.get("format") != FORMAT:
        raise ValueError(f"{file}: format must be {FORMAT}, got {values.get('format')!r:.40}")
    check_fields(source, values, _FIELDS, optional=_ADDED_LATER)
    values["config"] = completed(values)["config"]
    check_model(source, values)
    check_count(f"{source}: phase_step", values["phase_step"])
    for name, value in values["config"].items():
        check_value(f"{source}: config: {name}", value, (int, float, bool, str, _NONE))
    return values


def save_pretrained(
    model: "System | Run",
    folder: str | Path,
    *,
    license: str | None = None,
    source: str | None = None,
    inference_only: bool = False,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a system, or a run's with the record of its training, into a folder; return the folder.

    Parameters
    ----------
    model : System or Run
        For a run, its plan, updates, time, scores and machine are also recorded, without paths.
    folder, license, source, inference_only, dtype
        As for `pydisent.systems.pretrained.write_pretrained`.

    Raises
    ------
    ValueError
        If the folder is a file, the licence is not a name, or a weight exceeds the range of
        `dtype`.
    """
    how: dict[str, Any] = {
        "license": license,
        "source": source,
        "inference_only": inference_only,
        "dtype": dtype,
    }
    if isinstance(model, System):
        return write_pretrained(model, folder, **how)
    plan = {k: v for k, v in model.plan.to_json().items() if k not in _PRIVATE}
    plan["note"] = model.plan.remark()
    scores = {name: float(entry["score"]) for name, entry in (model.scores or {}).items()}
    training = {
        "plan": plan,
        "step": model.step,
        "seconds": model.log[-1]["seconds"] if model.log else None,
        "scores": scores,
        "environment": {k: v for k, v in model.environment.items() if k != "backends"},
    }
    return write_pretrained(model.system, folder, training=training, **how)


def push_to_hub(
    model: "System | Run",
    repo_id: str,
    *,
    license: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    inference_only: bool = False,
    dtype: torch.dtype | None = None,
    commit_message: str = "Upload a system of pydisent",
    api: Any = None,
) -> str:
    """Upload a system, or a run's, to the Hugging Face hub; return its address.

    This uses `huggingface_hub` and its login token.

    Parameters
    ----------
    model : System or Run
        As for `save_pretrained`.
    repo_id : str
        ``"user/name"``; created if it does not exist.
    license : str, optional
        Licence of the weights, by its name on the hub.
    private : bool, optional
        Whether a new repository is private; None for the account's default.
    revision : str, optional
        The branch to upload to.
    inference_only, dtype
        As for `save_pretrained`.
    commit_message : str
        Message of the upload's commit.
    api : object, optional
        Used in place of a `huggingface_hub.HfApi()`.

    Raises
    ------
    ValueError
        If `repo_id` or the licence is not a valid name.
    """
    named = isinstance(repo_id, str) and _REPOSITORY.fullmatch(repo_id) is not None
    check(named, "repo_id", "'user/name' of letters, digits, dots and dashes", shown(repo_id))
    if api is None:
        with optional("an upload to the Hugging Face hub"):
            from huggingface_hub import HfApi

        api = HfApi()
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_pretrained(
            model,
            Path(temporary),
            license=license,
            source=repo_id,
            inference_only=inference_only,
            dtype=dtype,
        )
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            folder_path=str(folder),
            revision=revision,
            commit_message=commit_message,
        )
    return str(address)
