"""Training steps replayed as CUDA graphs, to save kernel launches."""

from collections.abc import Hashable
from typing import NamedTuple

import torch
from torch import Tensor

from pydisent._checks import check
from pydisent.systems import System

WARM_UP = 3  # ordinary steps of each kind before its capture, as PyTorch recommends


class _Captured(NamedTuple):
    """A graph with its static input and output tensors."""

    graph: torch.cuda.CUDAGraph
    batch: tuple[Tensor, ...]
    logs: dict[str, Tensor]


class GraphedSteps:
    """Training steps of a system on one GPU, captured as CUDA graphs and replayed.

    Steps with the same `graph_key` share a graph, captured after a few ordinary steps. Steps
    without a key stay ordinary. The results equal those of ordinary steps.

    Parameters
    ----------
    system : System
        The system, on its CUDA device, with optimiser states restored if the run is resumed.

    Raises
    ------
    ValueError
        If the system is not on a CUDA device.
    """

    def __init__(self, system: System) -> None:
        _check_device(system.device)
        self.system = system
        self._seen: dict[Hashable, int] = {}
        self._captured: dict[Hashable, _Captured] = {}
        self._stream = torch.cuda.Stream(system.device)

    def __call__(self, *batch: Tensor) -> dict[str, Tensor]:
        """Perform one step as `System.step` does, and return detached scalars to log."""
        system = self.system
        system.prepare_step()
        key = system.graph_key()
        if key is None:
            logs = self._ordinary(batch)
        elif key in self._captured:
            logs = self._replay(self._captured[key], batch)
        elif self._seen.setdefault(key, 0) < WARM_UP:
            self._seen[key] += 1
            self._make_capturable()
            logs = self._ordinary(batch)
        else:
            self._captured[key] = captured = self._capture(batch)
            logs = self._replay(captured, batch)
        system.phase_step += 1
        return logs

    def _ordinary(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Update on the capture stream, so that a graph need not wait for the default stream."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            logs = self.system.update(*batch)
        torch.cuda.current_stream().wait_stream(self._stream)
        return logs

    def _capture(self, batch: tuple[Tensor, ...]) -> _Captured:
        still = tuple(part.clone() for part in batch)
        graph = torch.cuda.CUDAGraph()
        # Nothing runs during capture; other threads, such as the prefetcher, may continue.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            logs = self.system.update(*still)
        return _Captured(graph, still, logs)

    @staticmethod
    def _replay(captured: _Captured, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        for still, part in zip(captured.batch, batch):
            still.copy_(part)
        captured.graph.replay()
        return {name: value.clone() for name, value in captured.logs.items()}

    def _make_capturable(self) -> None:
        """Make the optimisers count steps on the GPU; a new phase may have new optimisers."""
        for optimizer in self.system.optimizers.values():
            for group in optimizer.param_groups:
                group["capturable"] = True
            for state in optimizer.state.values():
                if isinstance(step := state.get("step"), Tensor):
                    state["step"] = step.to(self.system.device)


def _check_device(device: torch.device) -> None:
    check(device.type == "cuda", "system", "on a CUDA device", device)
