"""A whole function in float64, which can be called repeatedly without side effects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from pydisent.jacobian._buffers import spare_buffers
from pydisent.jacobian._call import name_of
from pydisent.jacobian._draws import RandomState
from pydisent.jacobian._names import QUERIES
from pydisent.jacobian._writes import write_of
from pydisent.jacobian.decompositions import KEEP_STATISTICS
from pydisent.jacobian.diagnosis._operation import floating, vector, widened


class Model:
    """``fn`` as a map from z, and from its parameters if it is a module, to one vector of outputs.

    Parameters
    ----------
    fn, z, args, kwargs
        The function and its arguments.
    drawn
        The random state from which it draws.
    """

    def __init__(
        self, fn: Callable[..., Any], z: Tensor, args: tuple, kwargs: dict, drawn: RandomState
    ) -> None:
        self._fn, self._args, self._kwargs = fn, args, kwargs
        self._drawn = drawn
        self._names: list[str] = []
        self.operands = [z.detach().double()]
        if isinstance(fn, nn.Module):
            for name, parameter in fn.named_parameters():
                if parameter.requires_grad and parameter.is_floating_point():
                    self._names.append(name)
                    self.operands.append(parameter.detach().double())

    def __call__(self, operands: Sequence[Tensor]) -> Tensor:
        z, *parameters = operands
        fn, args = self._fn, (z, *self._args)
        with spare_buffers(fn), self._drawn.replayed(), _InDoublePrecision():
            if self._names:
                assert isinstance(fn, nn.Module)
                given = dict(zip(self._names, parameters))
                out = torch.func.functional_call(fn, given, args, self._kwargs)
            else:
                out = fn(*args, **self._kwargs)
            return vector(floating(out)).clone()  # as in-place writes are undone on exit


class _InDoublePrecision(TorchFunctionMode):
    """Every call computes in float64, and in-place writes are undone when the context ends."""

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = name_of(func)
        if name in ("__get__", "__set__") or name in QUERIES - _FACTORIES:
            return func(*args, **kwargs)
        write = write_of(func, name, args, kwargs)
        targets = () if write is None else write.targets
        for target in targets:
            self._preserve(target)
        own = {id(t) for t in targets}
        args, kwargs = pytree.tree_map(
            lambda leaf: leaf if id(leaf) in own else widened(leaf), (args, kwargs)
        )
        if func in KEEP_STATISTICS:  # only copies of running statistics are updated
            args, kwargs = pytree.tree_map_only(Tensor, Tensor.clone, (args, kwargs))
        out = func(*args, **kwargs)
        return out if targets else pytree.tree_map(widened, out)

    def _preserve(self, target: Tensor) -> None:
        # Only tensors from before the call matter, such as buffers: they have no graph.
        is_wrapper = torch._C._functorch.is_functorch_wrapped_tensor(target)
        if target.grad_fn is None and not is_wrapper and id(target) not in self._before:
            self._before[id(target)] = target, target.detach().clone()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        with torch.no_grad(), torch._C._DisableFuncTorch():
            for target, value in reversed(self._before.values()):  # two may share memory
                if target.grad_fn is None and not target.requires_grad:
                    target.copy_(value)


_FACTORIES = frozenset(name for name in QUERIES if name.endswith("_like") or name.startswith("new"))
