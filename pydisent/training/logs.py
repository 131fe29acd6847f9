"""Logging of losses to log.jsonl, TensorBoard and the progress bar."""

import json
import os
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any

from pydisent._extras import optional
from pydisent.training.folder import RunFolder

with optional():
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text
    from torch.utils.tensorboard import SummaryWriter


class _Rate(ProgressColumn):
    """Updates per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "–/s", style="cyan")


class NoLogs:
    """The interface of `Logs` without any output, for ranks other than 0."""

    def __enter__(self) -> "NoLogs":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, phase: str) -> None:
        """Do nothing."""

    def write(self, step: int, seconds: float, phase: str, values: dict[str, float]) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""


class Logs:
    """A context manager that logs a run, continuing after `step`.

    Parameters
    ----------
    folder : RunFolder
        The run; log lines after `step` are removed first.
    step : int
        The step that training continues from.
    steps : int
        Updates of the whole run, the length of the progress bar.
    progress : bool
        Whether to show the progress bar.
    """

    def __init__(self, folder: RunFolder, step: int, steps: int, progress: bool) -> None:
        folder.truncate_log(step)
        self._file = folder.log.open("a")
        self._board = SummaryWriter(str(folder.tensorboard), purge_step=step + 1)
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            disable=not progress,
        )
        self._task = self._bar.add_task("train", total=steps, completed=step, losses="")

    def __enter__(self) -> "Logs":
        self._usual, threading.excepthook = threading.excepthook, self._report
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with suppress(OSError):  # the terminal may be gone
                self._bar.stop()
            with suppress(*[OSError] * (error is not None)):  # keep the original error
                self._board.close()
        finally:
            self._file.close()
            threading.excepthook = self._usual

    def _report(self, args: threading.ExceptHookArgs) -> None:
        """Report a thread's exception, except TensorBoard's, which its next call raises again."""
        if not type(args.thread).__module__.startswith("tensorboard."):
            self._usual(args)

    def advance(self, phase: str) -> None:
        """Move the progress bar by one update."""
        self._bar.update(self._task, advance=1, description=phase)

    def write(self, step: int, seconds: float, phase: str, values: dict[str, float]) -> None:
        """Log the losses of `step`; the bar omits names with a slash."""
        line: dict[str, Any] = {"step": step, "seconds": round(seconds, 3), "phase": phase}
        self._file.write(json.dumps(line | values) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(f"{phase}/{name}", value, step)
        shown = {name: value for name, value in values.items() if "/" not in name}
        losses = "  ".join(f"{name} {value:.3f}" for name, value in shown.items())
        self._bar.update(self._task, losses=losses)

    def sync(self) -> None:
        """Flush all lines to the disk."""
        os.fsync(self._file.fileno())
        self._board.flush()
