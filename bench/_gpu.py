"""GPU timing: kernels under a CUDA graph's replay, and host time of a call by itself.

What a graph cannot capture is timed behind a kernel that keeps the GPU busy until everything is
launched. ``StandIn`` mimics the used parts of ``torch.cuda``, so that a dry run takes the same
paths on a CPU.
"""

from __future__ import annotations

import atexit
import functools
import gc
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from _harness import percentiles
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

WARM_UP = 3  # calls before a capture, as PyTorch requires
#: Operations that synchronise with the GPU, copy from the host, or cannot be captured.
READS = {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "masked_select",
         "lift_fresh", "_linalg_eigh", "linalg_qr", "_linalg_svd"}  # fmt: skip
Run = Callable[[], Any]


class Watch(TorchDispatchMode):
    """Detect an operation that a CUDA graph cannot capture; optionally record the calls.

    Code that asks is told that a graph is being captured: pydisent then reads nothing back.
    """

    def __init__(self, gpu: Any, keep: bool = False) -> None:
        super().__init__()
        self.device = "cuda" if gpu is torch.cuda else "cpu"
        self.calls: list[Run] | None = [] if keep else None
        self.refused = ""
        self._told = mock.patch.multiple(
            torch.cuda, is_initialized=lambda: True, is_current_stream_capturing=lambda: True
        )

    def __enter__(self):
        self._told.start()
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._told.stop()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if self.calls is not None:
            self.calls.append(lambda: func(*args, **kwargs))
        name = func.__name__.split(".")[0]
        places = {x.device.type for x in (*args, out) if isinstance(x, Tensor)}
        moves = name in ("_to_copy", "copy_") and len(places) > 1
        if moves or (name in READS and self.device in places):
            self.refused = self.refused or f"{name} cannot be captured"
        return out


class _Event:
    def __init__(self, enable_timing: bool = False) -> None:
        self._time = 0.0

    def record(self) -> None:
        self._time = time.perf_counter()

    def query(self) -> bool:
        return False

    def elapsed_time(self, end: _Event) -> float:
        return 1e3 * (end._time - self._time)


class _Graph:
    """A replay repeats the recorded calls on the same tensors."""

    calls: list[Run] | None

    def replay(self) -> None:
        with torch.no_grad():  # the recorded calls are below autograd
            for call in self.calls or ():
                call()


class _Capture:
    def __init__(self, graph: _Graph, stream: Any = None) -> None:
        self._graph, self._watch = graph, Watch(StandIn, keep=True)

    def __enter__(self) -> None:
        self._watch.__enter__()

    def __exit__(self, *raised: Any) -> None:
        self._watch.__exit__(*raised)
        self._graph.calls = self._watch.calls


class StandIn:
    """A CPU in place of ``torch.cuda``."""

    Event, CUDAGraph, graph = _Event, _Graph, _Capture
    Stream = current_stream = staticmethod(lambda: SimpleNamespace(wait_stream=lambda other: None))
    stream = staticmethod(lambda stream: nullcontext())
    synchronize = empty_cache = set_stream = _sleep = staticmethod(lambda *anything: None)
    current_device = staticmethod(lambda: 0)
    get_device_properties = staticmethod(lambda device: SimpleNamespace(L2_cache_size=2**10))


