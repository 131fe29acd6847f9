"""A toy op, added as any other is."""

from __future__ import annotations

from torch import Tensor

from pydisent._checks import check_floating
from pydisent.ops.registry import Family, Implementation
from pydisent.ops.spec import Sizes, like

__all__ = ["weighted_square"]


def weighted_square(x: Tensor, weight: float, *, impl: Implementation | None = None) -> Tensor:
    """Weight and square x (B, d), or of any one shape: w x², in its dtype."""
    check_floating("x", x)
    return _square(x, weight, impl=impl)


_square = Family("toy", triton=True).op(
    "weighted_square",
    "(Tensor x, float weight) -> Tensor",
    arguments=lambda draw, *shape: (draw(*shape), 0.7),
    sizes=Sizes(
        "B d",
        samples=((5, 3), (1, 1), (0, 4), (33, 70), (4,), (2, 3, 2)),
        tiny=(4, 3),
        small=(64, 10),
        medium=(65536, 32),
        large=(524288, 128),
    ),
    fake=lambda x, weight: like(x),
    flops=lambda x, weight: 2 * x.numel(),
    adjoint="(Tensor grad, Tensor x, float weight) -> (Tensor grad_x)",
    adjoint_flops=lambda grad, x, weight: 2 * x.numel(),
)
