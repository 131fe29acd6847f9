"""The interface of a derivative that the engine's checks use, however it is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from pydisent.jacobian._arguments import Coupled


class Derivative(Protocol):
    """The derivative J of a function at B latent codes.

    It is either a traced program (:class:`~pydisent.jacobian.Linearization`) or reverse mode
    applied twice to the function as a whole (``DoubleBackward``).
    """

    latent_shape: torch.Size  # (B, *latent)
    dtype: torch.dtype  # of the products
    device: torch.device

    @property
    def rounding(self) -> float:
        """Machine epsilon of the coarsest dtype in which the function computed."""

    @property
    def samples_are_apart(self) -> bool:
        """Whether it is known that no sample's output depends on another's code."""

    def images(self, tangents: Tensor) -> Sequence[Tensor]:
        """J V without a graph: (K, B, *latent) to (K, B, *out) for each output that moves."""

    def decouple(self, coupled: Coupled) -> None:
        """Hold constant what mixes samples, or raise ValueError."""

    def why_not_finite(self) -> str:
        """The error message for a J, or J'J, that is not finite."""
