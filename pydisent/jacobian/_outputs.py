"""Checks of what a function returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from pydisent.jacobian._finite import is_finite
from pydisent.jacobian._modes import is_capturing

CONSTANT = "fn must depend on z, but its output is computed without it"


def output_tensors(value: Any, z: Tensor) -> list[Tensor]:
    """The tensors that ``fn`` returned, checked: floating, with the batch in front."""
    leaves = [leaf for leaf in pytree.tree_leaves(value) if leaf is not None]
    if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
        kinds = sorted({type(leaf).__name__ for leaf in leaves}) or type(value).__name__
        raise TypeError(f"fn must return a tensor or a list of tensors, got {kinds}")
    for leaf in leaves:
        if not leaf.is_floating_point():
            raise TypeError(f"fn must return real floating-point tensors, got dtype {leaf.dtype}")
        if leaf.dim() == 0 or leaf.shape[0] != z.shape[0]:
            raise ValueError(
                "fn must return tensors with the batch of z in front, (B, ...) with "
                f"B = {z.shape[0]}, got shape {tuple(leaf.shape)}"
            )
    if not any(leaf.numel() for leaf in leaves):
        shapes = [tuple(leaf.shape) for leaf in leaves]
        raise ValueError(f"fn must return at least one number for each code, got shapes {shapes}")
    return leaves


def check_finite(outputs: Sequence[Tensor]) -> None:
    """Raise ValueError if ``fn`` returned NaN or infinity, except during CUDA graph capture."""
    if not is_capturing() and not all(map(is_finite, outputs)):
        raise ValueError("fn must return finite values, but its output has NaN or infinity in it")
