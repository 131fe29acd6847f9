"""One batch shared by several processes, with the result of one process that has it all.

Inside `data_parallel` every process holds its rows of each batch, in the order of ranks, and
what is differentiated is the sum of the processes' losses; `average_gradients` makes its gradient
that of their mean. So a loss is right if it is the mean over a process's own rows, or if it is
computed from the whole batch, which `gather` returns, and is then the same on all processes.

Random numbers are drawn for the whole batch, by generators in one state on all processes, of
which each keeps its own rows: `draw` and `randn_like`. What a process draws any other way must
not depend on its number of rows.

Outside `data_parallel`, and so in one process, all functions here do nothing but what their names
say of one process: no process waits for another.
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


@dataclass(frozen=True)
class _Processes:
    rank: int = 0
    count: int = 1
    # Messages between the processes themselves: on the CPU, so that no GPU is waited for.
    control: Any = None


_ALONE = _Processes()
_now = _ALONE


@contextmanager
def data_parallel(timeout: timedelta | None = None) -> Iterator[None]:
    """Share batches among the processes of `torch.distributed`, all of which enter together.

    Parameters
    ----------
    timeout : timedelta, optional
        For how long messages beside those of a GPU are waited for; PyTorch's limit by default.

    Raises
    ------
    RuntimeError
        If `torch.distributed` has not been initialised.
    """
    global _now
    if not dist.is_initialized():
        raise RuntimeError("torch.distributed is not initialised; see init_process_group")
    control = (
        None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo", timeout=timeout)
    )
    before, _now = _now, _Processes(dist.get_rank(), dist.get_world_size(), control)
    try:
        yield
    finally:
        _now = before


def rank() -> int:
    """Return this process's number, from 0; 0 outside `data_parallel`."""
    return _now.rank


def processes() -> int:
    """Return how many processes share a batch; 1 outside `data_parallel`."""
    return _now.count


def is_first() -> bool:
    """Return whether this is the first of the processes, also before they know each other."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return True
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def own_rows(whole: Tensor, batches: int = 1) -> Tensor:
    """Return this process's rows (n, ...) of the whole batch's (n processes, ...).

    Parameters
    ----------
    whole : Tensor
        The whole batch, or several of one size, one after the other.
    batches : int
        How many: of each the process has its rows.

    Raises
    ------
    ValueError
        If the rows cannot be shared equally.
    """
    if _now.count == 1:
        return whole
    if len(whole) % (batches * _now.count):
        raise ValueError(
            f"whole has {len(whole)} rows; accepted: a multiple of {batches} batches times "
            f"{_now.count} processes"
        )
    own = [batch.chunk(_now.count)[_now.rank] for batch in whole.chunk(batches)]
    return own[0] if batches == 1 else torch.cat(own)


def gather(own: Tensor) -> Tensor:
    """Return the whole batch (n processes, ...) of which each process gives its rows (n, ...).

    It can be differentiated, and its derivatives too.
    """
    return own if _now.count == 1 else _Gather.apply(own)


def total(x: Tensor) -> Tensor:
    """Return the sum of the processes' x, of its shape; it can be differentiated like `gather`."""
    return x if _now.count == 1 else _Total.apply(x)


def average(x: Tensor) -> Tensor:
    """Return the mean of the processes' x, of its shape; it can be differentiated like `gather`."""
    return x if _now.count == 1 else total(x) / _now.count


def draw(sample: Callable[[int], Tensor], rows: int, batches: int = 1) -> Tensor:
    """Return this process's `rows` of the random `sample(n)` (n, ...) of the whole batch's n rows.

    Parameters
    ----------
    sample : callable
        Draws by a generator that is in the same state on all processes, such as PyTorch's own.
    rows : int
        How many rows this process has.
    batches : int
        Of how many batches, one after the other, they are.
    """
    return own_rows(sample(rows * _now.count), batches)


def randn_like(x: Tensor, batches: int = 1) -> Tensor:
    """Return normal noise like x (n, ...): this process's rows of that like the whole batch.

    Parameters
    ----------
    x : Tensor
        This process's rows.
    batches : int
        Of how many batches, one after the other, they are.
    """
    if _now.count == 1:
        return torch.randn_like(x)
    # The numbers come in the order of memory, which this keeps.
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
    """Replace every parameter's gradient by its mean over the processes.

    The processes run one program: a parameter has a gradient on all of them, or on none.
    """
    if _now.count > 1:
        gradients = [p.grad for p in parameters if p.grad is not None]
        _at_once(gradients, lambda flat: dist.all_reduce(flat.div_(_now.count)))


def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Set the tensors to what they are on the first process."""
    if _now.count > 1:
        _at_once(list(tensors), lambda flat: dist.broadcast(flat, 0))


@torch.no_grad()
def _at_once(tensors: Sequence[Tensor], communicate: Callable[[Tensor], Any]) -> None:
    """Change the tensors by one call a dtype: many small ones would each wait for the network."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1) for tensor in same])
        communicate(flat)
        for tensor, part in zip(same, flat.split([tensor.numel() for tensor in same])):
            tensor.copy_(part.view(tensor.shape))


def averages(values: Sequence[float]) -> list[float]:
    """Return the means over the processes of as many numbers."""
    if _now.count == 1 or not values:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(sums, group=_now.control)
    return (sums / _now.count).tolist()


def highest(value: int) -> int:
    """Return the highest of the processes' values."""
    if _now.count == 1:
        return value
    found = torch.tensor(value)
    dist.all_reduce(found, dist.ReduceOp.MAX, group=_now.control)
    return int(found)


@contextmanager
def together() -> Iterator[None]:
    """Wait for all processes at the end of the block; an error of one is raised by all.

    Each raises its own, or else that of the first process that has one. In the block, processes
    must not wait for each other.
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
    """Return the error, or one that says the same, such that another process can read it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
