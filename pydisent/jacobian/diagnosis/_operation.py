"""One recorded operation, as a function of its differentiable arguments in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pydisent.jacobian._call import differentiable
from pydisent.jacobian._draws import RandomState
from pydisent.jacobian.decompositions import (
    DECOMPOSITIONS,
    KEEP_STATISTICS,
    OF_SYMMETRIC_MATRICES,
)

_NARROW = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex32: torch.complex128,
    torch.complex64: torch.complex128,
}
# Functions that only change the dtype.
CASTS = frozenset("to type type_as float double half bfloat16".split())


def widened(value: Any) -> Any:
    """A tensor, or a dtype, in double precision; other values unchanged."""
    if isinstance(value, torch.dtype):
        return _NARROW.get(value, value)
    if isinstance(value, Tensor) and value.dtype in _NARROW:
        return value.to(_NARROW[value.dtype])
    return value


@dataclass
class Operation:
    """A call that was recorded: its function, and copies of its arguments as they were."""

    func: Callable[..., Any]
    name: str
    leaves: list[Any]
    spec: Any
    moving: list[list[int]]  # positions of each differentiated leaf and its aliases
    target: int | None  # the leaf that it writes into
    place: str
    drawn: RandomState | None  # before the call, if it drew random numbers
    count: int = 1
    outputs: list[int] | None = None  # which floating-point results have a derivative

    @property
    def shapes(self) -> str:
        """The shapes of its tensors, such as ``(8, 16), (16,)``."""
        shapes = [tuple(leaf.shape) for leaf in self.leaves if isinstance(leaf, Tensor)]
        return ", ".join("×".join(map(str, shape)) or "()" for shape in shapes[:4]) + (
            ", …" if len(shapes) > 4 else ""
        )

    @property
    def _reads_a_triangle(self) -> bool:
        return DECOMPOSITIONS.get(self.func) in OF_SYMMETRIC_MATRICES

    def operands(self) -> list[Tensor]:
        """The differentiable arguments, real and in float64."""
        return [_real(widened(self.leaves[places[0]])) for places in self.moving]

    def function(self) -> Callable[[Sequence[Tensor]], Tensor]:
        """The call as a map from its operands to one vector of all outputs that they move."""
        fixed = [widened(leaf) for leaf in self.leaves]
        complexes = [fixed[places[0]].is_complex() for places in self.moving]
        keeps = self.target is None and self.func not in KEEP_STATISTICS
        symmetric = self._reads_a_triangle and _is_symmetric(fixed[0])

        def call(operands: Sequence[Tensor]) -> Tensor:
            leaves = fixed if keeps else [_copied(leaf) for leaf in fixed]
            leaves = list(leaves)
            for places, operand, is_complex in zip(self.moving, operands, complexes):
                given = torch.view_as_complex(operand) if is_complex else operand
                given = given if self.target is None else given.clone()  # a leaf cannot be written
                for place in places:
                    leaves[place] = given
            if symmetric:  # such matrices vary along symmetric directions alone
                leaves[0] = (leaves[0] + leaves[0].mH) / 2
            args, kwargs = self.spec.unflatten(leaves)
            with self.drawn.replayed() if self.drawn is not None else nullcontext():
                out = self.func(*args, **kwargs)
            if self.target is not None:
                return vector([leaves[self.target]])
            results = floating(out)
            return vector([results[i] for i in self.outputs or range(len(results))])

        return call


def _is_symmetric(x: Tensor) -> bool:
    return bool(torch.linalg.norm(x - x.mH) <= 1e-5 * torch.linalg.norm(x))  # both may have rounded


def floating(out: Any) -> list[Tensor]:
    """The tensors of a result that may have derivatives."""
    return [t for t in pytree.tree_leaves(out) if differentiable(t)]


def vector(parts: Sequence[Tensor]) -> Tensor:
    """Tensors as one vector of real numbers."""
    rows = [_real(t).reshape(-1) for t in parts]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def _copied(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, Tensor) else leaf
