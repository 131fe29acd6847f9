"""Snapshots of random number generators, for replaying draws."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pydisent.jacobian._modes import is_capturing


@dataclass(frozen=True)
class RandomState:
    """The states of torch's default generators, NumPy's, Python's, and given ``torch.Generator``s.

    States compare by value: two are equal if nothing was drawn in between.
    """

    torch_state: Tensor
    device: torch.device
    device_state: Tensor | None
    numpy_state: Any
    python_state: Any
    given: tuple[tuple[torch.Generator, Tensor], ...]

    @classmethod
    def now(
        cls, device: torch.device, given: Iterable[torch.Generator] = (), torch_alone: bool = False
    ) -> RandomState:
        """The current states; ``device`` is the one on which a function draws.

        ``torch_alone`` omits NumPy and Python, from which torch's own functions do not draw.
        """
        # The device's generator cannot be read during CUDA graph capture.
        readable = device.type not in ("cpu", "meta") and not is_capturing()
        return cls(
            torch.get_rng_state(),
            device,
            torch.get_device_module(device).get_rng_state(device) if readable else None,
            None if torch_alone else np.random.get_state(),  # noqa: NPY002
            None if torch_alone else random.getstate(),
            tuple((generator, generator.get_state()) for generator in given),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RandomState):
            return NotImplemented
        return (
            torch.equal(self.torch_state, other.torch_state)
            and self.python_state == other.python_state
            and (
                self.numpy_state is None
                or (
                    self.numpy_state[2:] == other.numpy_state[2:]
                    and np.array_equal(self.numpy_state[1], other.numpy_state[1])
                )
            )
            and _same(self.device_state, other.device_state)
            and all(torch.equal(a[1], b[1]) for a, b in zip(self.given, other.given, strict=True))
        )

    __hash__ = None  # type: ignore[assignment]

    def restore(self) -> None:
        """Restore this state; RuntimeError while a CUDA graph is captured."""
        if is_capturing():
            raise RuntimeError(
                "fn must be traceable and draw no random numbers while a CUDA graph is captured, "
                "because draws cannot be replayed"
            )
        torch.set_rng_state(self.torch_state)
        if self.device_state is not None:
            torch.get_device_module(self.device).set_rng_state(self.device_state, self.device)
        if self.numpy_state is not None:
            np.random.set_state(self.numpy_state)  # noqa: NPY002
            random.setstate(self.python_state)
        for generator, state in self.given:
            generator.set_state(state)

    def again(self) -> RandomState:
        """The current state of the same generators."""
        given = (generator for generator, _ in self.given)
        return RandomState.now(self.device, given, torch_alone=self.numpy_state is None)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """A context that repeats the draws made from this state, then restores the generators."""
        present = self.again()
        self.restore()
        try:
            yield
        finally:
            present.restore()


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is None or b is None or torch.equal(a, b)
