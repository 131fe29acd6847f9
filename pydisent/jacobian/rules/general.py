"""The general rule: any operation, differentiated on its own by forward mode."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pydisent.jacobian._adjoint import inner, modes_agree, normal_like, once
from pydisent.jacobian._call import Call, differentiable, is_foreign
from pydisent.jacobian._capture import is_capturing
from pydisent.jacobian._step import Step
from pydisent.jacobian.rules._base import dense, flattened, over_tangents

Apply = Callable[[Sequence[Tensor], Sequence[Tensor]], tuple[Tensor, ...]]


def general(call: Call) -> Step | None:
    """Any operation, by ``torch.func.jvp`` on it alone; None where that is missing or wrong.

    An operation without a step is then found in the autograd graph.
    """
    leaves, spec, _ = flattened(call)
    places = [i for i, leaf in enumerate(leaves) if differentiable(leaf)]
    traced = [i for i in places if call.is_traced(leaves[i])]
    order = traced + [i for i in places if i not in traced]
    inputs, captured = [leaves[i] for i in traced], [leaves[i] for i in order]
    for i in order:
        leaves[i] = None  # read from what is captured
    outputs = [leaf for leaf in pytree.tree_leaves(call.out) if _moves(leaf)]
    moving = [i for i, leaf in enumerate(pytree.tree_leaves(call.out)) if _moves(leaf)]
    func, dtypes = call.func, [tensor.dtype for tensor in inputs]

    def apply(captured: Sequence[Tensor], primals: Sequence[Tensor]) -> tuple[Tensor, ...]:
        filled = list(leaves)
        for place, value in zip(order, (*primals, *captured[len(traced) :]), strict=True):
            filled[place] = value
        args, kwargs = spec.unflatten(filled)
        results = pytree.tree_leaves(func(*args, **kwargs))
        return tuple(results[i] for i in moving)

    def push(captured, tangents):
        primals = tuple(map(dense, captured[: len(traced)]))
        tangents = [t.to(dtype) for t, dtype in zip(tangents, dtypes)]

        def one(*directions):
            with call.replayed():
                return torch.func.jvp(lambda *p: apply(captured, p), primals, directions)[1]

        return over_tangents(one, tangents)

    # In the call's own dtypes, as an operation may not accept others.
    step = Step(inputs, captured, push, outputs=outputs, keep=True)
    if _is_mutable(func) or call.name.endswith("_"):
        return None
    kind = _kind(call, leaves, spec, captured, len(traced))
    return step if once(kind, lambda: _forward_mode_is_right(call, apply, step)) else None


def _kind(call: Call, leaves: list, spec: Any, tensors: Sequence[Tensor], traced: int) -> Any:
    """What determines PyTorch's derivative formula: the operator, dtypes, shapes, other arguments.

    None where it may depend on more: random draws, custom operators, arguments of other types.
    """
    plain = (int, float, bool, str, complex, type(None), torch.dtype, torch.device)
    if call.drawn is not None or is_foreign(call.func):
        return None
    if not all(type(leaf) in plain for leaf in leaves):
        return None
    types = tuple((t.dtype, t.shape, t.device.type, t.is_conj(), t.requires_grad) for t in tensors)
    return call.func, repr(spec), tuple(leaves), types, traced


def _moves(leaf: Any) -> bool:
    return differentiable(leaf) and leaf.grad_fn is not None


@functools.lru_cache(4096)
def _is_mutable(func: Callable) -> bool:
    """Whether an operator writes into its arguments, so that it must not be run again."""
    schema = getattr(func, "_schema", None)
    return schema is not None and schema.is_mutable


def _forward_mode_is_right(call: Call, apply: Apply, step: Step) -> bool:
    """Whether forward mode exists and agrees with reverse mode at random vectors.

    Some operations have only a reverse formula; a custom operator may have a jvp that silently
    returns zero, and a random one may draw other numbers for K tangents at once.
    """
    captured = [tensor.detach() for tensor in step.captured]
    count = len(step.inputs)
    primals = tuple(captured[:count])
    generator = torch.Generator("cpu").manual_seed(0)
    v = [normal_like(p, generator, 1) for p in primals]
    try:
        with torch.no_grad():
            moved = step.push(captured, v)
        with torch.enable_grad(), call.replayed():
            inputs = [p.detach().requires_grad_() for p in primals]
            outputs = apply([*inputs, *captured[count:]], inputs)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError):
        return False
    if is_capturing():
        return True
    if call.drawn is not None and not _equal(outputs, step.outputs):
        return False
    pairs = [
        (o, t[0], normal_like(o.detach(), generator)) for o, t in zip(outputs, moved, strict=True)
    ]
    forward = [inner(u, t) for _, t, u in pairs]
    pulling = [(o, u) for o, _, u in pairs if o.requires_grad]
    pulled: Sequence[Tensor] = ()
    if pulling:
        ends, cotangents = zip(*pulling)
        try:
            pulled = torch.autograd.grad(ends, inputs, cotangents, materialize_grads=True)
        except RuntimeError:  # not along all cotangents, as for the phases of singular vectors
            return not is_foreign(call.func)
    reverse = [inner(p, t[0]) for p, t in zip(pulled, v)]
    return modes_agree(forward, reverse, (*outputs, *primals))


def _equal(got: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(torch.allclose(a, b, equal_nan=True) for a, b in zip(got, expected, strict=True))
