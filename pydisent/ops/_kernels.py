"""The kernels of an op registered with ``torch.library``, besides the compiled ones."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pydisent import _backends
from pydisent._notice import warn_once
from pydisent.ops._context import (
    chosen,
    device_type,
    is_transformed,
    requires_grad,
)
from pydisent.ops._overlap import refuse_overlap
from pydisent.ops.spec import Backward, OpSpec, as_meta, tuple_of

Kernel = Callable[..., Any]


def triton_kernel(spec: OpSpec) -> Kernel:
    """Make a kernel from the op's launch function, imported on the first call."""
    assert spec.inputs[0] in spec.tensors
    launch: Kernel | None = None

    def kernel(*args: Any) -> Any:
        nonlocal launch
        if launch is None:
            module = importlib.import_module(f"pydisent.triton_kernels.{spec.family}")
            launch = getattr(module, spec.name)
        device = args[0].get_device()  # -1 is the CPU
        if device < 0 or device == torch.cuda.current_device():
            return launch(*args)
        with torch.cuda.device(device):
            return launch(*args)

    return kernel


def fallback_kernel(spec: OpSpec) -> Kernel:
    """Make the kernel that runs the reference where there is no other kernel."""

    def kernel(*args: Any) -> Any:
        device = device_type(args)
        reason = _backends.native_reason(device)
        if _backends.is_strict():
            reason = reason or "it has no kernel there"
            raise RuntimeError(
                f"PYDISENT_STRICT=1: {spec.name} would fall back to its reference on "
                f"{device!r}: {reason}"
            )
        if reason and device in ("cpu", "cuda"):  # devices that can have compiled kernels
            warn_once(f"ops on {device!r} fall back to their references, right but slow: {reason}")
        outputs = spec.reference(*args)
        return None if spec.written else _with_strides(outputs, spec.fake(*map(as_meta, args)))

    return kernel


def _with_strides(outputs: Any, like: Any) -> Any:
    """Give a fallback's outputs the strides of the fake's and the compiled kernels' outputs."""
    if isinstance(outputs, tuple):
        return tuple(map(_with_strides, outputs, like))
    if outputs.stride() == like.stride():
        return outputs
    empty = torch.empty_strided(
        like.shape, like.stride(), dtype=outputs.dtype, device=outputs.device
    )
    return empty.copy_(outputs)


def autograd_kernel(spec: OpSpec, overload: Any, backward: Backward) -> Kernel:
    """Make the Autograd kernel, which the dispatcher calls with a keyset."""
    below = _kernel_below_autograd(spec, overload)
    if spec.written:
        return _mutating_kernel(spec, below)

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, keyset: Any, *args: Any) -> Any:
            outputs = below(keyset, *args)
            _save(ctx, spec, args, outputs)
            ctx.chosen = chosen.get()
            return outputs

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            inputs, outputs = _saved(ctx)
            needs = ctx.needs_input_grad[1:]
            if all(grad is None for grad in grads):
                return (None,) * (1 + len(needs))
            token = chosen.set(ctx.chosen)
            try:
                return None, *backward(inputs, outputs, grads, needs)
            finally:
                chosen.reset(token)

    Function.__name__ = Function.__qualname__ = f"{spec.name}_autograd"

    def kernel(keyset: Any, *args: Any) -> Any:
        # Under a dual tensor or functorch level, only composed primitives propagate the tangent.
        if is_transformed():
            return spec.reference(*args)
        if requires_grad(args):
            return Function.apply(keyset, *args)
        return below(keyset, *args)

    return kernel


def _kernel_below_autograd(spec: OpSpec, overload: Any) -> Kernel:
    after_autograd = torch._C._after_autograd_keyset
    by_triton = triton_kernel(spec)

    def below(keyset: Any, *args: Any) -> Any:
        if chosen.get() == "triton" and spec.triton:
            return by_triton(*args)
        with torch._C._AutoDispatchBelowAutograd():
            return overload.redispatch(keyset & after_autograd, *args)

    return below


def _mutating_kernel(spec: OpSpec, below: Kernel) -> Kernel:
    def kernel(keyset: Any, *args: Any) -> Any:
        written = refuse_writing(spec, args)
        below(keyset, *args)
        torch.autograd.graph.increment_version(written)

    return kernel


def refuse_writing(spec: OpSpec, args: tuple[Any, ...]) -> list[Tensor]:
    """Return the tensors that the op writes to; raise if it must not write to them."""
    if is_transformed() or requires_grad(args):
        raise RuntimeError(
            f"{spec.name} writes in place and has no derivative; "
            f"use {spec.name.rstrip('_')}, or torch.no_grad() outside any transform"
        )
    return refuse_overlaps(spec, args)


def refuse_overlaps(spec: OpSpec, args: tuple[Any, ...]) -> list[Tensor]:
    """Return the tensors that the op writes to; raise if their memory overlaps."""
    tensors = {n: x for n, x in zip(spec.inputs, args) if isinstance(x, Tensor)}
    for name in spec.written:
        refuse_overlap(name, tensors[name], {n: x for n, x in tensors.items() if n != name})
    return [tensors[name] for name in spec.written]


def _save(ctx: Any, spec: OpSpec, args: tuple[Any, ...], outputs: Any) -> None:
    """Save tensors with ``save_for_backward``, and the rest, at their positions, on the context."""
    kept = [x if i in spec.saves else None for i, x in enumerate(tuple_of(outputs))]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*(x if isinstance(x, Tensor) else None for x in (*args, *kept)))
    ctx.plain = tuple(None if isinstance(x, Tensor) else x for x in args)


def _saved(ctx: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    tensors, count = ctx.saved_tensors, len(ctx.plain)
    inputs = tuple(p if t is None else t for t, p in zip(tensors[:count], ctx.plain))
    return inputs, tensors[count:]
