"""``second_directional_derivative``: v'H v of each output, exact, with a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pydisent._precision import affordable_dtype
from pydisent.jacobian._arguments import Coupled, checked_keywords
from pydisent.jacobian._budget import budget_of
from pydisent.jacobian._coupling import keep_samples_apart
from pydisent.jacobian._eager import run_eagerly
from pydisent.jacobian._finite import first_not_finite, is_finite
from pydisent.jacobian._gradient import refuse_double_backward
from pydisent.jacobian._taylor import Pairs, push_second
from pydisent.jacobian._trace import trace
from pydisent.jacobian.linearization import Linearization

_V = TypeVar("_V")
Reduce = Callable[[list[Tensor]], list[Tensor]]


@run_eagerly
def second_directional_derivative(
    fn: Callable[..., _V],
    z: Tensor,
    directions: Tensor,
    *args: Any,
    compute_dtype: torch.dtype | None = None,
    coupled: Coupled = "error",
    fn_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> tuple[_V, _V, _V]:
    """Return fn(z), J v and v'H v along K directions v: exact, by Taylor mode.

    v'H v is d²/dt² fn(z + t v) at t = 0, of each output. Gradients flow to ``z`` and to whatever
    ``fn`` closes over, not to ``directions``.

    Parameters
    ----------
    fn, z, args, kwargs, compute_dtype, coupled, fn_kwargs
        As in :func:`pydisent.linearize`.
    directions
        (K, B, *latent).

    Returns
    -------
    value, first, second
        The result of ``fn``, (B, *out), and two results of the same structure with (K, B, *out) in
        place of each tensor.

    Raises
    ------
    TypeError, ValueError, DerivativeError
        As in :func:`pydisent.hessian_penalty`.

    Examples
    --------
    >>> z, directions = torch.tensor([[1.0, 3.0]]), torch.tensor([[[1.0, 2.0]]])
    >>> value, first, second = second_directional_derivative(torch.square, z, directions)
    >>> second.tolist()
    [[[2.0, 8.0]]]
    """
    kwargs = checked_keywords(
        second_directional_derivative, fn, z, kwargs, fn_kwargs,
        compute_dtype=compute_dtype, coupled=coupled,
    )  # fmt: skip
    check_directions(directions, z)
    keeps_graph = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(keeps_graph):
        z = z.clone() if z.is_inference() else z
        curve = Curve(fn, z, args, kwargs, compute_dtype, coupled)
        # A copy, as J v may be a view of it: that of the identity is v itself.
        own = directions.detach().to(z.device, curve.dtype, copy=True)
        moved = dict(zip(curve.program.moved, curve.push(own, Pairs())))
    first, second = list[Tensor](), list[Tensor]()
    for i, shape in enumerate(curve.program.output_shapes):
        parts = moved.get(i, (None, None))
        for found, part in zip((first, second), parts):
            found.append(own.new_zeros(len(own), *shape) if part is None else part)
    value = curve.value
    if not keeps_graph:
        value = pytree.tree_map_only(Tensor, Tensor.detach, value)
    leaves, structure = pytree.tree_flatten(value)

    def structured(tensors: list[Tensor]) -> Any:
        queue = iter(tensors)  # other leaves are kept
        return pytree.tree_unflatten(
            [next(queue) if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure
        )

    return value, structured(first), structured(second)


def check_directions(directions: Any, z: Tensor) -> None:
    """Raise ValueError unless directions are (K, B, *latent) with K >= 1, TypeError if complex."""
    shape = tuple(getattr(directions, "shape", ()))
    if not isinstance(directions, Tensor) or shape[1:] != tuple(z.shape) or not shape[0]:
        expected = ", ".join(map(str, z.shape))
        got = shape or type(directions).__name__
        raise ValueError(f"directions must have shape (K, {expected}), K >= 1, got {got}")
    if directions.is_complex():
        raise TypeError(f"directions must be a real tensor, got dtype {directions.dtype}")


class Curve:
    """A function traced to second order at B latent codes."""

    def __init__(
        self,
        fn: Callable[..., Any],
        z: Tensor,
        args: tuple,
        kwargs: dict,
        compute_dtype: torch.dtype | None,
        coupled: Coupled,
    ) -> None:
        self.program, self.value, z_in = trace(fn, z, args, kwargs, order=2)
        self.program.refuse_higher_order()
        affordable = affordable_dtype(compute_dtype, z.device)
        self.linear = Linearization(self.value, z_in, self.program, affordable, None)
        self.dtype, self.device = self.linear.dtype, z.device
        keep_samples_apart(self.linear, coupled)

    def still(self, count: int, shape: torch.Size) -> Tensor:
        """The derivatives of an output that does not move, (count, *shape)."""
        return torch.zeros((), dtype=self.dtype, device=self.device).expand(count, *shape)

    def push(self, directions: Tensor, pairs: Pairs) -> list[tuple[Tensor, Tensor | None]]:
        """First and second derivatives with their graph, None for second ones that are zero."""
        return push_second(self.program, directions, pairs, self.program.attached(self.dtype))

    def reduced(
        self, directions: Tensor, pairs: Pairs, reduce: Reduce, *, recompute: bool
    ) -> list[Tensor]:
        """``reduce`` applied to the second derivatives of the outputs that move.

        With ``recompute`` their graph is built only in backward, for these directions alone.
        """
        shapes = [self.program.output_shapes[i] for i in self.program.moved]

        def run(captured: Sequence[Tensor]) -> list[Tensor]:
            found = push_second(self.program, directions, pairs, captured)
            count = pairs.count(directions)
            return reduce(
                [
                    self.still(count, shape) if bent is None else bent
                    for (_, bent), shape in zip(found, shapes)
                ]
            )

        if not recompute or not torch.is_grad_enabled():
            return run(self.program.attached(self.dtype))
        return list(_Recomputed.apply(run, self.program, self.dtype, *self.program.captured))

    @torch.no_grad()
    def why_not_finite(self) -> str:
        """The error message for second derivatives that are not finite."""
        axes = self.linear.basis()
        if first_not_finite(self.program, self.linear.chunks(axes)) is not None:
            return self.linear.why_not_finite()
        found: list[str] = []

        def watch(name: str, jet: Tensor) -> None:
            if not found and not is_finite(jet):
                found.append(name)

        captured = self.program.prepare(self.dtype)
        for axis in axes.split(1):
            push_second(self.program, axis, Pairs(), captured, watch)
        where = f", from '{found[0]}' on" if found else ": their squares overflow"
        return f"the second derivatives of fn are not finite{where}, though its values are"

    def tangents_at_once(self, chunk: int | None) -> int:
        """Tangents to push at once: ``chunk`` if given, else as many as fit, but at least 4."""
        if chunk is not None:
            return int(chunk)
        one = max(1, self.program.elements_saved) * self.dtype.itemsize
        return max(4, budget_of(self.device).tangents // one)

    def attached(self, value: Tensor, z: Tensor) -> Tensor:
        """A penalty with a graph in grad mode, even if nothing bends and its gradient is 0."""
        if value.requires_grad or not torch.is_grad_enabled():
            return value
        return _Straight.apply(value, z, *self.program.captured)


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, *read):
        ctx.count = len(read)
        return value.clone()

    @staticmethod
    def backward(ctx, cotangent):
        return cotangent, *[None] * ctx.count


class _Recomputed(torch.autograd.Function):
    """A function of a program's captured tensors, recomputed in backward."""

    @staticmethod
    def forward(ctx, run, program, dtype, *captured):
        ctx.run, ctx.program, ctx.dtype = run, program, dtype
        ctx.save_for_backward(*captured)
        return tuple(run(program.prepare(dtype)))

    @staticmethod
    def backward(ctx, *cotangents):
        refuse_double_backward()
        program = ctx.program
        leaves, wanted = program.leaves(program.prepare(ctx.dtype), ctx.needs_input_grad[3:])
        with torch.enable_grad():
            results = ctx.run(leaves)
        moving = [(r, c.to(r.dtype)) for r, c in zip(results, cotangents) if r.requires_grad]
        gradients: list[Tensor | None] = [None] * len(leaves)
        if moving and wanted:
            ends, seeds = zip(*moving)
            parts = program.pull(ends, [leaves[i] for i in wanted], seeds)
            for i, part in zip(wanted, parts):
                saved = ctx.saved_tensors[i]
                gradients[i] = None if part is None else part.to(saved.dtype)
        return None, None, None, *gradients
