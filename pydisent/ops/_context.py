"""Call context: the chosen implementation, transforms, modes and leading axes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

# The implementation of kernels below autograd, backward included: "auto", or "triton" interpreted.
chosen: ContextVar[str] = ContextVar("pydisent_implementation", default="auto")

# The dispatch keys that this thread includes in, and excludes from, every call.
_included = torch._C._dispatch_tls_local_include_set
_excluded = torch._C._dispatch_tls_local_exclude_set


def in_new_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function where no mode, transform, trace or autocast is active."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args).result()


# A dispatch mode, transform, trace, autocast or inference mode changes a thread's keys.
_INCLUDED, _EXCLUDED = in_new_thread(lambda: (_included(), _excluded()))
_ORDINARY = frozenset((Tensor, torch.nn.Parameter, float, int, bool, str, type(None)))


# The dictionary and key inside os.environ, which would encode and decode on every lookup.
_VARIABLES: dict[Any, Any] = vars(os.environ)["_data"]
_IMPL = vars(os.environ)["encodekey"]("PYDISENT_IMPL")


def environment_choice() -> Any:
    """The environment variable ``PYDISENT_IMPL``, or None if unset or empty."""
    value = _VARIABLES.get(_IMPL)
    return os.environ["PYDISENT_IMPL"] if value else None


@contextmanager
def choosing(impl: str) -> Iterator[None]:
    """Select the implementation that kernels below autograd run."""
    token = chosen.set(impl)
    try:
        yield
    finally:
        chosen.reset(token)


def is_transformed() -> bool:
    """Whether forward-mode AD or a ``torch.func`` transform is active."""
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def is_ordinary(args: tuple[Any, ...]) -> bool:
    """Whether only autograd and the op's own kernels would see this call."""
    for x in args:
        if type(x) not in _ORDINARY:
            return False
    return (
        forward_ad._current_level < 0
        and not torch._C._len_torch_function_stack()
        and chosen.get() == "auto"
        and _included() == _INCLUDED
        and _excluded() == _EXCLUDED
    )


def requires_grad(args: tuple[Any, ...]) -> bool:
    """Whether autograd would record a gradient for any argument."""
    return torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in args)


def device_type(args: tuple[Any, ...]) -> str:
    """The device type of the tensors among the arguments."""
    return next(x for x in args if isinstance(x, Tensor)).device.type


def merge_leading(args: tuple[Any, ...], core: int) -> tuple[tuple[Any, ...], Any]:
    """Merge the leading axes, all but the last ``core``, into one; also return any that changed."""
    if not core or args[0].dim() == core + 1:
        return args, None
    leading = args[0].shape[:-core]
    if not leading:
        return tuple(x.unsqueeze(0) for x in args), leading
    # Not flatten: the batched gradients of torch.autograd.grad have no rule for it.
    return tuple(x.reshape(-1, *x.shape[-core:]) for x in args), leading


def split_leading(outputs: Any, leading: Any) -> Any:
    """Undo :func:`merge_leading` on outputs."""
    if isinstance(outputs, tuple):
        return tuple(x.reshape(*leading, *x.shape[1:]) for x in outputs)
    return outputs.reshape(*leading, *outputs.shape[1:])
