"""The processes that train together: how many, how they start, and what becomes of them."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException

from pydisent import parallel

_POLL = 1.0  # seconds
_FIRST = "PYDISENT_FIRST_PROCESS"  # its number, for those it starts


class ProcessLostError(RuntimeError):
    """Another of the processes that train together has ended."""


def is_first() -> bool:
    """Return whether this is the first of the processes, also before they know each other."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return True
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


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
def started(accelerator: str, devices: int, threads: int | None) -> Iterator[torch.device]:
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

    Yields
    ------
    torch.device
        This process's own.

    Raises
    ------
    ValueError
        If the machine has no such devices.
    ProcessLostError
        If another process ended while the context lasted.
    """
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if torchrun_processes() else devices
    try:
        fabric = Fabric(accelerator=accelerator, devices=here, num_nodes=devices // here)
    except MisconfigurationException as error:
        raise ValueError(f"accelerator is {accelerator!r} and devices is {here}: {error}") from None
    alone = not dist.is_initialized()
    if devices > 1 and not torchrun_processes():
        _end_with_the_first()
    with _quiet(logging.getLogger("lightning_fabric")):
        fabric.launch()
    if threads is not None:
        torch.set_num_threads(threads)
    if devices == 1:
        yield fabric.device
        return
    try:
        with parallel.data_parallel():
            yield fabric.device
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        raise ProcessLostError(
            "another of the processes that train together has ended; go on from the last "
            "checkpoint with --resume"
        ) from error
    if alone:
        dist.destroy_process_group()


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


def _end_with_the_first() -> None:
    """Let the processes that the first one starts end when it has ended, however that was.

    They might wait for it for half an hour: to begin, or in a kernel that only it can finish.
    """
    if is_first():
        os.environ[_FIRST] = str(os.getpid())
        return
    first = int(os.environ[_FIRST])

    def watch() -> None:
        while os.getppid() == first:
            time.sleep(_POLL)
        time.sleep(_POLL)  # by itself, if it can
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
