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
    ``Program.captured``.

    Attributes
    ----------
    inputs, outputs
        The values whose tangents are read and written. A rule may leave ``outputs`` empty if they
        are all floating-point results of the call.
    captured
        The tensors that the map reads: weights, primal values.
    push
        The map.
    keep
        Whether the map takes the captured tensors in their own dtype rather than the tangents'.
    overwrites
        A form of the map that writes its result into its input, if there is one.
    scale
        Of an elementwise map: the factor of the output from the factors of the inputs, where each
        tangent is its factor times one that all inputs share.
    is_identity
        Whether the output's tangent is the input's.
    by_rows
        Whether row b of the outputs depends on row b of the inputs alone.
    name
        The operation's name.
    live
        Whether the map reads the traced function's autograd graph.
    general
        Whether the operation has no rule of its own.
    is_complex
        Which of the outputs are complex.
    """

    inputs: Sequence[Place]
    captured: Sequence[Place]
    push: Push
    outputs: Sequence[Place] = ()
    keep: bool = False
    overwrites: Push | None = None
    scale: Scale | None = None
    is_identity: bool = False
    by_rows: bool = False
    name: str = ""
    live: bool = False
    general: bool = False
    is_complex: tuple[bool, ...] = ()
