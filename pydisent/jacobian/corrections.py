"""``correct_derivatives``: plain PyTorch with right derivatives of every order."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import ContextDecorator, ExitStack
from typing import Any, TypeVar

from pydisent.jacobian.decompositions import CorrectedFunctions, RefuseWrongDerivatives

_F = TypeVar("_F", bound=Callable[..., Any])


class correct_derivatives(ContextDecorator):
    """Make PyTorch's own derivatives right inside this context, or inside a decorated function.

    Operations that PyTorch differentiates wrongly, or not at all, run as compositions of others:
    layer, instance and batch norm, attention, determinants, linear solves and the rest of
    ``pydisent.jacobian.decompositions.DECOMPOSITIONS``, which the Jacobian engine itself uses.
    Values equal those of the native calls up to rounding; running statistics are updated.
    Derivatives of any order are then right with backward, ``torch.func`` and forward mode.
    :func:`pydisent.doctor` shows what is wrong otherwise.

    Notes
    -----
    The context must be active where the function is *evaluated*: inside a ``torch.func`` transform,
    or before a backward pass, which may itself run later. It applies to the current thread only,
    and may be nested. Activation checkpointing is disabled inside it, as recomputation would use
    native kernels. Functions compiled by ``torch.compile`` are recompiled for it. It cannot
    intercept native kernels that TorchScript calls: those with wrong derivatives raise
    RuntimeError. Fused kernels are not used, so calls take longer and attention stores its weights.
    Under autocast the decompositions compute in float32, and results have the dtype of the native
    call.

    Raises
    ------
    TypeError
        If a generator or coroutine function is decorated, whose body would run outside the context.
    RuntimeError
        If TorchScript calls a native kernel whose higher derivatives are wrong.

    Examples
    --------
    >>> norm = torch.nn.LayerNorm(4, elementwise_affine=False).double()
    >>> x, q = torch.tensor([[1.0, -2.0, 0.5, 3.0]]).double(), torch.eye(4)[:1].double()
    >>> def stretch(x):
    ...     return torch.func.jvp(norm, (x,), (q,))[1].square().sum()
    >>> step = (stretch(x + 1e-5 * q) - stretch(x - 1e-5 * q)) / 2e-5
    >>> bool((torch.func.grad(stretch)(x) * q).sum().sub(step).abs() < 1e-6)
    False
    >>> with pydisent.correct_derivatives():
    ...     bool((torch.func.grad(stretch)(x) * q).sum().sub(step).abs() < 1e-6)
    True
    """

    def __new__(cls, func: Callable[..., Any] | None = None) -> Any:  # noqa: D102
        made = super().__new__(cls)
        if func is None:
            return made
        if not callable(func):
            raise TypeError(f"correct_derivatives takes no arguments, got {func!r}")
        correct_derivatives.__init__(made)
        return made(func)  # as ``@correct_derivatives`` without parentheses

    def __init__(self) -> None:
        self._active: list[ExitStack] = []

    def __enter__(self) -> correct_derivatives:
        stack = ExitStack()
        functions = CorrectedFunctions()
        stack.enter_context(RefuseWrongDerivatives(seen=functions))
        stack.enter_context(functions)
        self._active.append(stack)
        return self

    def __exit__(self, *error: Any) -> None:
        self._active.pop().__exit__(*error)

    def __call__(self, func: _F) -> _F:
        """Decorate a function, so that each call enters a new context."""
        kinds = (
            inspect.isgeneratorfunction,
            inspect.iscoroutinefunction,
            inspect.isasyncgenfunction,
        )
        if any(is_kind(func) for is_kind in kinds):
            raise TypeError(
                "correct_derivatives can only decorate plain functions, got a generator or "
                f"coroutine function {func!r}: enter the context inside it"
            )
        return super().__call__(func)

    def _recreate_cm(self) -> correct_derivatives:
        return type(self)()  # threads may call a decorated function concurrently
