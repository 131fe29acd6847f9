"""The tensors that steps read after the function has run, safe from later writes in place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pydisent.jacobian._call import DerivativeError
from pydisent.jacobian._step import Step


class Memory:
    """Tensors captured by steps, and who reads which address.

    A tensor is copied when, and only if, its memory is about to be overwritten.
    """

    def __init__(self) -> None:
        self.captured: list[Tensor] = []
        self._versions: list[int] = []
        self._own: list[Tensor] = []  # kept, as their ids are read
        self._index: dict[int, int] = {}
        self._readers: dict[int, list[tuple[list[Any], int]]] = {}  # by address

    def capture(self, tensor: Tensor) -> int:
        """The position of a tensor among those captured."""
        index = self._index.get(id(tensor))
        if index is None:
            index = len(self.captured)
            self.captured.append(_plain(tensor))
            self._versions.append(version_of(tensor))
            self._index[id(tensor)] = index
            self._own.append(tensor)
            self.keep(self.captured, index)
        return index

    def keep(self, holder: list[Any], place: int) -> None:
        """Replace ``holder[place]`` by a copy should its memory be written."""
        address = address_of(holder[place])
        if address is not None:
            self._readers.setdefault(address, []).append((holder, place))

    def preserve(self, target: Tensor) -> None:
        """Copy what is about to be overwritten, for the steps that read it later."""
        for holder, place in self._readers.pop(address_of(target) or 0, ()):
            old = holder[place]
            with torch.enable_grad():  # a copy leads where the original does
                holder[place] = old.clone()
            if holder is self.captured:
                self._index.pop(id(self._own[place]), None)
                self._own[place] = holder[place]
                self._index[id(holder[place])] = place
                self._versions[place] = version_of(holder[place])
            self.keep(holder, place)

    def refuse_unseen_writes(self, steps: Iterable[Step[int]]) -> None:
        """Raise DerivativeError if a captured tensor was written without a call that shows it."""
        for index, (tensor, version) in enumerate(zip(self.captured, self._versions, strict=True)):
            if version_of(tensor) != version:
                reader = next(step.name for step in steps if index in step.captured)
                raise DerivativeError(
                    f"a value of shape {tuple(tensor.shape)} that the derivative of '{reader}' "
                    "needs was written in place by an operation that torch functions do not show "
                    "(such as x.real = y); write into a clone() of it"
                )


def address_of(tensor: Any) -> int | None:
    """Where the memory of a tensor begins, or None if it has none of its own."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (RuntimeError, NotImplementedError, ValueError):
        # A sparse tensor, a parameter without a shape yet, or one that torch.func left behind.
        return None


def _plain(tensor: Tensor) -> Tensor:
    """The same tensor, of no type that says itself what torch functions do to it."""
    if type(tensor) in (Tensor, torch.nn.Parameter):
        return tensor
    with torch._C.DisableTorchFunctionSubclass(), torch.enable_grad():
        return tensor.as_subclass(Tensor)


def version_of(tensor: Tensor) -> int:
    """How often a tensor was written, as far as that is counted."""
    return -1 if tensor.is_inference() else tensor._version
