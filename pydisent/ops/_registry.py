"""Registration of ops: the one place that talks to ``torch.library``.

An op works on any machine, since its reference is its CompositeExplicitAutograd kernel; the
compiled module only overrides that for CPU and CUDA. The Autograd kernel made here sends forward
mode and functorch transforms to the differentiable reference: ``autograd.Function`` alone would
lose a tangent, or stop, there. An ordinary eager call of an ``Op`` goes to that kernel directly,
since on small tensors the way through the dispatcher costs more than the arithmetic.
"""

from __future__ import annotations

import functools
import importlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import _backends
from .._notice import warn_once
from ._nvtx import op_range
from ._overlap import refuse_overlap

NAMESPACE = "pydisent"
Implementation = Literal["auto", "reference", "native", "triton"]
IMPLEMENTATIONS = get_args(Implementation)

_LIBRARY = torch.library.Library(NAMESPACE, "DEF")

# What kernels below autograd run: "auto", or "triton" in its interpreter, backward included.
_CHOSEN: ContextVar[str] = ContextVar("pydisent_implementation", default="auto")

#: Every registered op by name, in the order of registration.
REGISTRY: dict[str, Op] = {}

Grads = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class OpSpec:
    """All there is to say about one op; nothing about it is written a second time.

    Attributes
    ----------
    name, schema
        The op is ``torch.ops.pydisent.<name>``; the schema has no default values, so that every
        kernel gets every argument.
    reference
        Pure PyTorch, differentiable in every mode: the fallback kernel and the tests' oracle.
    fake
        The outputs' metadata, for tracing.
    backward
        ``backward(inputs, outputs, grads, needs) -> grads`` with an entry an input; ``outputs``
        holds those listed in ``saves`` and None elsewhere; a gradient may be None for zero.
        Without it the op's gradient is that of its reference (so it is for backward ops).
    saves
        Indices of the outputs that ``backward`` reads.
    samples
        ``samples(dtype, device)`` yields small argument tuples, edge cases included.
    bytes, flops
        Least memory traffic and arithmetic of a call with these arguments.
    triton
        Name of the launch function in ``pydisent.triton_kernels.<family>``, the op's kernel on
        CUDA; it takes what the op takes and returns what the op returns.
    core
        If not 0, all arguments and outputs are tensors with one leading axis and this many after
        it, none of these empty, and the :class:`Op` takes any number of leading axes; the
        reference has to as well.
    """

    name: str
    schema: str
    reference: Callable[..., Any]
    fake: Callable[..., Any]
    samples: Callable[[torch.dtype, torch.device | str], Iterable[tuple[Any, ...]]]
    bytes: Callable[..., int]
    flops: Callable[..., int]
    backward: (
        Callable[[tuple[Any, ...], tuple[Any, ...], Grads, tuple[bool, ...]], Grads] | None
    ) = None
    saves: tuple[int, ...] = ()
    triton: str = ""
    core: int = 0

    @property
    def family(self) -> str:
        """The op family, which names its file in every folder."""
        return self.fake.__module__.rsplit(".", 1)[-1]

    @property
    def mutates(self) -> bool:
        """Whether the op writes to an argument; such an op has no gradient."""
        return "!" in self.schema


