"""The derivative of a function that cannot be traced: taken whole, by PyTorch's own means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pydisent.jacobian._capture import is_capturing
from pydisent.jacobian.decompositions import DecomposedFunctions, RefuseWrongDerivatives

RandomState = tuple[Tensor, Tensor | None]


def save_random_state(like: Tensor) -> RandomState:
    """The state of the generators that a function on ``like.device`` may draw from."""
    readable = like.is_cuda and not is_capturing()
    return torch.get_rng_state(), torch.cuda.get_rng_state(like.device) if readable else None


def restore_random_state(state: RandomState, like: Tensor) -> None:
    """Go back to a state of :func:`save_random_state`; RuntimeError if a graph is captured."""
    if is_capturing():
        raise RuntimeError(
            "fn must be traceable and draw no random numbers while a CUDA graph is captured, as "
            "what is drawn cannot be drawn again"
        )
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], like.device)


def output_tensors(value: Any, z: Tensor) -> list[Tensor]:
    """The tensors that ``fn`` returned, checked: floating, with the batch in front."""
    leaves = pytree.tree_leaves(value)
    if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
        kinds = sorted({type(leaf).__name__ for leaf in leaves}) or type(value).__name__
        raise TypeError(f"fn must return a tensor or a list of tensors, got {kinds}")
    for leaf in leaves:
        if not leaf.is_floating_point():
            raise TypeError(f"fn must return real floating-point tensors, got dtype {leaf.dtype}")
        if leaf.dim() == 0 or leaf.shape[0] != z.shape[0]:
            raise ValueError(
                "fn must return tensors with the batch of z in front, (B, ...) with "
                f"B = {z.shape[0]}, got shape {tuple(leaf.shape)}"
            )
    return leaves


class FunctionDerivative:
    """J v by ``torch.func.jvp`` of the whole function, or by reverse mode twice where it fails.

    It has the interface of ``Program`` but no list of what the function reads: a graph made by
    :meth:`push` under grad mode leads to whatever that is. Norms are decomposed into primitives,
    as PyTorch's own third-order derivatives of them are wrong. Every call of the function
    sees the same random numbers.
    """

    def __init__(self, fn: Callable, z: Tensor, args: tuple, kwargs: dict) -> None:
        self._fn, self._z, self._args, self._kwargs = fn, z, args, kwargs
        self._state = save_random_state(z)
        with RefuseWrongDerivatives():
            self.value = self._call(z, first=True)
        self._after = save_random_state(z)
        outputs = output_tensors(self.value, z)
        self.output_shapes = [output.shape for output in outputs]
        self.moved = [i for i, output in enumerate(outputs) if self._moves(output)]
        self._forward_mode = bool(self.moved) and self._forward_mode_is_right()

    def _call(self, z: Tensor, *, first: bool = False) -> Any:
        restore_random_state(self._state, z)
        with (
            torch.compiler.set_stance("force_eager"),
            DecomposedFunctions(write_statistics=first),
        ):
            return self._fn(z, *self._args, **self._kwargs)

    def _outputs(self, z: Tensor) -> list[Tensor]:
        outputs = pytree.tree_leaves(self._call(z))
        return [outputs[i] for i in self.moved]

    def _moves(self, output: Tensor) -> bool:
        if not output.requires_grad:
            return False
        ones = torch.ones_like(output)
        (pulled,) = torch.autograd.grad(output, self._z, ones, allow_unused=True, retain_graph=True)
        return pulled is not None

    def _forward_mode_is_right(self) -> bool:
        """<u, J v> = <J'u, v>: a custom operator may have no forward formula, or silently zero."""
        z = self._z.detach()
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(z.shape, generator=generator, dtype=z.dtype).to(z.device)
        try:
            pushed = torch.func.jvp(self._outputs, (z,), (v,))[1]
        except (RuntimeError, NotImplementedError, TypeError):
            return False
        finally:
            restore_random_state(self._after, self._z)
        outputs = pytree.tree_leaves(self.value)
        (pulled,) = torch.autograd.grad(
            [outputs[i].sum() for i in self.moved], self._z, retain_graph=True
        )
        forward = sum(float(part.detach().sum()) for part in pushed)
        reverse = float((pulled.detach() * v).sum())
        return abs(forward - reverse) <= 1e-3 * (abs(forward) + abs(reverse)) + 1e-12

    @property
    def elements_saved(self) -> int:
        """A guess: the function's inside is not known."""
        return 8 * sum(shape.numel() for shape in self.output_shapes)

    elements_peak = elements_saved

    def prepare(self, dtype: torch.dtype) -> list[Tensor]:
        """Nothing is captured by name."""
        return []

    def push(
        self, tangents: Tensor, captured: Sequence[Tensor] = (), *, overwrite: bool = False
    ) -> list[Tensor]:
        """J v of the ``moved`` outputs for K tangents (K, B, m); under grad mode with a graph."""
        by = self._by_forward_mode if self._forward_mode else self._by_reverse_twice
        try:
            rows = by(tangents.to(self._z.dtype))
        finally:
            restore_random_state(self._after, self._z)
        return [torch.stack(column).to(tangents.dtype) for column in zip(*rows)]

    def _by_forward_mode(self, tangents: Tensor) -> list[Sequence[Tensor]]:
        return [torch.func.jvp(self._outputs, (self._z,), (t,))[1] for t in tangents]

    def _by_reverse_twice(self, tangents: Tensor) -> list[Sequence[Tensor]]:
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            z = self._z if keep else self._z.detach().requires_grad_()
            outputs = self._outputs(z)
            probes = [torch.zeros_like(output, requires_grad=True) for output in outputs]
            (pulled,) = torch.autograd.grad(outputs, z, probes, create_graph=True)
            rows: list[Sequence[Tensor]] = [
                torch.autograd.grad(pulled, probes, t, create_graph=True, materialize_grads=True)
                for t in tangents
            ]
        return rows if keep else [[part.detach() for part in row] for row in rows]
