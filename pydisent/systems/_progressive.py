"""Autoencoders that grow from phase to phase, each model supervising the next."""

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

from pydisent.systems._base import System


class Progressive(System):
    """A system whose `teacher`, once set, is frozen and stays in eval mode."""

    teacher: nn.Module | None

    def __init__(self, config: Any, image_shape: tuple[int, int, int]) -> None:
        super().__init__(config, image_shape)
        self.teacher = None

    def keep_as_teacher(self, model: nn.Module) -> None:
        """Make a frozen copy of `model` the teacher."""
        self.teacher = copy.deepcopy(model).requires_grad_(False).eval()

    @property
    def training_parts(self) -> Sequence[str]:
        """Return the teacher, if any."""
        return () if self.teacher is None else ("teacher",)

    def train(self, mode: bool = True) -> "Progressive":
        """Set the mode of all parts but the teacher, whose batch statistics must not change."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self
