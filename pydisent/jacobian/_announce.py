"""One-time warnings about a differentiated function."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from pydisent._notice import warn

_announced: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()


def announce(fn: Callable[..., Any], hidden: list[str], *, has_hooks: bool) -> None:
    """Warn about operations visible only in the autograd graph, and about gradient hooks."""
    if hidden:
        _once(
            fn,
            f"cannot be traced completely ({'; '.join(dict.fromkeys(hidden))}); these parts are "
            "differentiated by reverse mode twice, which is right but slower",
        )
    if has_hooks:
        _once(
            fn,
            "registers hooks on gradients: these change neither what it computes nor its Jacobian; "
            "the gradient of a penalty passes through them",
        )


def _once(fn: Callable[..., Any], what: str) -> None:
    # Once per code object: a closure may be recreated at each step.
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
