"""The gradient hooks that a function registers on its values: silent while J is computed.

A hook changes gradients on their way back, not the function, so that J by reverse mode must not
pass it; the gradient of a penalty does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn.modules._functions import BackwardHookFunction
from torch.overrides import TorchFunctionMode


class Hooks(TorchFunctionMode):
    """As a mode, it makes the hooks that are registered inside it silent on demand."""

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
    """The place in the autograd graph of the value that a module's backward hooks hand through."""
    while getattr(node, "_forward_cls", None) is BackwardHookFunction:
        node, number = node.next_functions[number]
    return node, number
