"""Data parallelism with the same results as a single process that has the whole batch.

Inside `data_parallel` every process has a shard of each batch, in the order of ranks. Backward
passes differentiate the sum of the processes' losses, and `average_gradients` turns the result into
the gradient of their mean. So a loss is right if it is a mean over the process's shard, or if it is
computed from the whole batch, as returned by `gather`, and is thus the same on all processes.

With `draw` and `randn_like`, random numbers are drawn for the whole batch from generators that are
in the same state on all processes, and each process keeps its shard. Any other draw must not depend
on the size of the shard.

Outside `data_parallel` there is a single process, and no function waits for others.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pydisent._checks import check


@dataclass(frozen=True)
class _Processes:
    rank: int = 0
    count: int = 1
    # The group for control messages: on the CPU, so that they do not wait for a GPU.
    control: Any = None


_now = _Processes()


@contextmanager
def data_parallel(timeout: timedelta | None = None) -> Iterator[None]:
    """Shard batches over the processes of `torch.distributed`, all of which enter together.

    Parameters
    ----------
    timeout : timedelta, optional
        Timeout of messages that do not go through a GPU; PyTorch's default if omitted.

    Raises
    ------
    RuntimeError
        If `torch.distributed` has not been initialised.
    """
    global _now
    if not dist.is_initialized():
        raise RuntimeError("torch.distributed must be initialised, by init_process_group")
    control = (
        None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo", timeout=timeout)
    )
    before, _now = _now, _Processes(dist.get_rank(), dist.get_world_size(), control)
    try:
        yield
    finally:
        _now = before


def rank() -> int:
    """Return this process's rank; 0 outside `data_parallel`."""
    return _now.rank


def processes() -> int:
    """Return the number of processes that share a batch; 1 outside `data_parallel`."""
    return _now.count


def is_first() -> bool:
    """Return whether this process has rank 0; works before `torch.distributed` is initialised."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return True
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def own_rows(whole: Tensor, batches: int = 1) -> Tensor:
    """Return this process's shard (n, ...) of the whole batch (n processes, ...).

    Parameters
    ----------
    whole : Tensor
        The whole batch, or several of the same size, concatenated.
    batches : int
        Number of concatenated batches; the process has a shard of each.

    Raises
    ------
    ValueError
        If the rows cannot be divided equally.
    """
    if _now.count == 1:
        return whole
    rule = f"a multiple of {batches} batches times {_now.count} processes long"
    check(len(whole) % (batches * _now.count) == 0, "whole", rule, len(whole))
    own = [batch.chunk(_now.count)[_now.rank] for batch in whole.chunk(batches)]
    return own[0] if batches == 1 else torch.cat(own)


def gather(own: Tensor) -> Tensor:
    """Return the whole batch (n processes, ...), given this process's shard (n, ...).

    Differentiable any number of times.
    """
    return own if _now.count == 1 else _Gather.apply(own)


def total(x: Tensor) -> Tensor:
    """Return the sum of x over processes, differentiable like `gather`."""
    return x if _now.count == 1 else _Total.apply(x)


def average(x: Tensor) -> Tensor:
    """Return the mean of x over processes, differentiable like `gather`."""
    return x if _now.count == 1 else total(x) / _now.count


def draw(sample: Callable[[int], Tensor], rows: int, batches: int = 1) -> Tensor:
    """Return this process's shard of `sample(n)` (n, ...), drawn for the whole batch.

    Parameters
    ----------
    sample : callable
        Draws from a generator in the same state on all processes, such as PyTorch's own.
    rows : int
        Number of rows of the shard.
    batches : int
        Number of concatenated batches in the shard.
    """
    return own_rows(sample(rows * _now.count), batches)


def randn_like(x: Tensor, batches: int = 1) -> Tensor:
    """Return this process's shard of standard normal noise of the whole batch's shape.

    Parameters
    ----------
    x : Tensor
        This process's shard (n, ...); the noise has its shape and memory layout.
    batches : int
        Number of concatenated batches in the shard.
    """
    if _now.count == 1:
        return torch.randn_like(x)
    # Numbers are drawn in the order of memory, which concatenation preserves.
    return own_rows(torch.randn_like(torch.cat([x.detach()] * _now.count)), batches)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        own = own.contiguous()
        parts = [torch.empty_like(own) for _ in range(_now.count)]
        dist.all_gather(parts, own)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        return _SumOfOwnRows.apply(*cotangents)


class _SumOfOwnRows(torch.autograd.Function):
    """The transpose of `_Gather`."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor) -> Tensor:
        return own_rows(_summed(whole)).clone()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        return _Gather.apply(*cotangents)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        return _Total.apply(*cotangents)


def _summed(x: Tensor) -> Tensor:
    result = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(result)
    return result


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each parameter's gradient by its mean over processes.

    All processes run the same program, so a parameter has a gradient on all of them or on none.
    """
    if _now.count > 1:
        gradients = [p.grad for p in parameters if p.grad is not None]
        _at_once(gradients, lambda flat: dist.all_reduce(flat.div_(_now.count)))


def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Set the tensors to their values on the first process."""
    if _now.count > 1:
        _at_once(list(tensors), lambda flat: dist.broadcast(flat, 0))


@torch.no_grad()
def _at_once(tensors: Sequence[Tensor], communicate: Callable[[Tensor], Any]) -> None:
    """Communicate the tensors in one call per dtype, as every call waits for the network."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1) for tensor in same])
        communicate(flat)
        for tensor, part in zip(same, flat.split([tensor.numel() for tensor in same])):
            tensor.copy_(part.view(tensor.shape))


def averages(values: Sequence[float]) -> list[float]:
    """Return the means of these numbers over processes."""
    if _now.count == 1 or not values:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(sums, group=_now.control)
    return (sums / _now.count).tolist()


def highest(value: int) -> int:
    """Return the highest value over processes."""
    if _now.count == 1:
        return value
    found = torch.tensor(value)
    dist.all_reduce(found, dist.ReduceOp.MAX, group=_now.control)
    return int(found)


@contextmanager
def together() -> Iterator[None]:
    """Wait for all processes at the end of the block; an error on one is raised on all.

    Each process raises its own error, or else that of the first process with one. Inside the block
    processes must not wait for each other.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as raised:
        error = raised
    if _now.count > 1:
        errors: list[Exception | None] = [None] * _now.count
        dist.all_gather_object(errors, _portable(error), group=_now.control)
        error = error or next((other for other in errors if other is not None), None)
    if error is not None:
        raise error


def _portable(error: Exception | None) -> Exception | None:
    """Return the error, or an equivalent one that can be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
