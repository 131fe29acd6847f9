"""Values that the forward of an ``autograd.Function`` computes and its backward reads.

Gradients are off in a forward, so such a value has no graph. First derivatives are right
nevertheless; a derivative of the backward holds the value constant, which is wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.multiprocessing.reductions import StorageWeakRef

from pydisent.jacobian._call import differentiable, tensors_in
from pydisent.jacobian._memory import address_of
from pydisent.jacobian._names import NO_SLOPE, STEPWISE

_APPLY = torch.autograd.Function.apply.__func__.__code__  # type: ignore[attr-defined]
# Functions of their first argument, whose others give a dtype or a shape.
_LIKE = frozenset({"to", "type_as", "expand_as", "view_as", "reshape_as"})
_FLAT = STEPWISE | NO_SLOPE - _LIKE


class Intermediates:
    """The memory of values computed from differentiable ones in a forward.

    Parameters
    ----------
    caller
        The code that calls the traced function.
    """

    def __init__(self, caller: CodeType) -> None:
        self._caller = caller
        self._storages: dict[int, StorageWeakRef] = {}  # by address

    def run(self, func: Callable, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Run a call with gradients off, or of gradients, and remember its results."""
        out = func(*args, **kwargs)
        read = args[:1] if name in _LIKE else (args, kwargs)
        if name not in _FLAT and self._matter(read) and self._in_forward():
            written = args[:1] if name == "__setitem__" else out
            for tensor in filter(differentiable, tensors_in(written)):
                address = address_of(tensor)
                if address is not None:
                    self._storages[address] = StorageWeakRef(tensor.untyped_storage())
        return out

    def held_by(self, node: Any) -> Tensor | None:
        """A remembered value that the backward of a custom function's ``node`` reads."""
        if "pydisent" in node._forward_cls.__module__ or "pydisent" in node.name():
            return None
        try:
            saved = [*tensors_in(node.saved_tensors), *tensors_in(tuple(vars(node).values()))]
        except RuntimeError:  # written since, which has an error of its own
            return None
        for tensor in filter(differentiable, saved):
            if not tensor.requires_grad:
                if self._remembers(tensor):
                    return tensor
            elif tensor.grad_fn is node and tensor.output_nr and _passes_nothing(tensor):
                return tensor
        return None

    def _matter(self, values: Any) -> bool:
        return any(tensor.requires_grad or self._remembers(tensor) for tensor in tensors_in(values))

    def _remembers(self, tensor: Tensor) -> bool:
        storage = self._storages.get(address_of(tensor) or 0)
        return storage is not None and not storage.expired()

    def _in_forward(self) -> bool:
        frame = sys._getframe(2)
        while frame is not None and frame.f_code is not self._caller:
            if frame.f_code is _APPLY:
                return True
            frame = frame.f_back  # type: ignore[assignment]
        return False


def _passes_nothing(output: Tensor) -> bool:
    """Whether the backward of a custom function ignores the gradient of one of its outputs."""
    node = output.grad_fn
    assert node is not None
    edges = [GradientEdge(parent, i) for parent, i in node.next_functions if parent is not None]
    try:
        pulled = torch.autograd.grad(
            [output], edges, torch.ones_like(output), retain_graph=True, allow_unused=True
        )
    except (RuntimeError, NotImplementedError, TypeError):
        return True
    return not any(bool(part.any()) for part in pulled if part is not None)


def words_for(name: str, value: Tensor) -> str:
    """The error message for a custom function that reads an intermediate value."""
    return (
        f"the backward of '{name}' reads a value of shape {tuple(value.shape)} that its forward "
        "computed, which second derivatives and the gradient of a penalty would wrongly hold "
        "constant: save inputs and outputs alone, and compute other values again in backward"
    )
