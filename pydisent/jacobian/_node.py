"""One step of a tangent program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

# push(captured, tangents) -> tangents of the outputs; tangents are (K, *primal.shape).
Scale = Callable[[Sequence[Tensor], Sequence["Tensor | float"]], "Tensor | float"]
Push = Callable[[Sequence[Tensor], Sequence[Tensor]], "Tensor | Sequence[Tensor]"]


@dataclass(slots=True)
class Node:
    """One recorded operation, as a linear map from input tangents to output tangents.

    ``captured`` are positions in ``Program.captured`` of the tensors that the map reads (weights,
    primal values). ``keep`` says that the map takes them in the dtype that they have;
    ``overwrites`` is a form of the map that writes into its tangent, if there is one. An
    elementwise map has ``scale``: (captured, factors of the inputs) -> factor of the output,
    where an input's tangent is that factor times some tangent which all inputs share. ``by_rows``
    says that row b of the outputs moves with row b of the inputs alone; ``live``, that the map
    reads the autograd graph of the traced function, ``general``, that no rule was made for it;
    ``is_complex``, which of the outputs are.
    """

    name: str
    push: Push
    inputs: tuple[int, ...]
    captured: tuple[int, ...]
    outputs: tuple[int, ...]
    keep: bool = False
    overwrites: Push | None = None
    scale: Scale | None = None
    is_identity: bool = False
    by_rows: bool = False
    live: bool = False
    general: bool = False
    is_complex: tuple[bool, ...] = ()
