"""One step of a tangent program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

# push(captured, tangents) -> tangents of the outputs; tangents are (K, *primal.shape).
Push = Callable[[Sequence[Tensor], Sequence[Tensor]], "Tensor | Sequence[Tensor]"]
# scale(captured, factors of the inputs) -> factor of the output.
Scale = Callable[[Sequence[Tensor], Sequence["Tensor | float"]], "Tensor | float"]
Place = TypeVar("Place", Tensor, int)


@dataclass(slots=True)
class Step(Generic[Place]):
    """One operation as a linear map from input tangents to output tangents.

    A rule names the values themselves (``Step[Tensor]``); in a program (``Step[int]``) inputs and
    outputs are numbered slots for tangents, and captured tensors positions in
    ``Program.captured``. An elementwise map has a ``scale``: the factor of its output, where each
    tangent is its factor times one that all inputs share.
    """

    inputs: Sequence[Place]
    captured: Sequence[Place]  # what the map reads: weights, primal values
    push: Push
    outputs: Sequence[Place] = ()  # by default all floating-point results
    keep: bool = False  # captured tensors stay in their own dtype
    overwrites: Push | None = None  # a form of the map that writes into its tangent
    scale: Scale | None = None
    is_identity: bool = False
    by_rows: bool = False  # row b of the outputs depends on row b of the inputs alone
    name: str = ""
    live: bool = False  # the map reads the traced function's autograd graph
    general: bool = False  # there is no rule for the operation
    is_complex: tuple[bool, ...] = ()  # for each output
