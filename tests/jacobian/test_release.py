"""When a result is dropped, reference counting alone frees what its computation kept."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from _architectures import ARCHITECTURES
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pydisent.jacobian import alignment_penalty, hessian_penalty, linearize

pytestmark = pytest.mark.filterwarnings("ignore:.*cannot be traced.*", "ignore:.*jit.script.*")


@pytest.fixture(autouse=True, scope="module")
def few_objects() -> Iterator[None]:
    """A collection takes a tenth of a second with all of PyTorch's objects, too long for each."""
    penalty("autograd", torch.tanh, torch.ones(2, 2))  # imports what is needed later
    hessian(torch.tanh, torch.ones(2, 2, requires_grad=True))
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@contextmanager
def uncollected() -> Iterator[list[object]]:
    """Collect in a list what only the garbage collector could free."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    found: list[object] = []
    try:
        yield found
        gc.collect()
        found += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def penalty(method: str, fn: Callable, z: Tensor) -> None:
    k = min(2, z[0].numel())
    alignment_penalty(fn, z, k=k, iterations=2, method=method).backward()


def hessian(fn: Callable, z: Tensor) -> None:
    hessian_penalty(fn, z).backward()


WAYS = {
    "linearize": linearize,
    "auto": partial(penalty, "auto"),
    "gram": partial(penalty, "gram"),
    "matrix_free": partial(penalty, "matrix_free"),
    "autograd": partial(penalty, "autograd"),
    "hessian_penalty": hessian,
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_nothing_waits_for_the_garbage_collector(name):
    """Activations kept in reference cycles would add to the memory of later steps."""
    sample = ARCHITECTURES[name](torch.float32)
    sample.fn(sample.z)
    for way, run in WAYS.items():
        run(sample.fn, sample.z)  # fills caches
        with uncollected() as found:
            run(sample.fn, sample.z)
        ours = [x for x in found if type(x).__module__.startswith("pydisent")]
        tensors = [x for x in found if isinstance(x, Tensor)]
        assert not ours, f"{way}: {[type(x).__name__ for x in ours]}"
        assert not tensors, f"{way}: {[tuple(x.shape) for x in tensors]}"


def test_a_cycle_is_found():
    with uncollected() as found:
        held = [torch.ones(2)]
        held.append(held)
        del held
    assert any(isinstance(x, Tensor) for x in found)


class Marking(TorchDispatchMode):
    """Remembers the tensors that are made while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[weakref.ref] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.made.append(weakref.ref(out))
        return out


@pytest.mark.parametrize("rank", [None, 2])
def test_no_tensor_of_a_dispatch_mode_is_cached(rank):
    """It may be of a kind that is of no use outside, such as a fake tensor."""
    for size in (11, 11):  # a size that no other test uses
        with Marking() as mode:
            alignment_penalty(torch.tanh, torch.randn(3, size), k=2, iterations=2, rank=rank)
        assert mode.made
        assert not any(made() is not None for made in mode.made)