def gpu_of(device: str) -> Any:
    """``torch.cuda``, or its stand-in on the CPU."""
    return torch.cuda if device == "cuda" else StandIn


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@functools.cache
def _freeze() -> None:
    """Exempt imported objects from garbage collection, which takes longer than most timed calls."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # some libraries count remaining objects


def as_graph(run: Run, gpu: Any) -> tuple[Run, str]:
    """The replay of ``run`` as a CUDA graph; or ``run``, with the reason why it cannot be captured.

    Uncapturable operations are detected first: a failed capture leaves its stream current, and the
    process's allocator and random state undefined.
    """
    if gpu is torch.cuda:
        _freeze()
    gc.collect()  # a leftover autograd graph may use another stream
    before, stream = gpu.current_stream(), gpu.Stream()
    stream.wait_stream(before)
    with gpu.stream(stream):
        for _ in range(WARM_UP):
            run()
        try:
            with Watch(gpu) as seen:
                run()
            refused = seen.refused
        except (RuntimeError, ValueError) as error:
            refused = first_line(error)
    before.wait_stream(stream)
    gpu.synchronize()
    if refused:
        return run, refused
    graph = gpu.CUDAGraph()
    try:
        with gpu.graph(graph, stream=stream):
            run()
    except (RuntimeError, ValueError) as error:
        gpu.set_stream(before)
        gpu.synchronize()
        return run, first_line(error)
    graph.replay()  # the first replay uploads the graph
    gpu.synchronize()
    return graph.replay, ""


def host_seconds(run: Run, gpu: Any) -> float:
    """Host time of a call, without waiting for the GPU: the median of three small batches."""
    gpu.synchronize()
    begun = time.perf_counter()
    run()
    gpu.synchronize()
    calls = max(1, min(20, int(0.02 / (time.perf_counter() - begun))))
    found = []
    for _ in range(3):
        gpu.synchronize()
        begun = time.perf_counter()
        for _ in range(calls):
            run()
        found.append((time.perf_counter() - begun) / calls)
    gpu.synchronize()
    return statistics.median(found)


class Way:
    """How a contender is timed: as a "graph" or, launched behind a sleep, "gated".

    It "waits" if the sleep ends before everything is launched: the time then includes the host's.
    """

    def __init__(self, run: Run, gpu: Any) -> None:
        self.gpu = gpu
        self.run, self.why = as_graph(run, gpu)
        self.host = host_seconds(run, gpu)
        launch = host_seconds(self.run, gpu) if self.run is not run else self.host
        self.sleep = int(2e9 * min(0.05, 2 * launch + 1e-4))  # at about 2 GHz
        self.is_late = False
        self.times: list[float] = []
        self.spent = 0.0

    def time(self, calls: int, before: Run) -> None:
        """Time single calls, each after ``before``."""
        gpu, begun, pairs = self.gpu, time.perf_counter(), []
        for _ in range(calls):
            before()
            gpu._sleep(self.sleep)
            pair = [gpu.Event(enable_timing=True) for _ in range(2)]
            pair[0].record()
            self.run()
            pair[1].record()
            self.is_late |= pair[0].query()
            pairs.append(pair)
        gpu.synchronize()
        self.times += [begin.elapsed_time(end) / 1e3 for begin, end in pairs]
        self.spent += time.perf_counter() - begun

    def found(self) -> dict[str, Any]:
        how = "waits" if self.is_late else "gated" if self.why else "graph"
        told = {"how": how, "why": self.why} if self.why else {"how": how}
        return {**percentiles(self.times), "host": self.host, **told}


def measure_kernels(
    contenders: dict[str, Run],
    device: str,
    seconds: float = 0.05,
    reset: Run | None = None,
    flush: bool = True,
) -> dict[str, dict[str, Any]]:
    """GPU seconds of each contender, timed in turns for about ``seconds`` each, and how.

    ``flush`` replaces the L2 cache's contents before each call, with clean lines, whose eviction
    costs the call nothing. ``reset`` runs before each call, untimed. ``host`` is the host time of a
    call.
    """
    gpu = gpu_of(device)
    size = 4 * gpu.get_device_properties(gpu.current_device()).L2_cache_size if flush else 4
    other = torch.zeros(size // 4, device=device)

    def before() -> None:
        if reset is not None:
            reset()
        other.sum()

    ways = {name: Way(run, gpu) for name, run in contenders.items()}
    while any(way.spent < seconds for way in ways.values()):
        for way in ways.values():
            way.time(5 if way.spent < seconds else 0, before)
    return {name: way.found() for name, way in ways.items()}
