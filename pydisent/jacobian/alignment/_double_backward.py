"""``method="autograd"``: the unrolled algorithm, with J by reverse mode twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pydisent.jacobian._adjoint import adjoint_holds, normal_like
from pydisent.jacobian._arguments import Coupled
from pydisent.jacobian._call import (
    DerivativeError,
    differentiable,
    is_foreign,
    name_of,
    tensors_in,
)
from pydisent.jacobian._coupling import keep_samples_apart, refuse_coupled
from pydisent.jacobian._eager import compiled_parts_run_eagerly
from pydisent.jacobian._finite import refuse_infinite
from pydisent.jacobian._hooks import Hooks
from pydisent.jacobian._intermediates import Intermediates
from pydisent.jacobian._memory import address_of
from pydisent.jacobian._modes import beneath_callers_modes, transforms_are_active
from pydisent.jacobian._names import QUERIES, RANDOM
from pydisent.jacobian._outputs import CONSTANT, check_finite, output_tensors
from pydisent.jacobian._refused import refuse_nodes_behind
from pydisent.jacobian._values import LostDerivatives
from pydisent.jacobian._writes import Write, refuse_overlap, with_copies, write_of
from pydisent.jacobian.alignment._algorithm import Problem
from pydisent.jacobian.decompositions import DecomposedFunctions, RefuseWrongDerivatives


@torch.enable_grad()
def penalty(
    fn: Callable[..., Any],
    z: Tensor,
    args: tuple,
    kwargs: dict[str, Any],
    k: int,
    iterations: int,
    reweight: bool,
    probe: Tensor | None,
) -> Tensor:
    """The penalty, computed entirely in the graph of ``fn``."""
    derivative = DoubleBackward(fn, z, args, kwargs)
    keep_samples_apart(derivative, "error")
    problem = Problem.of(derivative, k, iterations, reweight, probe)
    vectors = problem.iterated(derivative.gram_product)
    refuse_infinite(vectors, derivative)
    value = problem.value(vectors)
    if value.requires_grad or not z.requires_grad:
        return value
    return value + z.flatten()[:0].sum()  # where J is constant


class _Watching(TorchFunctionMode):
    """Records the coarsest floating-point dtype in which a function computes, and lost derivatives.

    What a foreign operator writes without a derivative must not be read.
    """

    def __init__(self, caller: CodeType) -> None:
        super().__init__()
        self.rounding = 0.0
        self.lost = LostDerivatives()
        self.intermediates = Intermediates(caller)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, name_of(func)
        if self.lost.results and name not in QUERIES:
            self.lost.refuse(name, (args, kwargs))
        plain = torch.is_grad_enabled() and not transforms_are_active()
        write = write_of(func, name, args, kwargs) if plain else None
        if write is not None and write.func is not None and name not in RANDOM:
            return self._written(func, name, args, kwargs, write)
        moving = any(t.requires_grad for t in tensors_in((args, kwargs)))
        if moving and is_foreign(func) and torch.is_grad_enabled():
            out = self.lost.watched(func, name, args, kwargs)
        elif name == "grad" or (name not in QUERIES and not torch.is_grad_enabled()):
            out = self.intermediates.run(func, name, args, kwargs)
        else:
            out = func(*args, **kwargs)
        return self._seen(out)

    def _seen(self, out: Any) -> Any:
        for tensor in filter(differentiable, tensors_in(out)):
            self.rounding = max(self.rounding, torch.finfo(tensor.dtype).eps)
        return out

    def _written(
        self, func: Callable, name: str, args: tuple, kwargs: dict[str, Any], write: Write
    ) -> Any:
        assert write.func is not None
        given, target = (write.args, write.kwargs or {}), write.targets[0]
        copies = {
            id(tensor): tensor.detach().clone()
            for tensor in tensors_in(given)
            if tensor is target or address_of(tensor) == address_of(target)
        }
        out = func(*args, **kwargs)
        if len(copies) > 1:
            refuse_overlap(name, target, write.func, *with_copies(given, copies))
        return self._seen(out)


class DoubleBackward:
    """The derivative of a function that is differentiated as a whole, with a graph."""

    def __init__(
        self, fn: Callable[..., Any], z: Tensor, args: tuple, kwargs: dict[str, Any]
    ) -> None:
        self.latent_shape, self.dtype, self.device = z.shape, z.dtype, z.device
        self._z = (z if z.requires_grad else z.detach().requires_grad_()).clone()
        self._hooks, watching = Hooks(), _Watching(DoubleBackward.__init__.__code__)
        with (
            compiled_parts_run_eagerly(),
            beneath_callers_modes(
                self._hooks,
                watching,
                DecomposedFunctions(write_statistics=True),
                RefuseWrongDerivatives(),
            ),
        ):
            outputs = output_tensors(fn(self._z.clone(), *args, **kwargs), z)
        watching.lost.refuse("return", outputs)
        check_finite(outputs)
        with self._hooks.silent():
            refuse_nodes_behind(outputs, watching.intermediates)
        #: Machine epsilon of the coarsest dtype in which the function computed.
        self.rounding = max(watching.rounding, torch.finfo(self.dtype).eps)
        self._outputs = [output for output in outputs if output.requires_grad]
        # Not zeros, so that the result can be tested against the adjoint identity.
        generator = torch.Generator("cpu").manual_seed(0)
        self._probes = [normal_like(o, generator).requires_grad_() for o in self._outputs]
        try:
            with self._hooks.silent():
                pulled = self._outputs and torch.autograd.grad(
                    self._outputs, self._z, self._probes, create_graph=True, allow_unused=True
                )
        except RuntimeError as error:
            raise DerivativeError(f"fn cannot be differentiated twice: {error}") from error
        if not self._outputs or pulled[0] is None:
            raise ValueError(CONSTANT)
        self._pulled = pulled[0]
        others = [normal_like(probe, generator) for probe in self._probes]
        self._check_adjoint(normal_like(z, generator), others)

    @torch.no_grad()
    def _check_adjoint(self, v: Tensor, others: Sequence[Tensor]) -> None:
        """Raise DerivativeError unless <u, J v> = <J'u, v>, for the probes u and for others.

        A backward that is not differentiable where it should be loses derivatives silently. One
        that is not linear in its cotangent has another J v at every probe.
        """
        with self._hooks.silent():
            (pulled,) = torch.autograd.grad(self._outputs, self._z, others, retain_graph=True)
        moved = self._push(v)
        holds = adjoint_holds(self._probes, moved, [self._pulled], [v], self.rounding)
        if not holds or not adjoint_holds(others, moved, [pulled], [v], self.rounding):
            raise DerivativeError(
                "J v by double backward is not the transpose of J'u: the backward of an operation "
                "of fn is not a linear, differentiable function of its cotangent"
            )

    @property
    def samples_are_apart(self) -> bool:
        """False, as nothing is known about the function."""
        return False

    def images(self, tangents: Tensor) -> list[Tensor]:
        """J V without a graph: (K, B, *latent) to (K, B, *out) for each output that moves."""
        return [torch.stack(rows) for rows in zip(*map(self._push, tangents))]

    def decouple(self, coupled: Coupled) -> None:
        """Raise ValueError, as no single operation can be held constant."""
        refuse_coupled([])

    def why_not_finite(self) -> str:
        """The error message for a J, or J'J, that is not finite."""
        return "the Jacobian J of fn, or J'J, has NaN or infinity in it"

    def gram_product(self, vectors: Tensor) -> Tensor:
        """J'J V with a graph, (B, m, k) to the same shape."""
        columns: list[Tensor] = []
        for column in vectors.unbind(-1):
            pushed = self._push(column, graph=True)
            with self._hooks.silent():
                columns += torch.autograd.grad(self._outputs, self._z, pushed, create_graph=True)
        return torch.stack([column.flatten(1) for column in columns], -1)

    def _push(self, vectors: Tensor, *, graph: bool = False) -> Sequence[Tensor]:
        """J v, one v per sample: the transpose of J', which is linear in the cotangents."""
        try:
            with self._hooks.silent():
                return torch.autograd.grad(
                    self._pulled,
                    self._probes,
                    vectors.to(self.dtype).reshape(self.latent_shape),
                    create_graph=graph,
                    retain_graph=True,
                    materialize_grads=True,
                )
        except RuntimeError as error:
            raise DerivativeError(
                f"fn cannot be differentiated twice by reverse mode: {error}"
            ) from error
