"""The bodies of PyTorch's own functions that are written in Python."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

_CHECKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


@functools.lru_cache(1024)
def body_of(func: Callable[..., Any]) -> Callable[..., Any] | None:
    """A function of ``torch.nn.functional`` or ``torch.functional`` without its check for modes.

    Under a mode, such a function is one call to the mode; its body, the calls that it makes. None
    for other functions.
    """
    modules = ("torch.nn.functional", "torch.functional")
    if not inspect.isfunction(func) or func.__module__ not in modules:
        return None
    checks = [name for name in _CHECKS if name in func.__code__.co_names]
    if not checks:
        return None
    scope = {**func.__globals__, **dict.fromkeys(checks, lambda *tensors: False)}
    body = types.FunctionType(
        func.__code__, scope, func.__name__, func.__defaults__, func.__closure__
    )
    body.__kwdefaults__ = func.__kwdefaults__
    return body
