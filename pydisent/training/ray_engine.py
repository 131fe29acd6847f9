"""The jobs of a sweep on a Ray cluster."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from pydisent._extras import optional
from pydisent.training.engine import Job, LocalWorker, Outcome, at_least_one, work_through

_CONNECT = 5.0  # seconds
_NEWS = 0.5  # seconds for which a worker waits for news, so that it need not be asked often
_CHECK = 2.0  # seconds between two looks at whether the cluster lives
_OBJECTS = 100 * 2**20  # bytes: nothing but outcomes goes through Ray's object store
_SETTINGS = b"\x04"  # the type of the first frame that either side of HTTP/2 sends
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + b"\0\0\0\0\0"
# Has a process get SIGTERM, as from a sweep that is stopped, when the Ray worker above it dies.
_LEASH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):  # It died before.
    sys.exit(143)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class RayEngine:
    """Runs jobs on a Ray cluster, each by a Ray worker of its own that starts its processes.

    All machines must have the sweep's folder, and the data, under the same path, and pydisent
    installed. Without an address a cluster of this machine is started, and ended with the run.
    If this process is connected to a cluster already, that is used.

    Parameters
    ----------
    workers : int
        How many jobs at a time, or fewer if the cluster has no CPU cores free for more.
    address : str or None
        HOST:PORT or ray://HOST:PORT of a cluster to join, or auto for one that this machine
        belongs to; the environment's RAY_ADDRESS by default.
    gpu : bool
        Whether each job gets a GPU to itself, where the cluster has any.

    Raises
    ------
    ModuleNotFoundError
        If Ray is not installed.
    ValueError
        If `workers` is below 1, or `address` is of another form.
    ConnectionError
        If nothing answers at the address.
    """

    def __init__(self, workers: int, address: str | None = None, gpu: bool = False) -> None:
        _ray()
        self.workers, self.gpu = at_least_one(workers), gpu
        self.address = joined(address)
        if self.address not in (None, "auto"):
            _check_answers(self.address)

    def run(self, jobs: Sequence[Job], note: Callable[[Outcome], None]) -> int | None:
        """Run all jobs; see `Engine`.

        Raises
        ------
        ValueError
            If a job wants more threads than any machine of the cluster has CPU cores.
        ConnectionError
            If the cluster cannot be joined, or none of its machines is alive any more.
        """
        if not jobs:
            return None
        threads = max(job.threads for job in jobs)
        with self._connected(threads) as ray, _by_value(ray):
            _check_room(ray, threads)
            gpus = int(self.gpu and ray.cluster_resources().get("GPU", 0) >= 1)
            # What is lost is started again by the sweep, which says so; not by Ray.
            actor = ray.remote(num_gpus=gpus, max_restarts=0)(_Actor)
            check = _LiveCheck(ray)
            return work_through(
                jobs, note, self.workers, lambda job: _RayWorker(ray, actor, job, check)
            )

    @contextmanager
    def _connected(self, threads: int) -> Iterator[Any]:
        """Give Ray, connected to a cluster with this many CPU cores for each worker."""
        ray = _ray()
        if ray.is_initialized():
            yield ray
            return
        usual = signal.getsignal(signal.SIGTERM)
        try:
            if self.address is None:
                self._start(ray, threads)
            else:
                self._join(ray)
            yield ray
        finally:
            ray.shutdown()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, usual)  # Ray has set its own.

    def _start(self, ray: Any, threads: int) -> None:
        if sys.platform == "linux":
            # Ray would kill them; they have a leash, and save.
            os.environ.setdefault("RAY_kill_child_processes_on_worker_exit", "0")
        ray.init(
            address="local",
            num_cpus=self.workers * threads,
            object_store_memory=_OBJECTS,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )

    def _join(self, ray: Any) -> None:
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray has no class of its own for this.
            raise ConnectionError(f"no Ray cluster at {self.address}: {error}") from error


def _ray() -> Any:
    """Import Ray, with no words about what the sweep says itself and no reports to its makers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^A worker died or was killed")
    with optional():
        import ray

    return ray


def joined(address: str | None) -> str | None:
    """Return the address of the cluster to join; None if one is to be started."""
    return address or os.environ.get("RAY_ADDRESS") or None


