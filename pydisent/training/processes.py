"""Data-parallel processes: their number, their launch, and detection of lost ones."""

import logging
import os
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from pydisent import parallel
from pydisent._extras import optional

_POLL = 1.0  # seconds
_ERROR_GRACE = 60.0  # seconds for a failed process to report its error
_PORTS = range(20_000, 32_000)
_FIRST = "PYDISENT_FIRST_PROCESS"  # environment variable with the id of the first process


class ProcessLostError(RuntimeError):
    """Another process of a data-parallel run has ended."""


def torchrun_processes() -> int | None:
    """Return the number of processes started by torchrun; None without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else None


def number_of_devices(devices: int | None, batch_size: int) -> int:
    """Return the number of processes: `devices`, else torchrun's, else 1.

    Raises
    ------
    ValueError
        If `devices` is below 1, differs from torchrun's number, or does not divide the batch.
    """
    started = torchrun_processes()
    if devices is None:
        devices = started or 1
    if devices < 1:
        raise ValueError(f"devices must be an integer >= 1, got {devices}")
    if started not in (None, devices):
        raise ValueError(f"devices must be torchrun's {started} processes, got {devices}")
    if batch_size % devices:
        raise ValueError(
            f"batch_size must be divisible by devices = {devices}, which share it, got {batch_size}"
        )
    return devices


@contextmanager
def launched(
    accelerator: str, devices: int, threads: int | None, timeout: float | None = None
) -> Iterator[torch.device]:
    """Start the other processes, unless torchrun has, and join them in a process group.

    Parameters
    ----------
    accelerator : str
        Lightning Fabric's accelerator: "auto", "cpu", "cuda", ...
    devices : int
        As returned by `number_of_devices`.
    threads : int or None
        CPU threads of each process; by default PyTorch's number, the cores divided among the
        processes.
    timeout : float or None
        Seconds to wait for a process that does not respond; PyTorch's limit by default.

    Yields
    ------
    torch.device
        The device of this process.

    Raises
    ------
    ValueError
        If the machine has no such devices.
    ProcessLostError
        If another process ends, or does not respond in time, within the context.
    """
    # Imported here because it imports torch._dynamo, which evaluation does not need.
    with optional("training"):
        from lightning_fabric import Fabric
        from lightning_fabric.utilities.exceptions import MisconfigurationException

    limit = None if timeout is None else timedelta(seconds=timeout)
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if torchrun_processes() else devices
    try:
        fabric = Fabric(accelerator=accelerator, devices=here, num_nodes=devices // here)
    except (MisconfigurationException, RuntimeError) as error:
        raise ValueError(
            f"accelerator and devices must be available, got {accelerator!r} and {here}: {error}"
        ) from None
    ours = not dist.is_initialized()
    if devices > 1 and not torchrun_processes() and "SLURM_JOB_ID" not in os.environ:
        os.environ.setdefault("MASTER_PORT", str(free_port()))
    with _ending_with_the_first(devices):
        with _quiet(logging.getLogger("lightning_fabric")):
            fabric.launch()
        _allow_error_reports()
        if limit is not None and devices > 1:
            # Set only now, because the start-up time depends on the machine's load.
            dist.distributed_c10d._set_pg_timeout(limit)
        if threads is not None:
            torch.set_num_threads(threads)
        if devices == 1:
            yield fabric.device
            return
        with _lost_processes_named(), parallel.data_parallel(limit):
            yield fabric.device
    if ours:
        dist.destroy_process_group()


def free_port() -> int:
    """Return a free port below the ephemeral range.

    Fabric would choose an ephemeral port, which a connection may take before Fabric listens.
    """
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port from {_PORTS[0]} to {_PORTS[-1]} is free")


def _allow_error_reports() -> None:
    """Delay Fabric's observer, which kills this process when another one ends.

    It polls every five seconds, possibly before the error has been reported.
    """
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            vars(thread)["_sleep_period"] = _ERROR_GRACE


@contextmanager
def _lost_processes_named() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        raise ProcessLostError(
            "another process of this run "
            + ("did not respond in time" if "imed out" in str(error) else "has ended")
            + "; continue from the last checkpoint with --resume"
        ) from error


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Silence a logger's messages below warnings."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _is_lost(error: RuntimeError) -> bool:
    """Return whether communication failed; gloo raises plain RuntimeErrors."""
    of_gloo = type(error) is RuntimeError and "gloo/transport" in str(error)
    return of_gloo or isinstance(error, dist.DistError)


@contextmanager
def _ending_with_the_first(devices: int) -> Iterator[None]:
    """End the processes started by the first one once it has ended, for whatever reason.

    Otherwise they could wait half an hour for it, at start-up or in a collective.
    """
    first, over = os.environ.get(_FIRST), threading.Event()
    if devices > 1 and parallel.is_first():
        os.environ[_FIRST] = str(os.getpid())
    elif not parallel.is_first() and first is not None:
        threading.Thread(target=_watch, args=(int(first), over), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(first: int, over: threading.Event) -> None:
    while not over.wait(_POLL):
        # In between, the process may end with its own error.
        if os.getppid() != first and not over.wait(_POLL):
            os._exit(1)