class Op:
    """A registered op: call it with all its arguments in the schema's order."""

    def __init__(
        self, spec: OpSpec, overload: torch._ops.OpOverload, kernel: Callable[..., Any]
    ) -> None:
        self.spec = spec
        self.overload = overload
        self._kernel = kernel
        self._qualified = f"{NAMESPACE}::{spec.name}"

    def __call__(self, *args: Any, impl: str | None = None) -> Any:
        """Run the implementation that ``impl``, else ``PYDISENT_IMPL``, else "auto" names."""
        if impl is None:
            impl = os.environ.get("PYDISENT_IMPL") or "auto"
        if torch.compiler.is_compiling():  # the Autograd kernel sees to any transform
            return self._run(impl, args, transformed=False)
        with op_range(self.spec.name):
            if (impl == "auto" or impl == "native") and _is_ordinary(args):
                if impl == "native":
                    self._require(impl, _device_type(args), False)
                return self._kernel(None, *args)
            return self._run(impl, args, _is_transformed())

    def _run(self, impl: str, args: tuple[Any, ...], transformed: bool) -> Any:
        args, leading = _merge_leading(args, self.spec.core)
        outputs = self._dispatch(impl, args, transformed)
        return outputs if leading is None else _split_leading(outputs, leading)

    def _dispatch(self, impl: str, args: tuple[Any, ...], transformed: bool) -> Any:
        if impl in ("native", "triton"):
            self._require(impl, _device_type(args), transformed)
            if impl == "triton":
                with _choosing(impl):
                    return self.overload(*args)
        elif impl == "reference" or (impl == "auto" and transformed):
            if self.spec.mutates:
                _refuse_overlaps(self.overload, args)
            return self.spec.reference(*args)
        elif impl != "auto":
            raise ValueError(f"impl={impl!r}: accepted are {', '.join(map(repr, IMPLEMENTATIONS))}")
        return self.overload(*args)

    def _require(self, impl: str, device: str, transformed: bool) -> None:
        """Raise with the reason if an implementation asked for by name is not there."""
        if transformed:
            reason = "forward mode and torch.func transforms run the reference"
        elif impl == "triton":
            reason = self._triton_reason(device)
        elif self.implementation(device) == "native":
            reason = ""
        else:
            reason = _backends.native_reason(device) or "this op has no kernel there"
        if reason:
            raise RuntimeError(
                f'{self.spec.name}: impl="{impl}" is not available on {device!r}: {reason}'
            )

    def _triton_reason(self, device: str) -> str:
        if not self.spec.triton:
            return "this op has no Triton kernel"
        return _backends.triton_reason(device)

    def implementation(self, device: str) -> str:
        """Name what ``impl="auto"`` runs on a device type: "native", "triton" or "reference"."""
        key = {"cpu": "CPU", "cuda": "CUDA"}.get(device)
        if not (key and torch._C._dispatch_has_kernel_for_dispatch_key(self._qualified, key)):
            return "reference"
        return "triton" if device == "cuda" and self.spec.triton else "native"


def register(spec: OpSpec) -> Op:
    """Define the op of a spec with its fallback, fake and autograd kernels."""
    _LIBRARY.define(spec.name + spec.schema, tags=(torch.Tag.pt2_compliant_tag,))
    overload = getattr(torch.ops.pydisent, spec.name).default
    _LIBRARY.impl(spec.name, _fallback_kernel(spec), "CompositeExplicitAutograd")
    if spec.triton and not _backends.triton_reason("cuda"):
        _LIBRARY.impl(spec.name, _triton_kernel(spec), "CUDA")
    torch.library.register_fake(f"{NAMESPACE}::{spec.name}", spec.fake, lib=_LIBRARY)
    kernel = _autograd_kernel(spec, overload)
    _LIBRARY.impl(spec.name, kernel, "Autograd", with_keyset=True)
    REGISTRY[spec.name] = op = Op(spec, overload, kernel)
    return op


@contextmanager
def _choosing(impl: str) -> Iterator[None]:
    token = _CHOSEN.set(impl)
    try:
        yield
    finally:
        _CHOSEN.reset(token)


def _triton_kernel(spec: OpSpec) -> Callable[..., Any]:
    """Make a kernel of the spec's launch function, which is imported at the first call."""

    def kernel(*args: Any) -> Any:
        module = importlib.import_module(f"pydisent.triton_kernels.{spec.family}")
        device = next(x for x in args if isinstance(x, Tensor)).device
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            return getattr(module, spec.triton)(*args)

    return kernel


def _device_type(args: tuple[Any, ...]) -> str:
    return next(x for x in args if isinstance(x, Tensor)).device.type


def _is_transformed() -> bool:
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def _requires_grad(args: tuple[Any, ...]) -> bool:
    return any(isinstance(x, Tensor) and x.requires_grad for x in args)


