"""Where the jobs of a sweep run."""

import os
import shlex
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydisent.training._signals import noted_signals

_POLL = 0.05  # seconds
_TAIL = 8192  # bytes of output in which an error is looked for


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Job:
    """Command lines to run one after the other until one fails.

    Attributes
    ----------
    name : str
        What the job is called.
    commands : tuple of tuple of str
        The command lines; on SIGTERM each saves what it has, and ends.
    output : Path
        Where what they print is appended.
    threads : int
        CPU threads that they may use.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    output: Path
    threads: int


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    name : str
        The job's.
    state : {"running", "done", "failed", "interrupted"}
        It has been started, or has ended so.
    seconds : float or None
        How long it took.
    error : str or None
        Why it failed.
    """

    name: str
    state: str
    seconds: float | None = None
    error: str | None = None

    def __str__(self) -> str:
        took = "" if self.seconds is None else f" after {self.seconds:.0f} s"
        return f"{self.name}: {self.state}{took}" + (f": {self.error}" if self.error else "")


class Engine(Protocol):
    """Runs jobs somewhere, several at a time."""

    def run(self, jobs: Sequence[Job], note: Callable[[Outcome], None]) -> int | None:
        """Run all jobs, calling `note` in this process as each begins and ends.

        Returns
        -------
        int or None
            The signal that stopped it, once all jobs that had begun have saved and ended; None if
            there was none.
        """


class LocalEngine:
    """Runs jobs as processes on this machine.

    Parameters
    ----------
    workers : int
        How many at a time.

    Raises
    ------
    ValueError
        If that is below 1.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ValueError(f"workers is {workers}; accepted: an integer >= 1")
        self.workers = workers

    def run(self, jobs: Sequence[Job], note: Callable[[Outcome], None]) -> int | None:
        """Run all jobs; see `Engine`."""
        waiting, running = deque(jobs), list[_Worker]()
        with noted_signals() as received:
            try:
                while (waiting or running) and not received:
                    while waiting and len(running) < self.workers:
                        running.append(_Worker(waiting.popleft()))
                        note(Outcome(running[-1].job.name, "running"))
                    time.sleep(_POLL)
                    for worker in list(running):
                        if (outcome := worker.advance()) is not None:
                            running.remove(worker)
                            note(outcome)
            finally:
                for worker in running:
                    worker.process.terminate()
                for worker in running:
                    worker.process.wait()
            for worker in running:
                note(Outcome(worker.job.name, "interrupted", worker.seconds))
        return received[0] if received else None


class _Worker:
    """A job at work: one process after the other."""

    def __init__(self, job: Job) -> None:
        self.job, self._waiting = job, deque(job.commands)
        self._started = time.monotonic()
        job.output.parent.mkdir(parents=True, exist_ok=True)
        self._begin()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def advance(self) -> Outcome | None:
        """Return how the job ended; None while it goes on."""
        code = self.process.poll()
        if code is None:
            return None
        if code != 0:
            return Outcome(self.job.name, "failed", self.seconds, self._error(code))
        if self._waiting:
            self._begin()
            return None
        return Outcome(self.job.name, "done", self.seconds)

    def _begin(self) -> None:
        command = self._waiting.popleft()
        with self.job.output.open("ab") as output:
            output.write(f"$ {shlex.join(command)}\n".encode())
            output.flush()
            self._start_of_output = output.tell()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": str(self.job.threads)},
                # A terminal's Ctrl-C must reach the sweep alone, which passes it on once.
                start_new_session=True,
                # The sweep's lock goes to its processes too: they may outlive it.
                close_fds=False,
            )

    def _error(self, code: int) -> str:
        with self.job.output.open("rb") as output:
            size = output.seek(0, os.SEEK_END)
            output.seek(max(self._start_of_output, size - _TAIL))
            lines = output.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        own = [line.removeprefix("pydisent: ") for line in said if line.startswith("pydisent: ")]
        how = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
        words = f"{(own or said)[-1]} ({how})" if own or said else how
        return f"{words}; see {self.job.output}"
