"""Gradients of ops: from their adjoints, or from autograd through their references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pydisent.ops._zeros import zeros_like
from pydisent.ops.spec import Backward, Grads, OpSpec, Wiring, tuple_of


def by_adjoint(spec: OpSpec, adjoint: Callable[..., Any]) -> Backward:
    """Make an op's gradient from its adjoint.

    Cotangents of saved outputs, which arise only in second derivatives, go through the reference.
    """
    assert spec.adjoint is not None
    wiring = Wiring(spec, spec.adjoint)
    own, further = range(wiring.cotangents), range(wiring.cotangents, len(spec.returns))
    has_optional, by_reference = "?" in spec.schema, differentiable_backward(spec.reference)

    # On small tensors this is a large part of a call's time.
    def backward(
        inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
    ) -> Grads:
        for i in further:
            if grads[i] is not None:
                return second_order(inputs, outputs, grads, needs)
        for i in own:
            if grads[i] is None:
                grads = _with_zeros(spec, inputs, outputs, grads, own)
                break
        found = wiring.gradients(adjoint(*wiring.arguments(grads, inputs, outputs)))
        if has_optional:
            return tuple([None if x is None else g for x, g in zip(inputs, found)])
        return found

    def second_order(
        inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
    ) -> Grads:
        count, none = wiring.cotangents, (None,) * len(grads)
        found = by_reference(inputs, (), none[:count] + grads[count:], needs)
        if all(grad is None for grad in grads[:count]):
            return found
        first = backward(inputs, outputs, grads[:count] + none[count:], needs)
        return tuple(map(_sum, first, found))

    return backward


def _sum(x: Tensor | None, y: Tensor | None) -> Tensor | None:
    return y if x is None else x if y is None else x + y


def _with_zeros(
    spec: OpSpec, inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, own: range
) -> Grads:
    """Replace missing cotangents of the op's own outputs by zeros."""
    missing = [i for i in own if grads[i] is None]
    if any(outputs[i] is None for i in missing):
        outputs = tuple_of(spec.fake(*inputs))
    return tuple(zeros_like(outputs[i]) if i in missing else g for i, g in enumerate(grads))


def differentiable_backward(function: Callable[..., Any]) -> Backward:
    """Make a gradient by autograd through a function, such as an op's reference."""

    def backward(
        inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
    ) -> Grads:
        create_graph = torch.is_grad_enabled()
        with torch.inference_mode(False):  # this also enables gradients
            # This gradient stops at the aliases; a higher-order one continues through them.
            aliases = tuple(x.view_as(x) if need else x for x, need in zip(inputs, needs))
            results = tuple_of(function(*aliases))
            pairs = [(r, g) for r, g in zip(results, grads) if g is not None and r.requires_grad]
            if not pairs:  # these outputs do not depend on these inputs
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
