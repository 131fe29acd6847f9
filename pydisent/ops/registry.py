"""Registration of ops: the only module that uses ``torch.library``.

An op works on any machine, as its reference is its CompositeExplicitAutograd kernel; the compiled
module only overrides it on CPU and CUDA. The Autograd kernel sends forward mode and functorch
transforms to the differentiable reference: a plain ``autograd.Function`` would drop the tangent or
fail. An ordinary eager call of an ``Op`` bypasses the dispatcher, which on small tensors costs more
than the arithmetic.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch.compiler import is_compiling

from pydisent import _backends
from pydisent._checks import check_one_of
from pydisent.ops._context import (
    choosing,
    device_type,
    environment_choice,
    is_ordinary,
    is_transformed,
    merge_leading,
    split_leading,
)
from pydisent.ops._direct import direct_kernels, visible_outputs
from pydisent.ops._gradient import by_adjoint, differentiable_backward
from pydisent.ops._kernels import (
    autograd_kernel,
    fallback_kernel,
    refuse_overlaps,
    triton_kernel,
)
from pydisent.ops._nvtx import HAS_RANGES, op_range
from pydisent.ops.spec import BACKWARD, NAMESPACE, Backward, OpSpec, Sizes, adjoint_of

Implementation = Literal["auto", "reference", "native", "triton"]
IMPLEMENTATIONS = get_args(Implementation)

_LIBRARY = torch.library.Library(NAMESPACE, "DEF")

#: Every registered op by name, in the order of registration.
REGISTRY: dict[str, Op] = {}


class Op:
    """A registered op: call it with all its arguments in the schema's order.

    It returns the visible outputs. ``by_adjoint`` is the gradient computed by its adjoint.
    """

    below: Callable[..., Any]

    def __init__(self, spec: OpSpec, adjoint: Op | None = None) -> None:
        self.spec = spec
        self.overload = getattr(getattr(torch.ops, NAMESPACE), spec.name).default
        self.by_adjoint = (
            differentiable_backward(spec.reference)
            if adjoint is None
            else by_adjoint(spec, adjoint)
        )
        backward = spec.backward or self.by_adjoint
        self.kernel = autograd_kernel(spec, self.overload, backward)
        self.below, self._direct = direct_kernels(
            spec, self.overload, adjoint and adjoint.below, backward
        )
        self._visible = visible_outputs(spec)
        self._qualified = f"{NAMESPACE}::{spec.name}"

    def __call__(self, *args: Any, impl: str | None = None) -> Any:
        """Run the implementation named by ``impl``, else by ``PYDISENT_IMPL``, else "auto"."""
        if not is_compiling() and is_ordinary(args):
            if impl is None:
                impl = environment_choice() or "auto"
            if impl == "native":
                self._require(impl, device_type(args), transformed=False)
            if impl == "auto" or impl == "native":
                if not HAS_RANGES:
                    return self._direct(*args)
                with op_range(self.spec.name):
                    return self._direct(*args)
        return self._visible(self.every(*args, impl=impl))

    def every(self, *args: Any, impl: str | None = None) -> Any:
        """Run the same, and also return the outputs that only the gradient reads."""
        if impl is None:
            impl = os.environ.get("PYDISENT_IMPL") or "auto"
        if is_compiling():  # the Autograd kernel handles transforms
            return self._run(impl, args, transformed=False)
        with op_range(self.spec.name):
            return self._run(impl, args, is_transformed())

    def _run(self, impl: str, args: tuple[Any, ...], transformed: bool) -> Any:
        args, leading = merge_leading(args, self.spec.core)
        outputs = self._dispatch(impl, args, transformed)
        return outputs if leading is None else split_leading(outputs, leading)

    def _dispatch(self, impl: str, args: tuple[Any, ...], transformed: bool) -> Any:
        if impl in ("native", "triton"):
            self._require(impl, device_type(args), transformed)
            if impl == "triton":
                with choosing(impl):
                    return self.overload(*args)
        elif impl == "reference" or (impl == "auto" and transformed):
            if self.spec.written:
                refuse_overlaps(self.spec, args)
            return self.spec.reference(*args)
        elif impl != "auto":
            check_one_of("impl", impl, IMPLEMENTATIONS)
        return self.overload(*args)

    def _require(self, impl: str, device: str, transformed: bool) -> None:
        """Raise with the reason if an implementation requested by name is not available."""
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


class Family:
    """Ops that share one file name in ``csrc``, ``triton_kernels``, ``reference`` and ``ops``.

    Parameters
    ----------
    name
        The name of the files.
    triton
        Whether the CUDA kernels are Triton's.
    """

    def __init__(self, name: str, *, triton: bool = False) -> None:
        self.name, self.triton = name, triton
        self.reference = importlib.import_module(f"pydisent.reference.{name}")

    def op(
        self,
        name: str,
        schema: str,
        *,
        arguments: Callable[..., tuple[Any, ...]],
        sizes: Sizes,
        fake: Callable[..., Any],
        flops: Callable[..., int],
        adjoint: str = "",
        adjoint_flops: Callable[..., int] | None = None,
        adjoint_fake: Callable[..., Any] | None = None,
        backward: Backward | None = None,
        outputs: int = 1,
        core: int = 0,
        is_product: bool = False,
    ) -> Op:
        """Declare and register an op, and its adjoint if given a schema for one.

        The parameters are those of :class:`OpSpec`. ``adjoint`` is the schema of
        ``<name>_backward``: cotangents of the first outputs, then inputs and outputs by their names
        in ``schema``; it returns ``grad_<input>`` for each input that has a gradient.
        """
        spec = OpSpec(
            self.name, name, schema, getattr(self.reference, name), fake, arguments, sizes, flops,
            outputs, self.triton, core, is_product, backward=backward,
        )  # fmt: skip
        if not adjoint:
            spec = replace(spec, constants=frozenset(spec.tensors if spec.written else ()))
            REGISTRY[name] = op = _register(spec)
            return op
        assert adjoint_flops is not None
        its_reference = getattr(self.reference, name + BACKWARD)
        its_spec = adjoint_of(spec, adjoint, its_reference, adjoint_flops, adjoint_fake)
        its_op = _register(its_spec)
        spec = replace(spec, adjoint=its_spec, constants=its_spec.constants)
        REGISTRY[name] = op = _register(spec, its_op)
        REGISTRY[its_spec.name] = its_op
        return op


def _register(spec: OpSpec, adjoint: Op | None = None) -> Op:
    """Define the op of a spec with its fallback, fake and autograd kernels."""
    _LIBRARY.define(spec.name + spec.schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(spec.name, fallback_kernel(spec), "CompositeExplicitAutograd")
    if spec.triton and not _backends.triton_reason("cuda"):
        _LIBRARY.impl(spec.name, triton_kernel(spec), "CUDA")
    torch.library.register_fake(f"{NAMESPACE}::{spec.name}", spec.fake, lib=_LIBRARY)
    op = Op(spec, adjoint)
    _LIBRARY.impl(spec.name, op.kernel, "Autograd", with_keyset=True)
    return op
