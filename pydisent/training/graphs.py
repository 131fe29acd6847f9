"""Training steps as CUDA graphs: one launch a step in place of hundreds."""

from collections.abc import Hashable
from typing import NamedTuple

import torch
from torch import Tensor

from pydisent.systems import System

WARM_UP = 3  # steps of each kind before it is captured, as PyTorch asks for


class _Captured(NamedTuple):
    """A graph, and the tensors that it reads a batch from and writes the logs to."""

    graph: torch.cuda.CUDAGraph
    batch: tuple[Tensor, ...]
    logs: dict[str, Tensor]


class GraphedSteps:
    """Steps of a system that trains on one GPU, replayed from graphs once they are captured.

    Steps of one kind, as the system's `graph_key` tells them, make a graph after a few ordinary
    ones. Those that have no key stay ordinary. The numbers are those of ordinary steps.

    Parameters
    ----------
    system : System
        On its CUDA device, with its optimisers' state if it goes on.

    Raises
    ------
    ValueError
        If the system is not on a CUDA device.
    """

    def __init__(self, system: System) -> None:
        if system.device.type != "cuda":
            raise ValueError(f"system is on {system.device}; accepted for CUDA graphs: a GPU")
        self.system = system
        self._seen: dict[Hashable, int] = {}
        self._captured: dict[Hashable, _Captured] = {}
        self._stream = torch.cuda.Stream(system.device)

    def __call__(self, *batch: Tensor) -> dict[str, Tensor]:
        """Train once, as `System.step` does, and return detached scalars to log."""
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
        """Update on a stream of its own: what a graph will use must not wait for the default's."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            logs = self.system.update(*batch)
        torch.cuda.current_stream().wait_stream(self._stream)
        return logs

    def _capture(self, batch: tuple[Tensor, ...]) -> _Captured:
        still = tuple(part.clone() for part in batch)
        graph = torch.cuda.CUDAGraph()
        # A capture runs nothing; other threads, such as the one that makes batches, may go on.
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
        """Have the optimisers count their steps on the GPU; phases may have made new ones."""
        for optimizer in self.system.optimizers.values():
            for group in optimizer.param_groups:
                group["capturable"] = True
            for state in optimizer.state.values():
                if isinstance(step := state.get("step"), Tensor):
                    state["step"] = step.to(self.system.device)
