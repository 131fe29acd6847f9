"""One step of a tangent program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# push(captured, tangents) -> tangents of the outputs; tangents are (K, *primal.shape).
Push = Callable[[Sequence[Tensor], Sequence[Tensor]], "Tensor | Sequence[Tensor]"]
# pull(captured, tangents, cotangent, needed) -> gradients of each where needed, without a push.
Pull = Callable[
    [Sequence[Tensor], Sequence[Tensor], Tensor, Sequence[bool]], "Sequence[Tensor | None]"
]
# scale(captured, factors of the inputs) -> factor of the output.
Scale = Callable[[Sequence[Tensor], Sequence["Tensor | float"]], "Tensor | float"]
Place = TypeVar("Place", Tensor, int)
# apply(read, a, b) -> D²f[a, b]. Each of a and b lists P tangents (P, *primal.shape) of every input
# and, after them, of every output.
Bending = Callable[
    [Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], "Tensor | Sequence[Tensor]"
]


@dataclass(slots=True)
class Bend(Generic[Place]):
    """The second derivative of an operation, D²f[a, b]: bilinear and symmetric.

    For a step with one input and one output, ``together`` may map K first derivatives, followed by
    K second ones along the same directions or by none, to those of the output, or return None.
    """

    reads: Sequence[Place]  # like ``Step.captured``
    apply: Bending
    together: Callable[[Sequence[Tensor], Tensor, int], Tensor | None] | None = None


@dataclass(slots=True)
class Step(Generic[Place]):
    """One operation as a linear map from input tangents to output tangents.

    A rule names the values themselves (``Step[Tensor]``); in a program (``Step[int]``) inputs and
    outputs are numbered slots for tangents, and captured tensors positions in
    ``Program.captured``. An elementwise map has a ``scale``: the factor of its output, if each
    tangent is a factor times one tangent that all inputs share.
    """

    inputs: Sequence[Place]
    captured: Sequence[Place]  # what the map reads: weights, primal values
    push: Push
    outputs: Sequence[Place] = ()  # by default all floating-point results
    keep: bool = False  # captured tensors stay in their own dtype
    overwrites: Push | None = None  # a form of the map that writes into its tangent
    pull: Pull | None = None  # for a step with one output
    scale: Scale | None = None
    is_identity: bool = False
    by_rows: bool = False  # row b of the outputs depends on row b of the inputs alone
    name: str = ""
    live: bool = False  # the map reads the traced function's autograd graph
    only_first: str = ""  # why its derivatives of higher order are wrong
    general: bool = False  # there is no rule for the operation
    is_complex: tuple[bool, ...] = ()  # for each output
    bend: Bend[Place] | None = None  # default: the map's derivative by captured tensors

    def known_as(self, value: Tensor) -> Push:
        """A map with the same derivatives that returns the known result ``value``."""
        return lambda captured, tangents: _Known.apply(value, self.pull, *captured, *tangents)


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, pull, *read):
        ctx.pull = pull
        ctx.save_for_backward(*read)
        return value.view_as(value)

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        *captured, tangent = ctx.saved_tensors
        needed = ctx.needs_input_grad[2:]
        return None, None, *ctx.pull(captured, [tangent], cotangent, needed)
