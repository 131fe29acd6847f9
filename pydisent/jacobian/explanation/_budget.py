"""Limits on the time and memory of an explanation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from pydisent._checks import check
from pydisent.jacobian._budget import budget_of
from pydisent.jacobian.linearization import Linearization

Report = Callable[[str, int, int], None]
_BATCH = 64  # codes linearised at once, at most
_SPARE = 1.3  # allows for temporary tensors that are not counted


@dataclass
class Clock:
    """The time left of a limit in seconds; each stage may run until a share of it has passed."""

    limit: float = math.inf
    start: float = field(default_factory=lambda: time.monotonic())

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def left(self, share: float) -> float:
        """Seconds until this share of the limit has passed."""
        return share * self.limit - self.elapsed


@dataclass(frozen=True)
class Memory:
    """A limit in bytes for tangents and the tensors they read, or None for the engine's own."""

    limit: int | None
    device: torch.device

    @property
    def bytes(self) -> int:
        """The limit, or the engine's own."""
        return budget_of(self.device).jacobian if self.limit is None else self.limit

    def codes(self, one: Linearization) -> int:
        """How many codes to linearise at once, given the linearization at one."""
        if not one.samples_are_apart:
            return 1
        per_code = _captured(one) + _per_tangent(one)
        return int(max(1, min(_BATCH, self.bytes / 2 // per_code)))

    def chunk(self, one: Linearization, codes: int) -> int | None:
        """Tangents to push at once with so many codes; None leaves it to the engine.

        Raises
        ------
        ValueError
            If not even one fits.
        """
        if self.limit is None:
            return None
        rest = self.limit - codes * _captured(one)
        fits = int(rest // (codes * _per_tangent(one)))
        least = math.ceil(_captured(one) + _per_tangent(one))
        check(fits >= 1, "memory_limit", f"at least {least} bytes for this generator", self.limit)
        return max(1, min(fits, one.chunk_size(graph=True)))

    def holds_jacobian(self, one: Linearization, codes: int = 1) -> bool:
        """Whether the Jacobians of so many codes may be kept."""
        return codes * one.jacobian_bytes() <= self.bytes / 2

    def images(self, one: Linearization) -> int:
        """How many codes to decode at once."""
        per_image = 4 * one.program.elements_peak * one.dtype.itemsize
        return int(max(1, min(4 * _BATCH, self.bytes / 2 // per_image)))


def _captured(one: Linearization) -> float:
    """Bytes of what the steps of a linearization at one code read."""
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in one.captured}
    return sum(held.values())


def _per_tangent(one: Linearization) -> float:
    """Bytes of one tangent at one code, with what its reverse pass needs."""
    return _SPARE * max(1, one.program.elements_saved) * one.dtype.itemsize
