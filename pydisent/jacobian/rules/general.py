"""The general rule: any operation, differentiated by itself in forward mode."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pydisent.jacobian._adjoint import (
    adjoint_holds,
    bent_by_reverse,
    coarsest,
    inner,
    modes_agree,
    normal_like,
    once,
)
from pydisent.jacobian._call import Call, DerivativeError, differentiable, is_foreign
from pydisent.jacobian._hidden import Region
from pydisent.jacobian._modes import is_capturing
from pydisent.jacobian._program import as_dtype
from pydisent.jacobian._refused import has_no_derivative, is_wrong
from pydisent.jacobian._step import Bend, Step
from pydisent.jacobian.rules._base import FAILURES, dense, flattened, over_tangents, vmap_kind

Apply = Callable[[Sequence[Tensor], Sequence[Tensor]], tuple[Tensor, ...]]


def general(call: Call) -> Step | None:
    """Any operation, by ``torch.func.jvp`` on it alone; None if that is missing or wrong.

    An operation without a step is later found in the autograd graph.
    """
    leaves, spec, _ = flattened(call)
    places = [i for i, leaf in enumerate(leaves) if differentiable(leaf)]
    traced = [i for i in places if call.is_traced(leaves[i])]
    order = traced + [i for i in places if i not in traced]
    inputs, captured = [leaves[i] for i in traced], [leaves[i] for i in order]
    for i in order:
        leaves[i] = None  # read from the captured tensors
    outputs = [leaf for leaf in pytree.tree_leaves(call.out) if _moves(leaf)]
    moving = [i for i, leaf in enumerate(pytree.tree_leaves(call.out)) if _moves(leaf)]
    func, dtypes = call.func, [tensor.dtype for tensor in inputs]
    kind = _kind(call, leaves, spec, captured, len(traced))

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

        like = vmap_kind(func, [*leaves, *captured], spec, len(tangents[0]))
        return over_tangents(one, tangents, like)

    # In the call's own dtypes, as an operation may not accept others.
    step = Step(inputs, captured, push, outputs=outputs, keep=True)
    step.bend = Bend(captured, _Bend(call, apply, step, kind))
    if _is_mutable(func) or call.name.endswith("_"):
        return None
    return step if once(kind, lambda: _forward_mode_is_right(call, apply, step)) else None


def _kind(call: Call, leaves: list, spec: Any, tensors: Sequence[Tensor], traced: int) -> Any:
    """What determines PyTorch's derivative formula: the operator, dtypes, shapes, other arguments.

    None if it may depend on more: random draws, custom operators, arguments of other types.
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
    returns zero, and a random one may draw other numbers for K tangents at once. Tests v and w
    together, by <u, J v + 2 J w>, to detect a vmap that mixes them up.
    """
    captured = [tensor.detach() for tensor in step.captured]
    count = len(step.inputs)
    primals = tuple(captured[:count])
    generator = torch.Generator("cpu").manual_seed(0)
    pairs = [normal_like(p, generator, 2) for p in primals]
    v = [pair[0] + 2 * pair[1] for pair in pairs]
    try:
        with torch.no_grad():
            moved = [both[0] + 2 * both[1] for both in step.push(captured, pairs)]
        with torch.enable_grad(), call.replayed():
            inputs = [p.detach().requires_grad_() for p in primals]
            outputs = apply([*inputs, *captured[count:]], inputs)
    except FAILURES:
        return False
    if any(map(_is_known_wrong, outputs)):  # refused where the graph shows it
        return False
    if is_capturing():
        return True
    if call.drawn is not None and not _equal(outputs, step.outputs):
        return False
    along = [normal_like(o.detach(), generator) for o in outputs]
    pulling = [(o, u) for o, u in zip(outputs, along) if o.requires_grad]
    pulled: Sequence[Tensor | None] = [None] * len(v)
    if pulling:
        ends, cotangents = zip(*pulling)
        try:
            pulled = torch.autograd.grad(ends, inputs, cotangents, materialize_grads=True)
        except RuntimeError:  # defined for some cotangents only, as with phases of singular vectors
            return not is_foreign(call.func)
    return adjoint_holds(along, moved, pulled, v, coarsest([*outputs, *primals]))


def _is_known_wrong(output: Tensor) -> bool:
    node = output.grad_fn
    if node is None:
        return False
    region = Region.behind(node, lambda _: False, ())
    return any(has_no_derivative(node) or is_wrong(node) for node in region.nodes)


class _Bend:
    """The second derivative of an operation: forward mode twice, or else reverse mode twice."""

    def __init__(self, call: Call, apply: Apply, step: Step, kind: Any) -> None:
        self._call, self._apply, self._kind = call, apply, kind
        self._count, self._dtypes = len(step.inputs), [tensor.dtype for tensor in step.inputs]
        self._by_forward: bool | None = None

    def __call__(
        self, read: Sequence[Tensor], a: Sequence[Tensor], b: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        a, b = ([t.to(d) for t, d in zip(side, self._dtypes)] for side in (a, b))
        if self._by_forward is None:
            self._by_forward = self._is_right_by_forward(read)
        return (self._forward if self._by_forward else self._reverse)(read, a, b)

    def _forward(
        self, read: Sequence[Tensor], a: Sequence[Tensor], b: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        primals = tuple(map(dense, read[: self._count]))

        def one(*directions: Tensor) -> tuple[Tensor, ...]:
            first, second = directions[: self._count], directions[self._count :]

            def moved(*values: Tensor) -> tuple[Tensor, ...]:
                return torch.func.jvp(lambda *p: self._apply(read, p), values, first)[1]

            with self._call.replayed():
                return torch.func.jvp(moved, primals, second)[1]

        like = vmap_kind(self._call.func, [*self._call.args, *read], None, len(a[0]), "second")
        return over_tangents(one, [*a, *b], like)

    def _reverse(
        self, read: Sequence[Tensor], a: Sequence[Tensor], b: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            # Separate edges in the graph, as values and their tangents depend on each other.
            inputs = [
                x.view_as(x) if keep and x.requires_grad else x.detach().requires_grad_()
                for x in read[: self._count]
            ]
            with self._call.replayed():
                outputs = self._apply(read, inputs)
            like = [output.detach() for output in outputs]
            rows = [
                bent_by_reverse(outputs, inputs, like, *pair, keep=keep)
                for pair in zip(zip(*a), zip(*b))
            ]
        return tuple(map(torch.stack, zip(*rows)))

    def _is_right_by_forward(self, read: Sequence[Tensor]) -> bool:
        """Whether forward mode gives the second derivative, and reverse mode its gradient.

        DerivativeError if neither mode gives it, or if that of reverse mode differs. If reverse
        mode gives none, forward mode is used.
        """
        if is_capturing():
            return True
        wide = [as_dtype(x, torch.float64) for x in read]  # so that zeros are not rounding errors
        found = self._probed(self._forward, wide)
        if found is None:
            wide, found = list(read), self._probed(self._forward, read)
        if found is None and self._probed(self._reverse, read) is None:
            raise DerivativeError(
                f"PyTorch has no second derivative of '{self._call.name}' that has a gradient"
            )
        if found is None:
            return False

        def agrees() -> bool:
            other = self._probed(self._reverse, wide)
            rounding = coarsest(wide)
            return other is None or all(
                modes_agree([x], [y], rounding, 1e-8) for x, y in zip(found, other, strict=True)
            )

        if not once(self._kind and ("second", *self._kind), agrees):
            raise DerivativeError(
                f"PyTorch's second derivatives of '{self._call.name}' by forward and by reverse "
                "mode differ, so that one of them is wrong"
            )
        return True

    def _probed(self, method: Callable[..., Any], read: Sequence[Tensor]) -> list[Tensor] | None:
        """<u, D²f[v, w]> and its derivative along t, at random vectors; None if there is none."""
        generator = torch.Generator("cpu").manual_seed(0)
        read = [x.detach() for x in read]
        inputs = read[: self._count]
        v, w, t = ([normal_like(x, generator, 2) for x in inputs] for _ in range(3))
        try:
            with torch.enable_grad():
                moving = [x.clone().requires_grad_() for x in inputs]
                bent = method([*moving, *read[self._count :]], v, w)
                parts = [inner(normal_like(x.detach(), generator), x) for x in bent]
                total = torch.stack(parts).sum()
                slopes: Sequence[Tensor] = ()
                if total.requires_grad:
                    slopes = torch.autograd.grad(total, moving, materialize_grads=True)
        except FAILURES:
            return None
        along = [inner(g, x[0]) for g, x in zip(slopes, t)] or [torch.zeros_like(total)]
        return [total.detach(), torch.stack(along).sum()]


def _equal(got: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(torch.allclose(a, b, equal_nan=True) for a, b in zip(got, expected, strict=True))