# The dispatch keys that this thread adds to every call, and those that it leaves out.
_included = torch._C._dispatch_tls_local_include_set
_excluded = torch._C._dispatch_tls_local_exclude_set


def _keys_of_a_new_thread() -> list[Any]:
    keys: list[Any] = []
    thread = threading.Thread(target=lambda: keys.extend((_included(), _excluded())))
    thread.start()
    thread.join()
    return keys


# A dispatch mode, transform, trace, autocast or inference mode makes a thread's keys differ.
_INCLUDED, _EXCLUDED = _keys_of_a_new_thread()
_ORDINARY = frozenset((Tensor, torch.nn.Parameter, float, int, bool, str, type(None)))


def _is_ordinary(args: tuple[Any, ...]) -> bool:
    """Whether nothing but autograd and the op's own kernels would see a call."""
    for x in args:
        if type(x) not in _ORDINARY:
            return False
    return (
        forward_ad._current_level < 0
        and not torch._C._len_torch_function_stack()
        and _CHOSEN.get() == "auto"
        and _included() == _INCLUDED
        and _excluded() == _EXCLUDED
    )


def _merge_leading(args: tuple[Any, ...], core: int) -> tuple[tuple[Any, ...], Any]:
    """Merge all axes but the last ``core`` into one; also return what they were, if others."""
    if not core or args[0].dim() == core + 1:
        return args, None
    leading = args[0].shape[:-core]
    if not leading:
        return tuple(x.unsqueeze(0) for x in args), leading
    # Not flatten, which the batched gradients of torch.autograd.grad have no rule for.
    return tuple(x.reshape(-1, *x.shape[-core:]) for x in args), leading


def _split_leading(outputs: Any, leading: Any) -> Any:
    if isinstance(outputs, tuple):
        return tuple(x.reshape(*leading, *x.shape[1:]) for x in outputs)
    return outputs.reshape(*leading, *outputs.shape[1:])


def _fallback_kernel(spec: OpSpec) -> Callable[..., Any]:
    def kernel(*args: Any) -> Any:
        device = _device_type(args)
        reason = _backends.native_reason(device)
        if _backends.is_strict():
            reason = reason or "it has no kernel there"
            raise RuntimeError(
                f"PYDISENT_STRICT=1: {spec.name} would fall back to its reference on "
                f"{device!r}: {reason}"
            )
        if reason and device in ("cpu", "cuda"):  # on which there might be compiled kernels
            warn_once(f"ops on {device!r} fall back to their references, right but slow: {reason}")
        outputs = spec.reference(*args)
        return None if spec.mutates else _with_strides(outputs, spec.fake(*map(_to_meta, args)))

    return kernel


