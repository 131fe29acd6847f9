"""Tensors that steps read after the function has run, protected from in-place writes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pydisent.jacobian._call import DerivativeError
from pydisent.jacobian._step import Step


class Memory:
    """Tensors captured by steps, and the readers of each address.

    A tensor is copied only when its memory is about to be overwritten.
    """

    def __init__(self) -> None:
        self.captured: list[Tensor] = []
        self._versions: list[int] = []
        self._own: list[Tensor] = []  # kept alive, so that ids stay valid
        self._index: dict[int, int] = {}
        self._readers: dict[int, list[tuple[list[Any], int]]] = {}  # by address
        self._unsorted: list[tuple[list[Any], int]] = []  # readers since the last write

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
        """Register ``holder[place]``, to replace it by a copy before its memory is overwritten."""
        self._unsorted.append((holder, place))

    def _readers_of(self, target: Tensor) -> list[tuple[list[Any], int]]:
        """Remove and return the readers of a tensor's memory."""
        for reader in self._unsorted:
            address = address_of(reader[0][reader[1]])
            if address is not None:
                self._readers.setdefault(address, []).append(reader)
        self._unsorted.clear()
        return self._readers.pop(address_of(target) or 0, [])

    def preserve(self, target: Tensor) -> None:
        """Copy what is about to be overwritten, for the steps that read it later."""
        for holder, place in self._readers_of(target):
            old = holder[place]
            with torch.enable_grad():  # the copy stays in the original's graph
                holder[place] = old.clone()
            if holder is self.captured:
                self._index.pop(id(self._own[place]), None)
                self._own[place] = holder[place]
                self._index[id(holder[place])] = place
                self._versions[place] = version_of(holder[place])
            self.keep(holder, place)

    def refuse_unseen_writes(self, steps: Iterable[Step[int]]) -> None:
        """Raise DerivativeError if a captured tensor was written without a visible call."""
        for index, (tensor, version) in enumerate(zip(self.captured, self._versions, strict=True)):
            if version_of(tensor) != version:
                reader = next(step.name for step in steps if index in step.captured)
                raise DerivativeError(
                    f"a value of shape {tuple(tensor.shape)} that the derivative of '{reader}' "
                    "needs was written in place by an operation that torch functions do not show "
                    "(such as x.real = y); write into a clone() of it"
                )


def address_of(tensor: Any) -> int | None:
    """The address of a tensor's memory, or None if it has none of its own."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (RuntimeError, NotImplementedError, ValueError):
        # A sparse tensor, a parameter without a shape yet, or one that torch.func left behind.
        return None


def _plain(tensor: Tensor) -> Tensor:
    """The same tensor, without a subclass that overrides ``__torch_function__``."""
    if type(tensor) in (Tensor, torch.nn.Parameter):
        return tensor
    with torch._C.DisableTorchFunctionSubclass(), torch.enable_grad():
        return tensor.as_subclass(Tensor)


def version_of(tensor: Tensor) -> int:
    """The count of in-place writes to a tensor, or -1 if they are not counted."""
    return -1 if tensor.is_inference() else tensor._version
