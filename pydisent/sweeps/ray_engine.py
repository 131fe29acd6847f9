"""An engine that runs jobs on a Ray cluster."""

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
from pydisent.sweeps.engine import Job, LocalWorker, Outcome, at_least_one, work_through

_CONNECT = 5.0  # seconds
_NEWS = 0.5  # seconds that an actor waits for a change of state, to be polled rarely
_CHECK = 2.0  # seconds between checks that the cluster is alive
_OBJECTS = 100 * 2**20  # bytes of Ray's object store, which only holds outcomes
_SETTINGS = b"\x04"  # type of the first HTTP/2 frame from either side
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + b"\0\0\0\0\0"
# Sends the process SIGTERM, as a stopped sweep would, when its parent, the Ray worker, dies.
DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):  # the parent is already dead
    sys.exit(143)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class RayEngine:
    """Runs jobs on a Ray cluster, each in processes started by its own Ray worker.

    All machines must have pydisent installed, and the sweep's folder and the data under the same
    paths. Without an address, a cluster is started on this machine and shut down after the run. If
    this process is already connected to a cluster, that one is used.

    Parameters
    ----------
    workers : int
        Maximum number of concurrent jobs; the free CPU cores of the cluster may allow fewer.
    address : str or None
        HOST:PORT or ray://HOST:PORT of a cluster to join, or auto for the one that this machine
        belongs to; the environment variable RAY_ADDRESS by default.
    gpu : bool
        Whether each job gets its own GPU, if the cluster has any.

    Raises
    ------
    ModuleNotFoundError
        If Ray is not installed.
    ValueError
        If `workers` is below 1 or `address` has another form.
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
            If a job needs more threads than any machine of the cluster has CPU cores.
        ConnectionError
            If the cluster cannot be joined, or none of its machines is alive.
        """
        if not jobs:
            return None
        threads = max(job.threads for job in jobs)
        with self._connected(threads) as ray, _by_value(ray):
            _check_room(ray, threads)
            gpus = int(self.gpu and ray.cluster_resources().get("GPU", 0) >= 1)
            # Lost jobs are restarted by work_through, which reports it, not by Ray.
            actor = ray.remote(num_gpus=gpus, max_restarts=0)(_Actor)
            check = _LiveCheck(ray)
            return work_through(
                jobs, note, self.workers, lambda job: _RayWorker(ray, actor, job, check)
            )

    @contextmanager
    def _connected(self, threads: int) -> Iterator[Any]:
        """Yield Ray, connected to a cluster with this many CPU cores for each worker."""
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
                signal.signal(signal.SIGTERM, usual)  # Ray replaces it

    def _start(self, ray: Any, threads: int) -> None:
        if sys.platform == "linux":
            # Ray would kill them; with DIE_WITH_PARENT they can save first.
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
        except Exception as error:  # Ray raises various classes
            raise ConnectionError(f"no Ray cluster at {self.address}: {error}") from error


def _ray() -> Any:
    """Import Ray without usage statistics and without its log lines on killed workers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^A worker died or was killed")
    with optional():
        import ray

    return ray


def joined(address: str | None) -> str | None:
    """Return the address of the cluster to join; None to start one."""
    return address or os.environ.get("RAY_ADDRESS") or None


def _check_answers(address: str) -> None:
    """Raise unless gRPC answers at HOST:PORT, since Ray would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"ray_address must be HOST:PORT, ray://HOST:PORT or auto, got {address!r}")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT) as server:
            server.sendall(_HELLO)
            if os.environ.get("RAY_USE_TLS", "0") == "0" and server.recv(4)[3:] != _SETTINGS:
                raise OSError("another service is there")
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"no Ray cluster answers at {address}: {error}") from error


def _check_room(ray: Any, threads: int) -> None:
    """Raise ValueError if no machine has that many CPU cores: Ray would wait for ever."""
    most = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    if threads > most:
        raise ValueError(
            f"threads must be at most {most:.0f}, the CPU cores of the largest machine of the Ray "
            f"cluster, got {threads}"
        )


@contextmanager
def _by_value(ray: Any) -> Iterator[None]:
    """Pickle the code of jobs by value, so that Ray workers need not import torch (seconds)."""
    modules = [sys.modules[name] for name in ("pydisent.sweeps", "pydisent.training")]
    for module in modules:
        ray.cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            ray.cloudpickle.unregister_pickle_by_value(module)


class _Actor(LocalWorker):
    """A running job, within the Ray worker."""

    def __init__(self, job: Job, folder: str, python: str) -> None:
        # Python may be elsewhere on another machine.
        commands = tuple(
            (sys.executable if command[0] == python else command[0], *command[1:])
            for command in job.commands
        )
        super().__init__(replace(job, commands=commands))
        self._folder = folder
        if sys.platform == "linux":
            self.launcher = (sys.executable, "-IS", "-c", DIE_WITH_PARENT, str(os.getpid()))

    def watch(self) -> Outcome | None:
        """Return the new state, or None if it does not change for a while."""
        os.chdir(self._folder)
        limit = time.monotonic() + _NEWS
        while (outcome := self.advance()) is None and time.monotonic() < limit:
            time.sleep(0.02)
        return outcome

    def end(self) -> None:
        """Ask the process to save, and wait for it to exit."""
        self.terminate()
        self.wait()


class _LiveCheck:
    """Raises ConnectionError if no machine of the cluster is alive: Ray would wait for ever."""

    def __init__(self, ray: Any) -> None:
        self._ray, self._next = ray, 0.0

    def __call__(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _CHECK
        if not any(node["Alive"] for node in self._ray.nodes()):
            raise ConnectionError(
                "the Ray cluster has ended: none of its machines is alive; start the same command "
                "again to continue"
            )


class _RayWorker:
    """A running job, from outside the Ray worker."""

    def __init__(self, ray: Any, actor: Any, job: Job, check: Callable[[], None]) -> None:
        self.job, self.begun, self._ray, self._check = job, False, ray, check
        self._actor = actor.options(num_cpus=job.threads).remote(job, os.getcwd(), sys.executable)
        self._alive = self._actor.__ray_ready__.remote()
        self._news = self._actor.watch.remote()
        self._ended: Any = None
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the job has been running."""
        return time.monotonic() - self._started

    def advance(self) -> Outcome | None:
        """Return the new state; see `Worker`."""
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
        """Ask the job to save and exit, or do not start it."""
        # The job starts with the Ray worker, perhaps before its state is known here.
        self.begun |= bool(self._ray.wait([self._alive], timeout=0)[0])
        if self.begun:
            self._ended = self._actor.end.remote()
        else:
            self._ray.kill(self._actor)

    def wait(self) -> None:
        """Wait for the job to exit."""
        if self.begun:
            with suppress(self._ray.exceptions.RayError):  # the Ray worker is gone
                self._ray.get(self._ended)
