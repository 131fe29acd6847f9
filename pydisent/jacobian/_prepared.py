"""The tensors that a program's steps read, cast once for all products with one derivative."""

from __future__ import annotations

import torch
from torch import Tensor

from pydisent.jacobian._memory import version_of
from pydisent.jacobian._program import Program


class Prepared:
    """The captured tensors of a program in one dtype, valid until one of them is written to."""

    def __init__(self, program: Program, dtype: torch.dtype) -> None:
        self._program, self._dtype = program, dtype
        self._versions = list(map(version_of, program.captured))
        self._tensors: list[Tensor] | None = None

    def tensors(self) -> list[Tensor]:
        """The tensors, cast once; RuntimeError if one was written since the function ran."""
        for place, tensor in enumerate(self._program.captured):
            if version_of(tensor) != self._versions[place]:
                self._refuse(place, tensor)
        if self._tensors is None:
            self._tensors = self._program.prepare(self._dtype)
        return self._tensors

    def _refuse(self, place: int, tensor: Tensor) -> None:
        steps = self._program.steps
        reader = next((s.name for s in steps if place in s.captured or s.live), "fn")
        raise RuntimeError(
            f"a value of shape {tuple(tensor.shape)} that the derivative of '{reader}' needs has "
            "been modified by an inplace operation since fn was called (a parameter by an "
            "optimizer's step, a buffer by another call): linearize again after it, or take all "
            "products before it"
        )
