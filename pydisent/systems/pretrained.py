"""Trained systems as shareable folders: weights, configuration and a model card.

The layout is that of the Hugging Face hub: `model.safetensors`, `config.json` and `README.md`.
`pydisent.from_pretrained` reads it; it contains no code, and nothing is executed.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import pydisent
from pydisent._atomic import replacing, write_atomic, write_new
from pydisent._checks import check, shown
from pydisent._extras import optional

FORMAT = 1
LIBRARY = "pydisent"
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
#: Rows of the card's training table, by field of a plan.
_PLAN = {
    "data": "data set",
    "split": "part of it",
    "preset": "preset",
    "seed": "seed",
    "steps": "updates of the first phase",
    "held_out": "share of images held out",
    "note": "note",
}
_KNOWN = ("plan", "step", "seconds", "scores", "environment")
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_MACHINE = ("pydisent", "torch", "python", "platform", "cpu", "gpu", "threads", "devices")


def write_pretrained(
    system: Any,
    folder: str | Path,
    *,
    training: Mapping[str, Any] | None = None,
    license: str | None = None,
    source: str | None = None,
    inference_only: bool = False,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a system into a folder, created if necessary; return the folder.

    A previously saved system is replaced, and kept if the disk is full. The configuration, with the
    weights' checksum, is replaced first, so that reading detects an interrupted write.

    Parameters
    ----------
    system : System
        The system, of which weights, configuration, phase and attribute names are written.
    folder : path
        The folder.
    training : mapping, optional
        Record of its training: ``plan``, ``step``, ``seconds``, ``scores`` (numbers by metric) and
        ``environment``, plain values for the configuration and the card.
    license : str, optional
        Licence of the weights, by its name on the hub, such as ``"cc-by-4.0"``; if None, the card
        says that none is stated.
    source : str, optional
        The name that the card's example loads from; the folder's name by default.
    inference_only : bool
        Whether to leave out the system's `training_parts`, without which it cannot be trained
        further.
    dtype : dtype, optional
        Dtype in which parameters are stored; by default their own. Buffers keep theirs.

    Raises
    ------
    ValueError
        If the folder is a file or has files of these names that do not belong to a saved system,
        the licence is not a name, or a weight exceeds the range of `dtype`.
    """
    folder = Path(folder)
    _check_free(folder)
    named = license is None or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", license) is not None
    check(named, "license", "the name of a licence, such as 'cc-by-4.0'", shown(license))
    with optional("a saved system"):
        from safetensors.torch import save

    left_out = tuple(system.training_parts if inference_only else system.left_out)
    own = _tensors(system, left_out, dtype)
    weights = save(own, metadata={"format": "pt"})
    known = dict(training or {})
    values = {
        "format": FORMAT,
        "library": LIBRARY,
        "version": pydisent.__version__,
        "system": system.name,
        "config": dataclasses.asdict(system.config),
        "image_shape": list(system.image_shape),
        "phase": system.phase,
        "phase_step": system.phase_step,
        "attribute_names": list(system.attribute_names),
        "left_out": list(left_out),
        "dtype": None if dtype is None else str(dtype).removeprefix("torch."),
        "sha256": hashlib.sha256(weights).hexdigest(),
        **{name: known.get(name) for name in _KNOWN},
    }
    card = model_card(values, license=license, source=source or folder.resolve().name)
    folder.mkdir(parents=True, exist_ok=True)
    # The weights are on the disk, which may be full, before anything is replaced.
    with replacing(folder / WEIGHTS) as temporary:
        write_new(temporary, weights)
        write_atomic(folder / CONFIG, json.dumps(values, indent=2) + "\n")
    write_atomic(folder / CARD, card)
    return folder


def _tensors(
    system: Any, left_out: Sequence[str], dtype: torch.dtype | None
) -> dict[str, torch.Tensor]:
    """Return copies of all tensors except those of left-out parts, with parameters in `dtype`."""
    check(dtype is None or dtype in _DTYPES, "dtype", f"None or one of {_DTYPES}", dtype)
    parameters = {name for name, _ in system.named_parameters(remove_duplicate=False)}
    tensors = {}
    for name, value in system.state_dict().items():
        if name.partition(".")[0] in left_out:
            continue
        kept = value.detach().to("cpu", copy=True)
        if dtype is not None and name in parameters and kept.is_floating_point():
            stored = kept.to(dtype)
            within = bool((stored.isfinite() | ~kept.isfinite()).all())
            largest = float(kept.nan_to_num(0, 0, 0).abs().max()) if len(kept.flatten()) else 0.0
            check(within, "dtype", f"one that holds {name}, up to {largest:.3g}", dtype)
            kept = stored
        tensors[name] = kept.contiguous(memory_format=torch.contiguous_format)
    return tensors


