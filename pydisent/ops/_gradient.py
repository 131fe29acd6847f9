"""Gradients of ops: by their adjoints, or by autograd through their references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pydisent.ops.spec import Backward, Grads, OpSpec, Wiring, as_meta, tuple_of


def by_adjoint(spec: OpSpec, adjoint: Callable[..., Any]) -> Backward:
    """Make the gradient of an op from a call of its adjoint.

    Cotangents of saved outputs, which a second derivative alone has, go by the reference.
    """
    assert spec.adjoint is not None
    wiring = Wiring(spec, spec.adjoint)
    count, by_reference = wiring.cotangents, reference_backward(spec)
    has_optional = "?" in spec.schema

    def backward(
        inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
    ) -> Grads:
        found: Grads = (None,) * len(inputs)
        missing = [i for i in range(count) if grads[i] is None]
        if len(missing) < count:
            if missing:
                grads = _with_zeros(spec, inputs, grads, missing)
            found = wiring.gradients(adjoint(*wiring.arguments(grads, inputs, outputs)))
            if has_optional:
                found = tuple(None if x is None else g for x, g in zip(inputs, found))
        if any(grad is not None for grad in grads[count:]):
            more = by_reference(inputs, (), ((None,) * count + grads[count:]), needs)
            found = tuple(
                y if x is None else x if y is None else x + y for x, y in zip(found, more)
            )
        return found

    return backward


def _with_zeros(spec: OpSpec, inputs: tuple[Any, ...], grads: Grads, missing: list[int]) -> Grads:
    """The cotangents with zeros for those that are missing."""
    some = next(grad for grad in grads if grad is not None)
    outputs, full = tuple_of(spec.fake(*map(as_meta, inputs))), list(grads)
    for i in missing:
        full[i] = torch.zeros(outputs[i].shape, dtype=outputs[i].dtype, device=some.device)
    return tuple(full)


def reference_backward(spec: OpSpec) -> Backward:
    """Make the gradient of an op from autograd through its reference, differentiable again."""

    def backward(
        inputs: tuple[Any, ...], outputs: tuple[Any, ...], grads: Grads, needs: tuple[bool, ...]
    ) -> Grads:
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            # Aliases are where this gradient ends, and where the graph of a further one goes on.
            aliases = tuple(x.view_as(x) if need else x for x, need in zip(inputs, needs))
            results = tuple_of(spec.reference(*aliases))
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
