"""Gradient hooks that a function registers on its values, silenced while J is computed.

A hook changes gradients, not the function, so J by reverse mode must bypass it; the gradient of a
penalty does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn.modules._functions import BackwardHookFunction
from torch.overrides import TorchFunctionMode


class Hooks(TorchFunctionMode):
    """A mode in which hooks registered by the function can be silenced."""

    def __init__(self) -> None:
        super().__init__()
        self._silent = 0
        self.registered = False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is Tensor.register_hook:
            return self.register(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def register(self, tensor: Tensor, hook: Callable[[Tensor], Any]) -> Any:
        """``tensor.register_hook(hook)``."""
        self.registered = True

        def heard(gradient: Tensor) -> Any:
            return None if self._silent else hook(gradient)

        return Tensor.register_hook(tensor, heard)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """A context in which the hooks do nothing."""
        self._silent += 1
        try:
            yield
        finally:
            self._silent -= 1


def behind_module_hooks(node: Any, number: int) -> tuple[Any, int]:
    """The edge in the autograd graph of the value that a module's backward hooks pass through."""
    while getattr(node, "_forward_cls", None) is BackwardHookFunction:
        node, number = node.next_functions[number]
    return node, number
