"""Fast path of ordinary eager calls: straight to the kernel, bypassing the dispatcher."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from pydisent.ops._context import is_ordinary, merge_leading, split_leading
from pydisent.ops._gradient import differentiable_backward
from pydisent.ops._kernels import refuse_writing
from pydisent.ops._zeros import zeros_like
from pydisent.ops.spec import Backward, OpSpec, Wiring, tuple_of

below_autograd = torch._C._AutoDispatchBelowAutograd
is_recording = torch.is_grad_enabled


def direct_kernels(
    spec: OpSpec, overload: Any, adjoint: Callable[..., Any] | None, backward: Backward
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Make two callables for ordinary arguments: all outputs below autograd, and visible outputs.

    ``adjoint`` is the first of the two for the adjoint op.
    """
    below = _below_autograd(spec, overload)
    if spec.written:
        return below, _mutating(spec, below)
    visible = visible_outputs(spec)
    apply = _function(spec, overload, below, adjoint, backward)

    def direct(*args: Any) -> Any:
        if is_recording():
            for x in args:
                if isinstance(x, Tensor) and x.requires_grad:
                    return apply(*args)
        return visible(below(*args))

    return below, direct


def _below_autograd(spec: OpSpec, overload: Any) -> Callable[..., Any]:
    """Make a call of the op's kernel, below autograd, for any leading axes."""
    run, core = overload._op, spec.core

    def below(*args: Any) -> Any:
        with below_autograd():
            if not core or args[0].dim() == core + 1:
                return run(*args)
            args, leading = merge_leading(args, core)
            outputs = run(*args)
            # Autograd would forbid in-place writes to a view made inside a Function.
            with torch._C._AutoDispatchBelowADInplaceOrView():
                return split_leading(outputs, leading)

    return below


def _mutating(spec: OpSpec, below: Callable[..., Any]) -> Callable[..., Any]:
    def direct(*args: Any) -> None:
        written = refuse_writing(spec, args)
        below(*args)
        torch.autograd.graph.increment_version(written)

    return direct


def _function(
    spec: OpSpec,
    overload: Any,
    below: Callable[..., Any],
    adjoint: Callable[..., Any] | None,
    backward: Backward,
) -> Callable[..., Any]:
    """Make the op with its gradient.

    Hidden outputs that the gradient reads are saved but not returned: a gradient that will itself
    be differentiated recomputes them.
    """
    visible, keep, (split, join) = visible_outputs(spec), _saved_outputs(spec), _arguments(spec)
    by_adjoint = None if adjoint is None else _by_adjoint_alone(spec, adjoint)
    again = differentiable_backward(overload) if spec.outputs < len(spec.returns) else backward
    unseen = (None,) * (len(spec.returns) - spec.outputs)

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            outputs = below(*args)
            ctx.set_materialize_grads(False)
            if split is None:
                ctx.plain = ()
                ctx.save_for_backward(*args, *keep(outputs))
            else:
                tensors, ctx.plain = split(args)
                ctx.save_for_backward(*tensors, *keep(outputs))
            return visible(outputs)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            known = ctx.saved_tensors + ctx.plain
            recording, needs = is_recording(), ctx.needs_input_grad
            if by_adjoint is not None and not recording and (needs[0] or not spec.backward):
                found = by_adjoint(grads, known)
                if found is not None:
                    return found
            if all(grad is None for grad in grads):
                return (None,) * len(spec.inputs)
            inputs, outputs = join(known)
            way = again if recording else backward
            return way(inputs, outputs, grads + unseen, needs)

    Function.__name__ = Function.__qualname__ = f"{spec.name}_autograd"
    Function._backward_cls.__name__ = f"{Function.__name__}Backward"
    # Not Function.apply, which first checks for functorch: an ordinary call is never under it.
    return super(torch.autograd.Function, Function).apply


def visible_outputs(spec: OpSpec) -> Callable[[Any], Any]:
    """Make a selector of the outputs that callers see: a tuple if there are several."""
    if spec.outputs == len(spec.returns) or spec.written:
        return lambda outputs: outputs
    count = spec.outputs  # not itemgetter, which torch.compile cannot trace
    return (lambda outputs: outputs[0]) if count == 1 else (lambda outputs: outputs[:count])


def _saved_outputs(spec: OpSpec) -> Callable[[Any], tuple[Any, ...]]:
    places, count = spec.saves, len(spec.returns)
    if not places:
        return lambda outputs: ()
    if places == tuple(range(count)):
        return tuple_of
    if len(places) == 1:
        place = places[0]
        return lambda outputs: (outputs[place],)
    return itemgetter(*places)


def _known(spec: OpSpec) -> list[str]:
    """Names of the values available to the gradient, in the order that the Function saves them."""
    plain = [name for name in spec.inputs if name not in spec.tensors]
    return [*spec.tensors, *(spec.returns[i] for i in spec.saves), *plain]


def _arguments(spec: OpSpec) -> tuple[Any, Any]:
    """Make the split of arguments into tensors and others (None if no others), and its inverse."""
    known, count = _known(spec), len(spec.inputs)
    place = {name: i for i, name in enumerate(known)}
    order = [place[name] for name in spec.inputs]
    kept = [len(spec.tensors) + spec.saves.index(i) if i in spec.saves else None
            for i in range(len(spec.returns))]  # fmt: skip

    def join(found: tuple[Any, ...]) -> tuple[Any, Any]:
        outputs = tuple(None if i is None else found[i] for i in kept)
        return tuple(found[i] for i in order), outputs

    if len(spec.tensors) == count:
        return None, join
    tensors = tuple(i for i, name in enumerate(spec.inputs) if name in spec.tensors)
    others = tuple(i for i in range(count) if i not in tensors)

    def split(args: tuple[Any, ...]) -> tuple[Any, Any]:
        return [args[i] for i in tensors], tuple([args[i] for i in others])

    return split, join


def _by_adjoint_alone(spec: OpSpec, adjoint: Callable[..., Any]) -> Callable[..., Any] | None:
    """Make a gradient that only calls the adjoint; it returns None where that does not suffice."""
    assert spec.adjoint is not None
    wiring, known, seen = Wiring(spec, spec.adjoint), _known(spec), spec.outputs
    hidden = spec.returns[seen : wiring.cotangents]
    if not set(hidden) <= set(known):
        return None
    shown = wiring.names[:seen] + ["" for _ in range(seen - wiring.cotangents)]
    place = {name: i for i, name in enumerate([*shown, *known, *wiring.names[seen:]])}
    pick = itemgetter(*(place[name] for name in spec.adjoint.inputs))
    zero = [place[name] for name in hidden]
    wanted, optional = range(min(seen, wiring.cotangents)), "?" in spec.schema
    unwanted, inputs = range(len(wanted), seen), [known.index(name) for name in spec.inputs]

    def by_adjoint(grads: tuple[Any, ...], saved: tuple[Any, ...]) -> Any:
        for i in wanted:
            if grads[i] is None:
                return None
        for i in unwanted:
            if grads[i] is not None:
                return None
        given = grads + saved
        for i in zero:
            given += (zeros_like(given[i]),)
        args = pick(given)
        if not is_ordinary(args):
            return None
        found = wiring.gradients(adjoint(*args))
        if optional:
            return tuple([None if saved[i] is None else g for i, g in zip(inputs, found)])
        return found

    return by_adjoint
