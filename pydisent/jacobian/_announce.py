"""What is said once of a function that is differentiated."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from pydisent._notice import warn

_announced: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()


def announce(fn: Callable[..., Any], hidden: list[str], *, has_hooks: bool) -> None:
    """Warn of the operations that only the autograd graph shows, and of hooks on gradients."""
    if hidden:
        _once(
            fn,
            f"cannot be traced in all its parts ({'; '.join(dict.fromkeys(hidden))}); these are "
            "differentiated by reverse mode twice, which is right but slower",
        )
    if has_hooks:
        _once(
            fn,
            "registers hooks on gradients: its Jacobian is that of what it computes, which no hook "
            "changes; the gradient of a penalty passes through them",
        )


def _once(fn: Callable[..., Any], what: str) -> None:
    # Once per code object: a closure may be made anew at each step.
    code = getattr(getattr(fn, "__func__", fn), "__code__", fn)
    try:
        hash(weakref.ref(code))
    except TypeError:
        code = type(fn)
    kind = what.split()[0]
    if kind in _announced.setdefault(code, set()):
        return
    _announced[code].add(kind)
    name = getattr(fn, "__qualname__", type(fn).__qualname__)
    warn(f"{name} {what}")