def _to_meta(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def _with_strides(outputs: Any, like: Any) -> Any:
    """Give a fallback's outputs the strides that the fake and the compiled kernels have."""
    if isinstance(outputs, tuple):
        return tuple(map(_with_strides, outputs, like))
    if outputs.stride() == like.stride():
        return outputs
    empty = torch.empty_strided(
        like.shape, like.stride(), dtype=outputs.dtype, device=outputs.device
    )
    return empty.copy_(outputs)


def _autograd_kernel(spec: OpSpec, overload: torch._ops.OpOverload) -> Callable[..., Any]:
    """Make the kernel that the dispatcher calls with a keyset, and an ``Op`` with None."""
    after_autograd = torch._C._after_autograd_keyset
    triton_kernel = _triton_kernel(spec)

    def below(keyset: Any, args: tuple[Any, ...]) -> Any:
        if _CHOSEN.get() == "triton" and spec.triton:
            return triton_kernel(*args)
        with torch._C._AutoDispatchBelowAutograd():
            if keyset is not None:
                return overload.redispatch(keyset & after_autograd, *args)
            args, leading = _merge_leading(args, spec.core)
            outputs = overload(*args)
            if leading is None:
                return outputs
            # Autograd would forbid to write to a view that was made in a Function.
            with torch._C._AutoDispatchBelowADInplaceOrView():
                return _split_leading(outputs, leading)

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, keyset: Any, *args: Any) -> Any:
            outputs = below(keyset, args)
            _save(ctx, spec, args, outputs)
            ctx.chosen = _CHOSEN.get()
            return outputs

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            inputs, outputs = _saved(ctx)
            needs = ctx.needs_input_grad[1:]
            if all(grad is None for grad in grads):
                return (None,) * (1 + len(needs))
            formula = spec.backward or reference_backward(spec)
            token = _CHOSEN.set(ctx.chosen)
            try:
                return None, *formula(inputs, outputs, grads, needs)
            finally:
                _CHOSEN.reset(token)

    Function.__name__ = Function.__qualname__ = f"{spec.name}_autograd"

    def differentiable(keyset: Any, *args: Any) -> Any:
        # A dual tensor or a functorch level: only composed primitives carry the tangent.
        if _is_transformed():
            return spec.reference(*args)
        if torch.is_grad_enabled() and _requires_grad(args):
            return Function.apply(keyset, *args)
        return below(keyset, args)

    def mutating(keyset: Any, *args: Any) -> Any:
        if _is_transformed() or (torch.is_grad_enabled() and _requires_grad(args)):
            raise RuntimeError(
                f"{spec.name} writes in place and has no derivative; "
                f"use {spec.name.rstrip('_')}, or torch.no_grad() outside of any transform"
            )
        written = _refuse_overlaps(overload, args)
        below(keyset, args)
        torch.autograd.graph.increment_version(written)

    return mutating if spec.mutates else differentiable


def _refuse_overlaps(overload: torch._ops.OpOverload, args: tuple[Any, ...]) -> list[Tensor]:
    """Return the tensors that the op writes to; raise if an element of them is not a place."""
    names, written = _argument_names(overload)
    tensors = {n: x for n, x in zip(names, args) if isinstance(x, Tensor)}
    for name in written:
        refuse_overlap(name, tensors[name], {n: x for n, x in tensors.items() if n != name})
    return [tensors[name] for name in written]


@functools.cache  # a schema is slow to read
def _argument_names(overload: torch._ops.OpOverload) -> tuple[list[str], list[str]]:
    """Return the names of all arguments, and of those that are written to."""
    arguments = overload._schema.arguments
    written = [a for a in arguments if a.alias_info is not None and a.alias_info.is_write]
    return [a.name for a in arguments], [a.name for a in written]


def _save(ctx: Any, spec: OpSpec, args: tuple[Any, ...], outputs: Any) -> None:
    """Keep tensors with ``save_for_backward`` and the rest, with their places, on the context."""
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    kept = [x if i in spec.saves else None for i, x in enumerate(outputs)]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*(x if isinstance(x, Tensor) else None for x in (*args, *kept)))
    ctx.plain = tuple(None if isinstance(x, Tensor) else x for x in args)


def _saved(ctx: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    tensors, count = ctx.saved_tensors, len(ctx.plain)
    inputs = tuple(p if t is None else t for t, p in zip(tensors[:count], ctx.plain))
    return inputs, tensors[count:]


def reference_backward(spec: OpSpec) -> Callable[..., Grads]:
    """Make the gradient of an op from autograd through its reference, differentiable again."""

    def backward(
        inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
    ) -> Grads:
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            # Aliases are where this gradient ends, and where the graph of a further one goes on.
            aliases = tuple(x.view_as(x) if need else x for x, need in zip(inputs, needs))
            results = spec.reference(*aliases)
            results = results if isinstance(results, tuple) else (results,)
            pairs = [(r, g) for r, g in zip(results, grads) if g is not None and r.requires_grad]
            if not pairs:  # such outputs do not depend on such inputs
                return (None,) * len(inputs)
            found = iter(
                torch.autograd.grad(
                    [r for r, _ in pairs],
                    [x for x, need in zip(aliases, needs) if need],
                    [g for _, g in pairs],
                    create_graph=create_graph,
                    allow_unused=True,
                )
            )
        return tuple(next(found) if need else None for need in needs)

    return backward
