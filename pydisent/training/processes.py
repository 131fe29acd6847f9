"""The processes that train together: how many, how they start, and what becomes of them."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from pydisent import parallel
from pydisent._extras import optional

_POLL = 1.0  # seconds
_PATIENCE = 60
_FIRST = "PYDISENT_FIRST_PROCESS"  # its number, for those it starts


class ProcessLostError(RuntimeError):
    """Another of the processes that train together has ended."""


def torchrun_processes() -> int | None:
    """Return how many processes torchrun has started; None if it did not start this one."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else None


def number_of_devices(devices: int | None, batch_size: int) -> int:
    """Return how many processes train: `devices`, or as many as torchrun has started, or one.

    Raises
    ------
    ValueError
        If `devices` is below one or not torchrun's number, or the batch cannot be shared equally.
    """
    started = torchrun_processes()
    if devices is None:
        devices = started or 1
    if devices < 1:
        raise ValueError(f"devices is {devices}; accepted: an integer >= 1")
    if started not in (None, devices):
        raise ValueError(f"devices is {devices}; accepted under torchrun: its {started} processes")
    if batch_size % devices:
        raise ValueError(
            f"batch_size is {batch_size} and devices is {devices}; accepted: a batch_size that "
            "devices divides, as it is the size of the whole batch"
        )
    return devices


@contextmanager
def launched(
    accelerator: str, devices: int, threads: int | None, timeout: float | None = None
) -> Iterator[torch.device]:
    """Start the other processes, unless torchrun has, and share batches with them.

    Parameters
    ----------
    accelerator : str
        Lightning Fabric's: "auto", "cpu", "cuda", ...
    devices : int
        As `number_of_devices` returns it.
    threads : int or None
        CPU threads of each process; by default PyTorch's number, the cores divided by the
        processes if there are several.
    timeout : float or None
        Seconds for which a process waits for the others once they have begun; PyTorch's by default.

    Yields
    ------
    torch.device
        This process's own.

    Raises
    ------
    ValueError
        If the machine has no such devices.
    ProcessLostError
        If another process ended, or did not answer in time, while the context lasted.
    """
    # Here, as it brings torch._dynamo, which evaluation and reports need not wait for.
    with optional("training"):
        from lightning_fabric import Fabric
        from lightning_fabric.utilities.exceptions import MisconfigurationException

    limit = None if timeout is None else timedelta(seconds=timeout)
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if torchrun_processes() else devices
    try:
        fabric = Fabric(accelerator=accelerator, devices=here, num_nodes=devices // here)
    except (MisconfigurationException, RuntimeError) as error:
        raise ValueError(f"accelerator is {accelerator!r} and devices is {here}: {error}") from None
    ours = not dist.is_initialized()
    with _ending_with_the_first(devices):
        with _quiet(logging.getLogger("lightning_fabric")):
            fabric.launch()
        _give_time_to_say_why()
        if limit is not None and devices > 1:
            # Only now: how long a process takes to begin depends on the machine's load.
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


def _give_time_to_say_why() -> None:
    """Let Fabric wait before it kills this process because another has ended.

    It looks every five seconds, perhaps before the error has come out.
    """
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            vars(thread)["_sleep_period"] = _PATIENCE


@contextmanager
def _lost_processes_named() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        raise ProcessLostError(
            "another of the processes that train together "
            + ("did not answer in time" if "imed out" in str(error) else "has ended")
            + "; go on from the last checkpoint with --resume"
        ) from error


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Let the logger say nothing below a warning."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _is_lost(error: RuntimeError) -> bool:
    """Return whether a message to another process failed; gloo's errors have no class."""
    of_gloo = type(error) is RuntimeError and "gloo/transport" in str(error)
    return of_gloo or isinstance(error, dist.DistError)


@contextmanager
def _ending_with_the_first(devices: int) -> Iterator[None]:
    """Let the processes that the first one starts end when it has ended, however that was.

    They might wait for it for half an hour: to begin, or in a kernel that only it can finish.
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
        # Between the two it may end by itself, and say why.
        if os.getppid() != first and not over.wait(_POLL):
            os._exit(1)
