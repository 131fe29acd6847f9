"""Modes that replace native calls by decompositions, or refuse native kernels."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from pydisent.jacobian._call import (
    DerivativeError,
    bind,
    differentiable,
    owner_of,
    tensors_in,
)
from pydisent.jacobian._checkpoint import keep_saved_tensors
from pydisent.jacobian.decompositions._registry import (
    DECOMPOSITIONS,
    differentiate_statistics,
    widen,
)
from pydisent.jacobian.decompositions.norms import KEEP_STATISTICS

_REFUSED = {
    "native_layer_norm": "layer_norm",
    "_scaled_dot_product_flash_attention": "scaled_dot_product_attention",
    "_scaled_dot_product_flash_attention_for_cpu": "scaled_dot_product_attention",
    "_scaled_dot_product_efficient_attention": "scaled_dot_product_attention",
    "_scaled_dot_product_cudnn_attention": "scaled_dot_product_attention",
    "_weight_norm_interface": "weight_norm",
    "_linalg_det": "det",
    "_linalg_slogdet": "slogdet",
    "_linalg_solve_ex": "solve",
    "as_strided_scatter": "as_strided_scatter",
}

_NODES = {
    "batch_norm": "NativeBatchNorm NativeBatchNormLegit BatchNormWithUpdate CudnnBatchNorm "
    "MiopenBatchNorm",
    "normal": "Normal1 Normal2 Normal3",  # with tensors of means and deviations; 0 is normal_
}
NATIVE_WRONG = {
    "".join(part.capitalize() for part in name.split("_")) + "Backward": public
    for name, public in _REFUSED.items()
} | {
    f"{node.rstrip('123')}Backward{node.lstrip(string.ascii_letters)}": public
    for public, nodes in _NODES.items()
    for node in nodes.split()
}
"""Prefixes of the names of graph nodes with wrong derivatives, and their public names."""


class DecomposedFunctions(TorchFunctionMode):
    """While active, native calls in `DECOMPOSITIONS` run their decompositions instead.

    PyTorch disables its fused fast paths of attention and transformer layers while any such mode is
    active. Scripted functions call native kernels from C++, which this mode cannot intercept:
    `RefuseWrongDerivatives` detects those.

    Parameters
    ----------
    write_statistics
        Let batch and instance norms update their running statistics as native calls would; for
        a function that is called once, in place of several calls.
    """

    def __init__(self, *, write_statistics: bool = False) -> None:
        super().__init__()
        self._write_statistics = write_statistics

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if types and (owner := owner_of(types)) is not None:
            with self:
                return owner.__torch_function__(func, types, args, kwargs)
        keep_saved_tensors()
        if self._write_statistics and func in KEEP_STATISTICS:
            with torch.no_grad():
                func(*args, **kwargs)
        if func not in DECOMPOSITIONS:
            return func(*args, **kwargs)
        args, kwargs = bind(func, args, kwargs)
        return DECOMPOSITIONS[func](*args, **kwargs)


class CorrectedFunctions(TorchFunctionMode):
    """As `DecomposedFunctions`, for plain PyTorch code: it computes what the native calls would.

    Running statistics are written, and batch norms in training mode are differentiated through
    their batch statistics.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        """The number of calls in progress that this mode has seen."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if types and (owner := owner_of(types)) is not None:
            with self:
                return owner.__torch_function__(func, types, args, kwargs)
        keep_saved_tensors()
        self.calls += 1
        try:
            if func not in DECOMPOSITIONS or kwargs.get("out") is not None:
                return func(*args, **kwargs)
            args, kwargs = bind(func, args, {k: v for k, v in kwargs.items() if k != "out"})
            if func not in _OF_ITS_DTYPE and (device := _autocast_device(args)) is not None:
                return _in_autocast(func, args, kwargs, device)
            if func in KEEP_STATISTICS:
                _native(func, args, kwargs)
            return _decomposed(func, args, kwargs)
        finally:
            self.calls -= 1


# Functions that may write in place, and whose dtype autocast does not change.
_OF_ITS_DTYPE = (F.hardsigmoid, torch._C._nn.hardsigmoid, F.rrelu, torch.rrelu)


def _native(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A native call for its effects: it checks the arguments, and writes running statistics."""
    with torch.no_grad():
        return func(*pytree.tree_map_only(Tensor, Tensor.detach, args), **kwargs)


