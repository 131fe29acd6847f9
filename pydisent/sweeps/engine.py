"""Engines, which run jobs in parallel, and the local one."""

import os
import shlex
import signal
import subprocess
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pydisent.training.files import lock
from pydisent.training.signals import noted_signals

TRIES = 3  # of a killed job: a later one may find more memory, or another machine
_SIGKILL = 9  # the signal module lacks it on Windows
_POLL = 0.05  # seconds
OUTPUT_LOCK_TIMEOUT = 300.0  # seconds to wait for a process that still writes a job's output
_TAIL = 8192  # bytes of output searched for an error message


class RunsFailedError(RuntimeError):
    """Some runs failed; the message says which and why."""


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Job:
    """Command lines to run in order until one fails.

    Attributes
    ----------
    name : str
        The name of the job.
    commands : tuple of tuple of str
        The command lines; on SIGTERM each saves and exits.
    output : Path
        File to which their output is appended.
    threads : int
        CPU threads that they may use.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    output: Path
    threads: int


@dataclass(frozen=True)
class Outcome:
    """A change in the state of a job.

    Attributes
    ----------
    name : str
        Name of the job.
    state : {"running", "done", "failed", "interrupted"}
        The new state.
    seconds : float or None
        Time taken.
    error : str or None
        Why it failed, or what killed it before a restart.
    """

    name: str
    state: str
    seconds: float | None = None
    error: str | None = None

    def __str__(self) -> str:
        took = "" if self.seconds is None else f" after {self.seconds:.0f} s"
        return f"{self.name}: {self.state}{took}" + (f": {self.error}" if self.error else "")


class Engine(Protocol):
    """Runs several jobs at a time."""

    def run(self, jobs: Sequence[Job], note: Callable[[Outcome], None]) -> int | None:
        """Run all jobs, calling `note` in this process when each starts and ends.

        A failed job is not repeated. A job that is killed (by SIGKILL, for example for lack of
        memory, or with its machine) is noted as interrupted and restarted after the others, with
        `TRIES` attempts in all.

        Returns
        -------
        int or None
            The signal that stopped the engine, once all running jobs have saved and exited; None
            if all jobs have run.
        """


class LocalEngine:
    """Runs jobs as processes on this machine.

    Parameters
    ----------
    workers : int
        Number of concurrent jobs.

    Raises
    ------
    ValueError
        If `workers` is below 1.
    """

    def __init__(self, workers: int) -> None:
        self.workers = at_least_one(workers)

    def run(self, jobs: Sequence[Job], note: Callable[[Outcome], None]) -> int | None:
        """Run all jobs; see `Engine`."""
        return work_through(jobs, note, self.workers, LocalWorker)


class Worker(Protocol):
    """A running job."""

    job: Job
    begun: bool

    @property
    def seconds(self) -> float:
        """How long the job has been running."""

    def advance(self) -> Outcome | None:
        """Return the new state of the job, or None if it has not changed.

        A job that was killed is "interrupted".
        """

    def terminate(self) -> None:
        """Ask the job to save and exit."""

    def wait(self) -> None:
        """Wait for the job to exit."""


def at_least_one(workers: int) -> int:
    """Return `workers`; raise ValueError if it is below 1."""
    if workers < 1:
        raise ValueError(f"workers must be an integer >= 1, got {workers}")
    return workers


def work_through(
    jobs: Sequence[Job],
    note: Callable[[Outcome], None],
    workers: int,
    make_worker: Callable[[Job], Worker],
) -> int | None:
    """Run all jobs as `Engine.run` does, `workers` at a time."""
    waiting, running, kills = deque(jobs), list[Worker](), Counter[str]()
    with noted_signals() as received:
        try:
            while (waiting or running) and not received:
                while waiting and len(running) < workers:
                    running.append(make_worker(waiting.popleft()))
                for worker in list(running):
                    if (outcome := worker.advance()) is None:
                        continue
                    if outcome.state != "running":
                        running.remove(worker)
                    if outcome.state == "interrupted":
                        kills[outcome.name] += 1
                        if kills[outcome.name] < TRIES:
                            waiting.append(worker.job)
                        else:
                            outcome = replace(outcome, state="failed")
                    note(outcome)
                time.sleep(_POLL)
        finally:
            for worker in running:
                worker.terminate()
            for worker in running:
                worker.wait()
        for worker in running:
            if worker.begun:
                note(Outcome(worker.job.name, "interrupted", worker.seconds))
    return received[0] if received else None


class LocalWorker:
    """A job running on this machine, one process after another.

    Each process inherits the lock on the job's output, so that nothing else runs the job while the
    process lives, even if its parent has ended.
    """

    launcher: tuple[str, ...] = ()  # prefix of each command line

    def __init__(self, job: Job) -> None:
        self.job, self.begun = job, False
        self._waiting = deque(job.commands)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._ready = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the job has been running."""
        return time.monotonic() - self._started

    def advance(self) -> Outcome | None:
        """Return the new state, starting the next process when due; see `Worker`."""
        if self._process is None:
            return self._begin()
        code = self._process.poll()
        if code is None:
            return None
        if code != 0:
            state = "interrupted" if code == -_SIGKILL else "failed"
            return Outcome(self.job.name, state, self.seconds, self._error(code))
        if self._waiting:
            self._process, self._ready = None, time.monotonic()
            return None
        return Outcome(self.job.name, "done", self.seconds)

    def terminate(self) -> None:
        """Ask the process to save and exit."""
        if self._process is not None:
            self._process.terminate()

    def wait(self) -> None:
        """Wait for the process to exit."""
        if self._process is not None:
            self._process.wait()

    def _begin(self) -> Outcome | None:
        """Start the next process, unless a previous one still holds the lock on the output."""
        self.job.output.parent.mkdir(parents=True, exist_ok=True)
        with self.job.output.open("ab") as output:
            if not lock(output):
                if time.monotonic() - self._ready < OUTPUT_LOCK_TIMEOUT:
                    return None
                error = f"another process has {self.job.output} open and did not exit"
                return Outcome(self.job.name, "failed", error=error)
            command = self._waiting.popleft()
            output.write(f"$ {shlex.join(command)}\n".encode())
            output.flush()
            self._start_of_output = output.tell()
            self._process = subprocess.Popen(
                (*self.launcher, *command),
                stdin=subprocess.DEVNULL,
                stdout=output,  # passes on the lock
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": str(self.job.threads)},
                # Ctrl-C must reach only the sweep, which passes it on once.
                start_new_session=True,
            )
        if self.begun:
            return None
        self.begun, self._started = True, time.monotonic()
        return Outcome(self.job.name, "running")

    def _error(self, code: int) -> str:
        with self.job.output.open("rb") as output:
            size = output.seek(0, os.SEEK_END)
            output.seek(max(self._start_of_output, size - _TAIL))
            lines = output.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        own = [line.removeprefix("pydisent: ") for line in said if line.startswith("pydisent: ")]
        how = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
        last = own or ([] if code == -_SIGKILL else said)  # output before a SIGKILL is unrelated
        words = f"{last[-1]} ({how})" if last else how
        return f"{words}; see {self.job.output}"