def _check_free(folder: Path) -> None:
    """Refuse to overwrite a run's configuration, a project's README or another library's model."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder must be a folder or absent, got the file {folder}")
    there = [name for name in (CONFIG, WEIGHTS, CARD) if os.path.lexists(folder / name)]
    if not there:
        return
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        values = None
    own = isinstance(values, dict) and values.get("library") == LIBRARY
    rule = "absent, without files of these names, or of a saved system"
    check(own, "folder", rule, f"{folder} with {there[0]}")


def model_card(values: Mapping[str, Any], *, license: str | None, source: str) -> str:
    """Return a model card in Markdown, with the hub's header.

    Parameters
    ----------
    values : mapping
        The contents of `config.json`.
    license : str or None
        Licence of the weights.
    source : str
        The name that the card's example loads from.
    """
    name, plan = values["system"], values.get("plan") or {}
    header = ["---", f"library_name: {LIBRARY}", *([f"license: {license}"] if license else [])]
    header += ["tags:", *(f"- {tag}" for tag in (LIBRARY, "disentanglement", name)), "---"]
    title = f"{name} on {plan['data']}" if plan else name
    settings = [("images (C, H, W)", tuple(values["image_shape"])), *values["config"].items()]
    scores = values.get("scores") or {}
    machine = values.get("environment") or {}
    parts = [
        "\n".join(header),
        f"# {_cell(title)}",
        f"A system of pydisent, a library for learning disentangled representations: `{name}`, "
        f"{_training_words(values)}. This page was written by pydisent {values['version']}.",
        "## Use",
        _program(source),
        "## Training",
        _table(("", ""), _training_rows(values, plan)) or "There is no record of it.",
        *filter(None, [_storage_words(values)]),
        "## Settings",
        _table(("setting", "value"), settings),
        "## Scores",
        _table(("metric", "score"), ((k, f"{v:.4g}") for k, v in scores.items()))
        or "None was measured.",
        "## Machine",
        _table(("", ""), ((k, machine[k]) for k in _MACHINE if machine.get(k) is not None))
        or "There is no record of it.",
        "## Licence",
        f"The weights are under the licence {license}."
        if license
        else "Whoever saved these weights has stated no licence for them.",
    ]
    return "\n\n".join(parts) + "\n"


def _training_words(values: Mapping[str, Any]) -> str:
    if values.get("step") is None:
        return "without a record of its training"
    return f"after {values['step']} updates"


def _is_told(name: str, plan: Mapping[str, Any]) -> bool:
    """Return whether a plan's field deserves a row: a zero seed does, no held-out images do not."""
    return bool(plan.get(name)) or (name == "seed" and name in plan)


def _training_rows(values: Mapping[str, Any], plan: Mapping[str, Any]) -> list[tuple[str, Any]]:
    rows = [(words, plan[name]) for name, words in _PLAN.items() if _is_told(name, plan)]
    if values.get("step") is not None:
        rows.append(("updates of these weights", values["step"]))
    if values.get("seconds") is not None:
        rows.append(("time of training", f"{values['seconds']:.0f} s"))
    if values["phase"] != "train":
        rows.append(("phase", values["phase"]))
    return rows


def _storage_words(values: Mapping[str, Any]) -> str:
    """Describe how the weights differ from the trained system; empty if they do not."""
    name, left_out, dtype = values["system"], values.get("left_out"), values.get("dtype")
    said = []
    if left_out:
        said.append(
            f"Left out: {', '.join(left_out)}, which only training uses. So `{name}` encodes and "
            "decodes, but cannot be trained on."
        )
    if dtype not in (None, "float32"):
        said.append(
            f"Parameters are stored in {dtype} and computed with in float32. Scores below may have "
            "been measured before they were rounded."
        )
    return " ".join(said)


def _program(source: str) -> str:
    lines = (
        "```python",
        "import pydisent",
        "",
        f"system = pydisent.from_pretrained({json.dumps(source)})",
        "images = system.decode(system.sample_code(8))  # (N, C, H, W) in [0, 1]",
        "codes = system.encode(images)  # (N, d), where the system has an encoder",
        "```",
    )
    return "\n".join(lines)


def _table(head: tuple[str, str], rows: Iterable[tuple[str, Any]]) -> str:
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows]
    return "\n".join([f"| {head[0]} | {head[1]} |", "| --- | --- |", *lines]) if lines else ""


def _cell(value: Any) -> str:
    """Return a value as one line of text, escaped for Markdown."""
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text)
