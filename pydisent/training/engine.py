"""Where the jobs of a sweep run."""

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

from pydisent.training._files import lock
from pydisent.training._signals import noted_signals

TRIES = 3  # of a job that is killed: later there may be more memory, or another machine
_SIGKILL = 9  # Python has no name for it on Windows.
_POLL = 0.05  # seconds
_PATIENCE = 300.0  # seconds for which a process that still writes a job's output is waited for
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
        Why it failed, or what killed it so that it will be started once more.
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

        A job that fails is left at that. One that is killed (SIGKILL, as when memory is short, or
        its machine is lost) is noted as interrupted and started again after the others, `TRIES`
        times in all.

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
        self.workers = at_least_one(workers)

    def run(self, jobs: Sequence[Job], note: Callable[[Outcome], None]) -> int | None:
        """Run all jobs; see `Engine`."""
        return work_through(jobs, note, self.workers, LocalWorker)


class Worker(Protocol):
    """A job at work."""

    job: Job
    begun: bool

    @property
    def seconds(self) -> float:
        """How long it has been at work."""

    def advance(self) -> Outcome | None:
        """Return what is new, if anything: that the job has begun, or how it ended.

        It has ended as "interrupted" if something killed it.
        """

    def terminate(self) -> None:
        """Let it save and end."""

    def wait(self) -> None:
        """Return once it has ended."""


def at_least_one(workers: int) -> int:
    """Return `workers`; raise ValueError if that is below 1."""
    if workers < 1:
        raise ValueError(f"workers is {workers}; accepted: an integer >= 1")
    return workers


def work_through(
    jobs: Sequence[Job],
    note: Callable[[Outcome], None],
    workers: int,
    hire: Callable[[Job], Worker],
) -> int | None:
    """Run all jobs as `Engine.run` does, `workers` at a time, each by the worker `hire` makes."""
    waiting, working, kills = deque(jobs), list[Worker](), Counter[str]()
    with noted_signals() as received:
        try:
            while (waiting or working) and not received:
                while waiting and len(working) < workers:
                    working.append(hire(waiting.popleft()))
                for worker in list(working):
                    if (outcome := worker.advance()) is None:
                        continue
                    if outcome.state != "running":
                        working.remove(worker)
                    if outcome.state == "interrupted":
                        kills[outcome.name] += 1
                        if kills[outcome.name] < TRIES:
                            waiting.append(worker.job)
                        else:
                            outcome = replace(outcome, state="failed")
                    note(outcome)
                time.sleep(_POLL)
        finally:
            for worker in working:
                worker.terminate()
            for worker in working:
                worker.wait()
        for worker in working:
            if worker.begun:
                note(Outcome(worker.job.name, "interrupted", worker.seconds))
    return received[0] if received else None


class LocalWorker:
    """A job at work on this machine: one process after the other.

    A process has the job's output locked, so that nothing else works on the job while it lives,
    even if whoever started it does not.
    """

    launcher: tuple[str, ...] = ()  # Words before each command line.

    def __init__(self, job: Job) -> None:
        self.job, self.begun = job, False
        self._waiting = deque(job.commands)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._ready = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been at work."""
        return time.monotonic() - self._started

    def advance(self) -> Outcome | None:
        """Return what is new, starting the next process when it is time; see `Worker`."""
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
        """Let the process save and end."""
        if self._process is not None:
            self._process.terminate()

    def wait(self) -> None:
        """Return once the process has ended."""
        if self._process is not None:
            self._process.wait()

    def _begin(self) -> Outcome | None:
        """Start the next process, unless a former one still has the output locked."""
        self.job.output.parent.mkdir(parents=True, exist_ok=True)
        with self.job.output.open("ab") as output:
            if not lock(output):
                if time.monotonic() - self._ready < _PATIENCE:
                    return None
                error = f"another process has {self.job.output} open, and did not end"
                return Outcome(self.job.name, "failed", error=error)
            command = self._waiting.popleft()
            output.write(f"$ {shlex.join(command)}\n".encode())
            output.flush()
            self._start_of_output = output.tell()
            self._process = subprocess.Popen(
                (*self.launcher, *command),
                stdin=subprocess.DEVNULL,
                stdout=output,  # and with it the lock
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": str(self.job.threads)},
                # A terminal's Ctrl-C must reach the sweep alone, which passes it on once.
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
        words = f"{(own or said)[-1]} ({how})" if own or said else how
        return f"{words}; see {self.job.output}"