def _check_answers(address: str) -> None:
    """Raise unless gRPC, which Ray speaks, answers at HOST:PORT: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(
            f"ray_address is {address!r}; accepted: HOST:PORT, ray://HOST:PORT or auto"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT) as server:
            server.sendall(_HELLO)
            if os.environ.get("RAY_USE_TLS", "0") == "0" and server.recv(4)[3:] != _SETTINGS:
                raise OSError("another service is there")
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"no Ray cluster answers at {address}: {error}") from error


def _check_room(ray: Any, threads: int) -> None:
    """Raise ValueError if jobs of so many threads would wait for ever."""
    most = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    if threads > most:
        raise ValueError(
            f"threads is {threads}; accepted: up to {most:.0f}, the CPU cores of the largest "
            "machine of the Ray cluster"
        )


@contextmanager
def _by_value(ray: Any) -> Iterator[None]:
    """Send Ray workers the code itself: importing pydisent, and torch, would take them seconds."""
    module = sys.modules["pydisent.training"]
    ray.cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        ray.cloudpickle.unregister_pickle_by_value(module)


class _Actor(LocalWorker):
    """A job at work, seen from within the Ray worker."""

    def __init__(self, job: Job, folder: str, python: str) -> None:
        # Another machine may have another Python.
        commands = tuple(
            (sys.executable if command[0] == python else command[0], *command[1:])
            for command in job.commands
        )
        super().__init__(replace(job, commands=commands))
        self._folder = folder
        if sys.platform == "linux":
            self.launcher = (sys.executable, "-IS", "-c", _LEASH, str(os.getpid()))

    def watch(self) -> Outcome | None:
        """Return what is new, or None if nothing is for a while."""
        os.chdir(self._folder)
        limit = time.monotonic() + _NEWS
        while (outcome := self.advance()) is None and time.monotonic() < limit:
            time.sleep(0.02)
        return outcome

    def end(self) -> None:
        """Let the process save, and return once it has ended."""
        self.terminate()
        self.wait()


class _LiveCheck:
    """Raises ConnectionError once no machine of the cluster is alive: Ray would wait for ever."""

    def __init__(self, ray: Any) -> None:
        self._ray, self._next = ray, 0.0

    def __call__(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _CHECK
        if not any(node["Alive"] for node in self._ray.nodes()):
            raise ConnectionError(
                "the Ray cluster has ended: none of its machines is alive; start the same command "
                "again to go on"
            )


class _RayWorker:
    """A job at work, seen from the sweep."""

    def __init__(self, ray: Any, actor: Any, job: Job, check: Callable[[], None]) -> None:
        self.job, self.begun, self._ray, self._check = job, False, ray, check
        at_work = actor.options(num_cpus=job.threads)
        self._actor = at_work.remote(job, os.getcwd(), sys.executable)
        self._alive = self._actor.__ray_ready__.remote()
        self._news = self._actor.watch.remote()
        self._ended: Any = None
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been at work."""
        return time.monotonic() - self._started

    def advance(self) -> Outcome | None:
        """Return what is new; see `Worker`."""
        if not self._ray.wait([self._news], timeout=0)[0]:
            self._check()
            return None
        errors = self._ray.exceptions
        try:
            outcome: Outcome | None = self._ray.get(self._news)
        except errors.RayTaskError as error:
            return self._end("failed", f"{type(error.cause).__name__}: {error.cause}")
        except errors.RayError as error:
            return self._end("interrupted", f"its Ray worker died ({type(error).__name__})")
        if outcome is not None and outcome.state == "running":
            self.begun, self._started = True, time.monotonic()
        if outcome is None or outcome.state == "running":
            self._news = self._actor.watch.remote()
        return outcome

    def _end(self, state: str, error: str) -> Outcome:
        seconds = self.seconds if self.begun else None
        return Outcome(self.job.name, state, seconds, f"{error}; see {self.job.output}")

    def terminate(self) -> None:
        """Let it save and end, or never begin."""
        # It begins once the Ray worker lives; the news of that may still be on its way.
        self.begun |= bool(self._ray.wait([self._alive], timeout=0)[0])
        if self.begun:
            self._ended = self._actor.end.remote()
        else:
            self._ray.kill(self._actor)

    def wait(self) -> None:
        """Return once it has ended."""
        if self.begun:
            with suppress(self._ray.exceptions.RayError):  # Then nothing is left to wait for.
                self._ray.get(self._ended)