def _decomposed(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    if func not in KEEP_STATISTICS:
        return DECOMPOSITIONS[func](*args, **kwargs)
    token = differentiate_statistics.set(True)
    try:
        return DECOMPOSITIONS[func](*args, **kwargs)
    finally:
        differentiate_statistics.reset(token)


def _autocast_device(args: tuple) -> str | None:
    """The device type for which autocast chooses the dtype of a call, or None."""
    for leaf in pytree.tree_leaves(args):
        if isinstance(leaf, Tensor):
            kind = leaf.device.type
            return kind if torch.is_autocast_enabled(kind) else None
    return None


def _in_autocast(func: Any, args: tuple, kwargs: dict[str, Any], device: str) -> Any:
    """A decomposition in float32 or wider, its results in the dtypes of the native call."""
    devices: list[int] | None = [] if device == "cpu" else None  # None for all of that type
    with torch.random.fork_rng(devices, device_type="cuda" if device == "cpu" else device):
        native = _native(func, args, kwargs)
    with torch.autocast(device, enabled=False):
        out = _decomposed(func, pytree.tree_map_only(Tensor, widen, args), kwargs)
    leaves, spec = pytree.tree_flatten(out)
    found = [
        leaf.to(like.dtype) if isinstance(leaf, Tensor) else leaf
        for leaf, like in zip(leaves, pytree.tree_leaves(native), strict=True)
    ]
    return pytree.tree_unflatten(found, spec)


class RefuseWrongDerivatives(TorchDispatchMode):
    """While active, running a native kernel whose higher derivatives are wrong raises RuntimeError.

    Run a function once under this mode and `DecomposedFunctions` to learn whether anything, such as
    a scripted function, still reaches such a kernel.

    Parameters
    ----------
    seen
        The mode that replaces calls, if backward passes and calls that are not replaced run as
        well: their formulas may rightly use linear algebra kernels.
    """

    supports_higher_order_operators = True  # such as torch.cond

    def __init__(self, seen: CorrectedFunctions | None = None) -> None:
        super().__init__()
        self._seen = seen

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if isinstance(func, HigherOrderOperator):
            raise RuntimeError(
                f"PyTorch has no derivative of '{func.name()}' that can be differentiated twice, "
                "or a wrong one: write its loop, or its branches, in Python"
            )
        name = func.overloadpacket.__name__
        public = _REFUSED.get(name)
        if self._seen is not None and name.startswith("_linalg"):
            in_formula = self._seen.calls > 0 or torch._C._current_graph_task_id() != -1
            public = None if in_formula else public
        if "batch_norm" in name and _argument(func, "training", args):
            public = "instance_norm or batch_norm in training mode"
        if public is not None and torch.is_grad_enabled():
            raise RuntimeError(
                f"fn reaches PyTorch's native kernel {func} from compiled or scripted code; its "
                f"higher derivatives are wrong or missing. Call {public} from Python instead, or "
                f"build it from elementary operations"
            )
        out = func(*args, **(kwargs or {}))
        if _loses_derivatives(func, args) and any(map(differentiable, tensors_in(out))):
            raise DerivativeError(
                f"'{func}' has no autograd formula, so that its result would count as a constant: "
                "give it one (torch.library.register_autograd), or detach() what it reads if that "
                "is intended"
            )
        return out


def _loses_derivatives(func: Any, args: Sequence[Any]) -> bool:
    """Whether an operator of another library, given values with a graph, leaves none behind.

    Without a formula autograd sees what its kernel calls, but not while a dispatch mode is active.
    """
    if func.namespace in ("aten", "prims", "pydisent") or not torch.is_grad_enabled():
        return False
    given = [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, Tensor)]
    if not any(tensor.requires_grad for tensor in given):
        return False
    kinds = {tensor.device.type.upper() for tensor in given}
    keys = ["CompositeImplicitAutograd", "Autograd", *(f"Autograd{kind}" for kind in kinds)]
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return not any(has_kernel(func.name(), key) for key in keys)


def _argument(func: Any, name: str, args: Sequence[Any]) -> Any:
    """Return the positional argument of an operator that its schema calls ``name``, or None."""
    names = [argument.name for argument in func._schema.arguments[: len(args)]]
    return args[names.index(name)] if name in names else None
