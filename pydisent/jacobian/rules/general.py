"""The general rule: any operation, differentiated on its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pydisent.jacobian._function import restore_random_state, save_random_state
from pydisent.jacobian._trace import Call, Step, differentiable
from pydisent.jacobian.rules._base import (
    flattened,
    over_tangents,
)


def general(call: Call) -> Step:
    """Any operation, by ``torch.func.jvp`` on it alone, else by reverse mode twice."""
    leaves, spec, _ = flattened(call)
    places = [i for i, leaf in enumerate(leaves) if differentiable(leaf)]
    traced = [i for i in places if call.is_traced(leaves[i])]
    constants = [i for i in places if i not in traced]
    order = traced + constants
    func = call.func

    def apply(captured: Sequence[Tensor], primals: Sequence[Tensor]) -> tuple[Tensor, ...]:
        filled = list(leaves)
        for place, value in zip(traced, primals):
            filled[place] = value
        for place, value in zip(constants, captured[len(traced) :]):
            filled[place] = value
        args, kwargs = pytree.tree_unflatten(filled, spec)
        return tuple(o for o in pytree.tree_leaves(func(*args, **kwargs)) if differentiable(o))

    def push(captured, tangents):
        primals = tuple(captured[: len(traced)])
        tangents = [t.to(p.dtype) for t, p in zip(tangents, primals)]

        def one(*directions):
            return torch.func.jvp(lambda *p: apply(captured, p), primals, directions)[1]

        return over_tangents(one, tangents)

    step = Step([leaves[i] for i in traced], [leaves[i] for i in order], push)
    if not _has_forward_mode(apply, step):
        step.push = _reverse_twice(apply, len(traced))
    return step


def _has_forward_mode(apply: Callable, step: Step) -> bool:
    """Whether forward mode is there and right: <u, J v> = <J'u, v> for random u and v.

    Some operations have only a reverse formula; a custom operator may have a jvp of silent zeros.
    """
    captured = [tensor.detach() for tensor in step.captured]
    primals = tuple(captured[: len(step.inputs)])
    generator = torch.Generator().manual_seed(0)
    after = save_random_state(primals[0])
    v = tuple(torch.randn(p.shape, generator=generator).to(p) for p in primals)
    try:
        moved = torch.func.jvp(lambda *p: apply(captured, p), primals, v)[1]
    except (RuntimeError, NotImplementedError):
        return False
    finally:
        restore_random_state(after, primals[0])
    inputs = [p.requires_grad_() for p in (p.detach() for p in primals)]
    outputs = [o for o in apply([*inputs, *captured[len(inputs) :]], inputs) if o.requires_grad]
    restore_random_state(after, primals[0])
    if not outputs:
        return True
    u = [torch.randn(o.shape, generator=generator).to(o) for o in moved]
    pulled = torch.autograd.grad(
        outputs, inputs, u[: len(outputs)], allow_unused=True, materialize_grads=True
    )
    forward = sum(float((a.conj() * b).real.sum()) for a, b in zip(u, moved))
    reverse = sum(float((a.conj() * b).real.sum()) for a, b in zip(pulled, v))
    return abs(forward - reverse) <= 1e-2 * (abs(forward) + abs(reverse)) + 1e-9


def _reverse_twice(apply: Callable, count: int):
    """J t as the derivative of J' v in v: reverse mode alone, one tangent at a time."""

    def push(captured, tangents):
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            primals = [
                p if p.requires_grad else p.detach().requires_grad_() for p in captured[:count]
            ]
            outputs = apply(captured, primals)
            probes = [torch.zeros_like(o, requires_grad=True) for o in outputs]
            pulled = torch.autograd.grad(
                outputs,
                primals,
                probes,
                create_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            rows = [
                torch.autograd.grad(
                    pulled,
                    probes,
                    [t[i] for t in tangents],
                    create_graph=keep,
                    retain_graph=True,
                    materialize_grads=True,
                )
                for i in range(tangents[0].shape[0])
            ]
        return tuple(torch.stack(column) for column in zip(*rows))

    return push
