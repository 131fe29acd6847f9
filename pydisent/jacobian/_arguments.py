"""Checks of the arguments shared by the engine's public functions.

The public function that is called checks them once; internal functions rely on that.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pydisent._checks import check_integer, check_one_of
from pydisent.jacobian._modes import is_capturing

Coupled = Literal["error", "hold"]


def checked_keywords(
    own: Callable[..., Any],
    fn: Any,
    z: Any,
    kwargs: dict[str, Any],
    fn_kwargs: Mapping[str, Any] | None,
    *,
    compute_dtype: Any = None,
    chunk: Any = None,
    coupled: Any = "error",
) -> dict[str, Any]:
    """Check the arguments of the public function ``own``; return all keyword arguments of ``fn``.

    Raises TypeError, ValueError or RuntimeError before any work is done.
    """
    refuse_transforms()
    if not callable(fn):
        raise TypeError(f"fn must be callable, got {type(fn).__name__}")
    _check_codes(z)
    check_options(compute_dtype, chunk, coupled)
    merged = merged_keywords(kwargs, fn_kwargs)
    check_keywords(fn, kwargs, own)
    return merged


def check_options(compute_dtype: Any, chunk: Any, coupled: Any) -> None:
    """Raise TypeError or ValueError unless these options of the engine are valid."""
    if compute_dtype is not None and not (
        isinstance(compute_dtype, torch.dtype) and compute_dtype.is_floating_point
    ):
        raise TypeError(
            f"compute_dtype must be a floating-point torch.dtype, got {compute_dtype!r}"
        )
    if chunk is not None:
        check_integer("chunk", chunk, at_least=1)
    check_one_of("coupled", coupled, get_args(Coupled))


def refuse_transforms() -> None:
    """Raise RuntimeError inside a ``torch.func`` transform or forward-mode AD."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        found = "a torch.func transform (grad, vmap)"
    elif torch.autograd.forward_ad._current_level >= 0:  # its tangents would be dropped
        found = "forward-mode AD (torch.autograd.forward_ad.dual_level)"
    else:
        return
    raise RuntimeError(
        f"pydisent's Jacobian engine cannot run inside {found}; call it outside and take gradients "
        "with backward() or torch.autograd.grad"
    )


def _check_codes(z: Any) -> None:
    if not isinstance(z, Tensor):
        raise TypeError(f"z must be a (B, m) tensor, got {type(z).__name__}")
    if not z.is_floating_point():
        raise TypeError(f"z must be a floating-point tensor (B, m), got dtype {z.dtype}")
    if z.dtype.itemsize < 2:  # no arithmetic has these
        raise TypeError(f"z must have at least 16 bits per number, got dtype {z.dtype}")
    if z.layout != torch.strided or z.is_nested:
        raise TypeError(
            f"z must be a dense tensor (B, m), got {'a nested one' if z.is_nested else z.layout}"
        )
    if z.is_meta and not is_capturing():
        raise ValueError("z must have values, got a tensor on the meta device")
    if z.dim() < 2 or 0 in z.shape:
        raise ValueError(
            f"z must have shape (B, m) or (B, *latent) with B, m >= 1, got {tuple(z.shape)}"
        )


def check_tangents(tangents: Any, latent: torch.Size) -> None:
    """Raise TypeError or ValueError unless tangents are real, (K, B, *latent)."""
    expected = ", ".join(map(str, latent))
    if not isinstance(tangents, Tensor) or tangents.is_complex():
        got = tangents.dtype if isinstance(tangents, Tensor) else type(tangents).__name__
        raise TypeError(f"tangents must be a real tensor (K, {expected}), got {got}")
    if tangents.shape[1:] != latent:
        raise ValueError(f"tangents must have shape (K, {expected}), got {tuple(tangents.shape)}")


def checked_cotangents(
    cotangents: Any, structure: pytree.TreeSpec, outputs: Sequence[Tensor | None]
) -> list[Tensor]:
    """The given cotangents as a list; TypeError or ValueError unless real and (K, B, *out).

    ``outputs`` are the leaves of the function's value, whose structure the cotangents must have.
    """
    found, own = pytree.tree_flatten(cotangents)
    leaves = [leaf for leaf in found if leaf is not None]
    shapes = [tuple(output.shape) for output in outputs if output is not None]
    if own != structure or any(
        given is not None if output is None else not _fits(given, output)
        for given, output in zip(found, outputs)
    ):
        got = [tuple(getattr(leaf, "shape", ())) for leaf in leaves]
        raise ValueError(f"cotangents must have shapes (K, *s) for s in {shapes}, got {got}")
    if len({len(leaf) for leaf in leaves}) > 1:
        got = [tuple(leaf.shape) for leaf in leaves]
        raise ValueError(f"cotangents must have the same K for all outputs, got shapes {got}")
    for leaf in leaves:
        if leaf.is_complex():
            raise TypeError(f"cotangents must be real tensors, got dtype {leaf.dtype}")
    return leaves


def _fits(cotangent: Any, output: Tensor) -> bool:
    return isinstance(cotangent, Tensor) and cotangent.shape[1:] == output.shape


def check_keywords(
    fn: Callable[..., Any], kwargs: dict[str, Any], *own: Callable[..., Any]
) -> None:
    """Raise TypeError for a keyword that neither ``fn`` nor the called ``own[0]`` accepts.

    The error suggests the most similar keyword of ``own``. If the signature of ``fn`` cannot be
    read, all keywords pass.
    """
    if not kwargs:
        return
    try:
        taken = inspect.signature(fn.forward if isinstance(fn, nn.Module) else fn).parameters
    except (TypeError, ValueError):
        return
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        return
    unknown = [name for name in kwargs if name not in taken or taken[name].kind not in named]
    if not unknown:
        return
    accepted = [
        n for f in own for n, p in inspect.signature(f).parameters.items() if p.kind in named
    ]
    near = difflib.get_close_matches(unknown[0], accepted, 1)
    hint = f"; did you mean {near[0]!r}?" if near and near[0] != unknown[0] else ""
    raise TypeError(
        f"{own[0].__qualname__} got an unexpected keyword argument {unknown[0]!r}, which fn does "
        f"not accept either{hint}"
    )


def merged_keywords(kwargs: dict[str, Any], more: Mapping[str, Any] | None) -> dict[str, Any]:
    """All keyword arguments of ``fn``; TypeError if one is given twice."""
    if more is None:
        return kwargs
    if not isinstance(more, Mapping) or not all(isinstance(name, str) for name in more):
        raise TypeError(f"fn_kwargs must map names to values, got {more!r:.60}")
    twice = sorted(kwargs.keys() & more.keys())
    if twice:
        raise TypeError(f"fn_kwargs must not repeat keyword arguments, got {twice}")
    return {**kwargs, **more}
