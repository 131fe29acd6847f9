"""The penalty of a small problem, computed in one graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pydisent.jacobian._arguments import Coupled
from pydisent.jacobian._coupling import keep_samples_apart, mixes_columns, probing_tangents
from pydisent.jacobian._finite import refuse_infinite
from pydisent.jacobian._gradient import (
    no_gradient,
    once_differentiable,
    refuse_double_backward,
)
from pydisent.jacobian._layout import gram_of_columns
from pydisent.jacobian.alignment._algorithm import EPS, Problem
from pydisent.jacobian.linearization import Linearization


def unrolled(linear: Linearization, problem: Problem, z: Tensor, coupled: Coupled) -> Tensor:
    """All of J, and Algorithm 3 on its Gram matrix, in the graph: the fewest calls.

    For small problems, where calls cost more than their arithmetic. Steps without a rule are
    differentiated separately from the function, so that an error can name them.
    """
    program = linear.program
    apart = bool(program.live or program.general)
    with torch.enable_grad(), torch.autocast(linear.device.type, enabled=False):
        if apart:
            needed = [tensor.requires_grad for tensor in program.captured]
            leaves, wanted = program.leaves(linear.captured, needed)
        else:
            leaves = program.attached(linear.dtype)
        gram = gram_of_columns(_columns_in_the_graph(linear, leaves, coupled))
        refuse_infinite(gram, linear)
        value = _OfGram.apply(gram, problem)
        if not apart:
            return value if value.requires_grad else once_differentiable(value, z)
        return _Apart.apply(value.detach(), z, value, program, leaves, wanted, *program.captured)


def _columns_in_the_graph(
    linear: Linearization, captured: Sequence[Tensor], coupled: Coupled
) -> list[Tensor]:
    """J (B, m, *out) for each output, with an additional tangent to detect coupled samples."""
    program, basis = linear.program, linear.basis()

    def pushed(tangents: Tensor) -> list[Tensor]:
        return [image.transpose(0, 1) for image in program.push(tangents, captured)]

    if linear.samples_are_apart:
        return pushed(basis)
    w = probing_tangents(linear.latent_shape, linear.dtype, linear.device)[0][0]
    both = pushed(torch.cat([basis, w[None]]))
    columns = [image[:, :-1] for image in both]
    if mixes_columns([image[:, -1] for image in both], columns, w.flatten(1), program.rounding):
        keep_samples_apart(linear, coupled)
        return pushed(basis)
    return columns


class _OfGram(torch.autograd.Function):
    """Algorithm 3 on the Gram matrix, with its gradient computed in the forward pass."""

    @staticmethod
    def forward(ctx, gram, problem):
        ops = torch.ops.pydisent
        vectors, norms, *saved = ops.masked_power_iteration(
            gram, problem.probe, problem.mask, problem.iterations, EPS
        )
        if ctx.needs_input_grad[0]:
            slope, _ = ops.masked_power_iteration_backward(
                problem.value_gradient(vectors), torch.zeros_like(norms),
                gram, problem.mask, *saved, EPS,
            )  # fmt: skip
            ctx.save_for_backward(slope)
        return problem.value(vectors)

    @staticmethod
    def backward(ctx, cotangent):
        refuse_double_backward()
        (slope,) = ctx.saved_tensors
        return slope * cotangent, None


class _Apart(torch.autograd.Function):
    """The value of a graph that starts from ``leaves``, copies of the captured tensors."""

    @staticmethod
    def forward(ctx, value, z, inside, program, leaves, wanted, *captured):  # z as in _Gradient
        ctx.inside, ctx.program, ctx.leaves, ctx.wanted = inside, program, leaves, wanted
        ctx.save_for_backward(*captured)
        return value

    @staticmethod
    def backward(ctx, cotangent):
        refuse_double_backward()
        parts: list[Tensor | None] = [None] * len(ctx.leaves)
        if ctx.inside.requires_grad and ctx.wanted:
            wanted = [ctx.leaves[i] for i in ctx.wanted]
            found = ctx.program.pull([ctx.inside], wanted, [cotangent], keep_graph=True)
            for i, part in zip(ctx.wanted, found):
                parts[i] = part
        scaled = [
            no_gradient(saved) if part is None else part.to(saved.dtype)
            for part, saved in zip(parts, ctx.saved_tensors)
        ]
        return (None, None, None, None, None, None, *scaled)
