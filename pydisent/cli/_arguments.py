"""Arguments shared by several commands."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydisent._checks import check_integer
from pydisent._terminal import unfinished

if TYPE_CHECKING:
    from pydisent.training import Run

MOST_THREADS = 1024  # tens of thousands take minutes to start, and the machine's memory


def key_values(settings: Sequence[str], option: str) -> dict[str, str]:
    """Return an option's "key=value" arguments as a dict."""
    pairs: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ValueError(f"{option} must be KEY=VALUE, got {setting!r}")
        if key in pairs:
            raise ValueError(f"{option} must give each key once, got {key} twice")
        pairs[key] = value
    return pairs


def listed(text: str) -> tuple[str, ...]:
    """Return the comma-separated parts of a text."""
    return tuple(part.strip() for part in text.split(","))


def seed_list(text: str) -> tuple[int, ...]:
    """Return the comma-separated seeds of a text."""
    try:
        return tuple(int(part) for part in listed(text))
    except ValueError:
        raise ValueError(f"seeds must be integers such as 0,1,2, got {text!r}") from None


def set_threads(threads: int | None) -> None:
    """Set the number of CPU threads of this process; None leaves it unchanged."""
    if threads is None:
        return
    check_integer("threads", threads, at_least=1, at_most=MOST_THREADS)
    import torch

    torch.set_num_threads(threads)


def opened(path: Path, accelerator: str) -> "Run":
    """Open a run on an accelerator; warn if it is unfinished."""
    from pydisent.evaluation.devices import device_of
    from pydisent.training import open_run

    run = open_run(path, device_of(accelerator))
    if run.step < run.planned:
        warnings.warn(unfinished(path, run.plan.system, run.step, run.planned), stacklevel=2)
    return run
