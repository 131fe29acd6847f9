"""State shared by the stages of an explanation: the generator, limits, and what was left out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pydisent.jacobian._arguments import Coupled
from pydisent.jacobian._finite import refuse_infinite
from pydisent.jacobian._layout import flat
from pydisent.jacobian.explanation._budget import Clock, Memory, Report
from pydisent.jacobian.explanation._generator import Generator, shrunk
from pydisent.jacobian.explanation._leading import Product
from pydisent.jacobian.linearization import Linearization

# The shares of the time limit within which each stage must end.
DIRECTIONS, AVERAGE, REGIONS, PICTURES, PATHS = 0.5, 0.65, 0.75, 0.88, 1.0
# Columns of a block: a narrow one reaches higher powers of M with the same total of columns.
WIDTH = 4
MORE = 4  # columns beyond those wanted, which converge last


class OutOfTime(Exception):
    """A stage has exceeded its share of the time."""


@dataclass
class Work:
    """An explanation in progress.

    Attributes
    ----------
    k : int
        Number of directions.
    exact : bool
        Whether M is computed as a whole.
    codes, chunk : int, int or None
        Codes to linearise at once, and tangents to push at once.
    side : int
        The longest side of the images that are kept.
    latent : Size
        The shape of a code.
    decoded : int
        Codes to decode at once.
    linear_seconds, column_seconds, image_seconds : float
        How long the last linearization, column of a product with M, and image took.
    notes : list of str
        Notes for the reader, such as what was left out.
    """

    generator: Generator
    memory: Memory
    clock: Clock
    report: Report
    k: int
    tolerance: float
    seed: int
    side: int
    latent: torch.Size
    coupled: Coupled = "error"
    exact: bool = False
    codes: int = 1
    chunk: int | None = None
    decoded: int = 1
    linear_seconds: float = 0.0
    column_seconds: float = 0.0
    image_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    _share: float | None = None

    def leave_out(self, what: str) -> None:
        """Note what was left out for lack of time."""
        self.notes.append(f"left out for lack of time: {what}")

    @contextmanager
    def within(self, share: float | None) -> Iterator[None]:
        """Make products raise `OutOfTime` once this share of the limit has passed; None: never."""
        before, self._share = self._share, share
        try:
            yield
        finally:
            self._share = before

    def _keep_time(self) -> None:
        if self._share is not None and self.clock.left(self._share) < 0:
            raise OutOfTime

    def linear(self, z: Tensor, mask: Tensor | None = None) -> Linearization:
        """The derivative at some codes."""
        begin = self.clock.elapsed
        found = self.generator.linearized(z, mask=mask, chunk=self.chunk, coupled=self.coupled)
        self.linear_seconds = self.clock.elapsed - begin
        return found

    def product(self, linear: Linearization) -> Product:
        """The map from columns V (B, m, b) to M V."""

        def product(columns: Tensor) -> Tensor:
            self._keep_time()
            begin = self.clock.elapsed
            moved = linear.gram_product(as_tangents(columns, linear))
            moved = moved.flatten(2).permute(1, 2, 0).double()
            refuse_infinite(moved, linear)
            self.column_seconds = (self.clock.elapsed - begin) / columns.shape[-1]
            return moved

        return product

    def gram(self, linear: Linearization) -> Tensor:
        """M (B, m, m), from J if that fits."""
        self._keep_time()
        if self.memory.holds_jacobian(linear):
            found = linear.gram_matrix().double()
        else:
            found = linear.gram_product(linear.basis()).flatten(2).permute(1, 2, 0).double()
        refuse_infinite(found, linear)
        return found

    def images(self, codes: Tensor) -> Tensor:
        """Images (*N, C, h, w) of codes (*N, *latent), shrunk, on the CPU."""
        begin, latent = self.clock.elapsed, self.latent
        rows = codes.reshape(-1, *latent)
        parts = rows.split(1 if self.generator.draws else self.decoded)
        drawn = [shrunk(self.generator.images(part).float(), self.side).cpu() for part in parts]
        self.image_seconds = (self.clock.elapsed - begin) / len(rows)
        images = torch.cat(drawn)
        return images.reshape(*codes.shape[: codes.dim() - len(latent)], *images.shape[1:])

    def signs(self, *shape: int) -> Tensor:
        """Random signs from the seed, float64."""
        random = torch.Generator("cpu").manual_seed(self.seed)
        drawn = torch.randint(0, 2, shape, generator=random, dtype=torch.float64, device="cpu")
        return (drawn * 2 - 1).to(self.memory.device)


def as_tangents(columns: Tensor, linear: Linearization) -> Tensor:
    """Columns (B, m, r) as tangents (r, B, *latent)."""
    return columns.permute(2, 0, 1).to(linear.dtype).reshape(-1, *linear.latent_shape)


def squares(linear: Linearization, columns: Tensor) -> Tensor:
    """‖J v‖² (B, r) of columns (B, m, r)."""
    parts = linear.jvp(as_tangents(columns, linear))
    each = [flat(part.double()).square().sum(2).mT for part in parts]
    return torch.stack(each).sum(0)


def maps_of(linear: Linearization, columns: Tensor, image: int) -> Tensor:
    """(J v)² summed over the channels of the image, (B, r, H, W), of columns (B, m, r)."""
    moved = linear.jvp(as_tangents(columns, linear))[image]
    return moved.float().square().sum(2).transpose(0, 1)
