"""The penalty's gradient: one tangent pass and one reverse pass along a few directions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pydisent.jacobian._directions import Directions
from pydisent.jacobian.linearization import Linearization


def with_gradient(
    value: Tensor, z: Tensor, linear: Linearization, directions: Directions
) -> Tensor:
    """Attach the penalty's gradient to its value; it flows to everything that the function read."""
    linear.program.refuse_higher_order()
    return _Gradient.apply(value, z, linear, directions, *linear.program.captured)


def refuse_double_backward(_gradient: Tensor | None = None) -> None:
    if torch.is_grad_enabled():  # as it is with create_graph=True
        raise RuntimeError(
            "the gradient of a Jacobian penalty cannot be differentiated again "
            '(create_graph=True); that of alignment_penalty with method="autograd" can'
        )


def once_differentiable(value: Tensor, z: Tensor) -> Tensor:
    """The value with its graph, through which gradients cannot be differentiated again.

    If J is constant there is no graph, but the value still has a backward if ``z`` has one.
    """
    if not value.requires_grad:
        return value + z.flatten()[:0].sum() if z.requires_grad else value
    value.register_hook(refuse_double_backward)
    return value


class _Gradient(torch.autograd.Function):
    """Identity on the penalty's value; its backward is the tangent pass and one reverse pass.

    Each chunk's graph is freed before the next is built, so memory does not grow with the rank.
    """

    @staticmethod
    def forward(ctx, value, z, linear, directions, *captured):  # z: for a J that is constant
        ctx.linear, ctx.directions = linear, directions
        ctx.save_for_backward(*captured)
        return value.clone()

    @staticmethod
    def backward(ctx, cotangent):
        refuse_double_backward()
        needed = ctx.needs_input_grad[4:]
        gradients = _form_gradient(ctx.linear, ctx.directions, needed)
        scaled = [
            no_gradient(saved) if g is None else (g * cotangent.to(g.dtype)).to(saved.dtype)
            for g, saved in zip(gradients, ctx.saved_tensors)
        ]
        return (cotangent, None, None, None, *scaled)  # the cotangent goes on to the value's graph


def no_gradient(tensor: Tensor) -> Tensor | None:
    """No gradient, or zeros for a value with the caller's hooks, which expect a tensor."""
    hooked = tensor.grad_fn is not None and tensor._backward_hooks
    return tensor.new_zeros(()).expand_as(tensor) if hooked else None


def _form_gradient(
    linear: Linearization, directions: Directions, needed: Sequence[bool]
) -> list[Tensor | None]:
    """The gradient of the penalty with respect to what the function read, chunk by chunk.

    It is that of Σ <seed, J q>, or of Σ λ ‖J q‖²: functions of J alone.
    """
    program = linear.program
    leaves, wanted = program.leaves(linear.captured, needed)
    sums: list[Tensor | None] = [None] * len(leaves)
    start = 0
    tangents = directions.tangents.reshape(-1, *linear.latent_shape)
    for chunk in linear.chunks(tangents, graph=True):
        with torch.enable_grad():
            here = slice(start, start + len(chunk))
            known = {slot: along[here] for slot, along in directions.known.items()}
            outputs = program.push(chunk.to(linear.dtype), leaves, known=known)
        moving = [
            (output, _seed(output.detach(), directions, i, start))
            for i, output in zip(program.moved, outputs)
            if output.requires_grad
        ]
        start += len(chunk)
        if not moving or not wanted:
            continue
        ends, seeds = zip(*moving)
        parts = program.pull(ends, [leaves[i] for i in wanted], seeds)
        for i, part in zip(wanted, parts):
            if part is not None:
                wide = part.to(torch.promote_types(part.dtype, torch.float32))
                before = sums[i]
                sums[i] = wide if before is None else before.add_(wide)
    return sums


def _seed(output: Tensor, directions: Directions, index: int, start: int) -> Tensor:
    """The cotangent of an output for one chunk of directions, in the output's memory layout."""
    part = slice(start, start + len(output))
    if directions.weights is not None:
        weights = 2 * directions.weights[:, part].mT
        return output * weights.reshape(*weights.shape, *(1,) * (output.dim() - 2)).to(output.dtype)
    assert directions.seeds is not None
    return torch.empty_like(output).copy_(directions.seeds[index][:, part].transpose(0, 1))
