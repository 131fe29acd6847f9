"""Pretrained models shipped with the package: ``pydisent.load("beta-tcvae/sprites")``.

Each is a folder `SYSTEM/DATA` of weights, configuration and a card, as written by
`Run.save_pretrained`, with the run's scores. Parts that only training uses are left out, and
parameters are stored in half precision; a system that lacks such a part raises
`systems.LeftOutError` on further training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pydisent._checks import check_one_of
from pydisent.systems import System
from pydisent.systems.pretrained import CARD, CONFIG
from pydisent.training import Plan, RunFolder
from pydisent.training.checkpoint import rng_state, save_checkpoint
from pydisent.training.files import write_json
from pydisent.training.plan import completed
from pydisent.training.pretrained import read_description, read_pretrained

__all__ = ["card", "load", "names", "unpack"]

_FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """Return the names of all models, such as "spectral-gan/sprites"."""
    return tuple(sorted(file.parent.relative_to(_FOLDER).as_posix() for file in _files()))


def load(name: str, device: str | torch.device = "cpu") -> System:
    """Load a pretrained model shipped with pydisent; nothing is downloaded.

    Parameters
    ----------
    name : str
        One of `pydisent.zoo.names()`, such as "spectral-gan/sprites".
    device : device
        Device of the weights.

    Returns
    -------
    System
        The system in eval mode and float32, with `encode`, `decode`, `sample_code` and
        `code_names`.

    Raises
    ------
    ValueError
        If there is no such model.
    """
    return read_pretrained(_folder(name), device)


def card(name: str) -> str:
    """Return a model's card in Markdown: data, settings, seed, scores and machine."""
    return (_folder(name) / CARD).read_text(encoding="utf-8")


def unpack(name: str, folder: str | Path) -> Path:
    """Create a model's run folder, for everything that reads runs; an existing one is kept.

    Parameters
    ----------
    name : str
        As for `load`.
    folder : path
        The run folder.

    Raises
    ------
    ValueError
        If there is no such model.
    FileExistsError
        If `folder` holds something else.
    """
    described = read_description(_folder(name))
    run = RunFolder(Path(folder))
    if run.is_run():
        return run.path
    if not run.is_free():
        raise FileExistsError(f"folder must be absent or a run folder, got {folder}")
    system = load(name)
    # Left out of saved models, as it is specific to the machine that trained them.
    elsewhere: dict[str, Any] = {"data_path": None, "command": []}
    plan = Plan.from_json(elsewhere | completed(described["plan"]))
    run.path.mkdir(parents=True, exist_ok=True)
    write_json(run.environment, {"backends": {}, **described["environment"]})
    run.log.write_text("")
    write_json(run.config, plan.to_json())
    save_checkpoint(
        run.checkpoints,
        system,
        described["step"],
        described.get("seconds") or 0.0,
        [rng_state()],
        plan=run.plan_sum(),
    )
    return run.path


def _files() -> list[Path]:
    return [*_FOLDER.glob(f"*/*/{CONFIG}")]


def _folder(name: str) -> Path:
    check_one_of("name", name, names())
    return _FOLDER / name
