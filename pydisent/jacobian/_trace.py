"""Tracing: run a function once and record how each of its operations maps tangents.

The function really runs, on ordinary tensors, under a ``TorchFunctionMode`` that sees every torch
call. So Python control flow, closures, parametrizations, hooks and shapes work as in eager mode,
and none of the caller's objects is patched. A traced value is identified by its edge in the
autograd graph, where PyTorch itself tracks dependencies: in-place writes and views are followed
there, and any computation that the mode cannot see (a custom ``autograd.Function``, TorchScript) is
found there and becomes a separate step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.overrides import TorchFunctionMode

from pydisent.jacobian._announce import announce
from pydisent.jacobian._bodies import body_of
from pydisent.jacobian._call import (
    Call,
    DerivativeError,
    GeneralRule,
    NoRuleError,
    Rule,
    bind,
    differentiable,
    generators_in,
    is_foreign,
    name_of,
    owner_of,
    settled,
    tensors_in,
)
from pydisent.jacobian._checkpoint import keep_saved_tensors
from pydisent.jacobian._draws import RandomState
from pydisent.jacobian._eager import compiled_parts_run_eagerly
from pydisent.jacobian._hidden import edge_of
from pydisent.jacobian._intermediates import Intermediates
from pydisent.jacobian._memory import Memory
from pydisent.jacobian._modes import beneath_callers_modes, is_capturing, transforms_are_active
from pydisent.jacobian._names import NO_SLOPE, PREDICATES, QUERIES, RANDOM, READERS, STEPWISE
from pydisent.jacobian._outputs import CONSTANT, check_finite, output_tensors
from pydisent.jacobian._program import Program
from pydisent.jacobian._step import Step
from pydisent.jacobian._values import LostDerivatives, Values
from pydisent.jacobian._views import overlaps_itself
from pydisent.jacobian._writes import Write, refuse_overlap, with_copies, write_of
from pydisent.jacobian.decompositions import DECOMPOSITIONS, KEEP_STATISTICS, traced
from pydisent.jacobian.rules import COVERED, RULES, general
from pydisent.jacobian.rules.bends import add_bend


def trace(
    fn: Callable, z: Tensor, args: tuple, kwargs: dict, *, order: int = 1
) -> tuple[Program, Any, Tensor]:
    """The derivative of ``fn`` at ``z``, its value, and the input that its graph starts from.

    With ``order`` 2, steps also have second derivatives.
    """
    with torch.inference_mode(False), torch.enable_grad():
        source = z.clone() if z.is_inference() else z
        z_in = (source if source.requires_grad else source.detach().requires_grad_()).clone()
        tracer = Tracer(z_in, RULES, general, order)
        with (
            compiled_parts_run_eagerly(),
            torch.jit.optimized_execution(False),  # or TorchScript hides its graph
            beneath_callers_modes(tracer),
        ):
            value = fn(z_in, *args, **kwargs)
        outputs = output_tensors(value, z)
        program = tracer.program(outputs)
    announce(fn, tracer.hidden, has_hooks=tracer.has_hooks)
    check_finite(outputs)
    if not program.moved:
        raise ValueError(CONSTANT)
    return program, value, z_in


def _after_the_rules(value: Any) -> bool:
    raise AssertionError("whether a value is traced is known only while its call is recorded")


class Tracer(TorchFunctionMode):
    """Records a tangent program while a function runs.

    Parameters
    ----------
    z
        The traced input; it must not be a leaf of the autograd graph.
    rules, general
        The tangent rules by name, and the one for all other operations.
    order
        2 if steps also need second derivatives.
    """

    def __init__(
        self, z: Tensor, rules: dict[str, Rule], general: GeneralRule, order: int = 1
    ) -> None:
        super().__init__()
        self._z = z
        self._rules = rules
        self._general = general
        self._order = order
        self._intermediates = Intermediates(trace.__code__)
        self._values = Values(z, self._intermediates)
        self._memory = Memory()
        self._lost = LostDerivatives()
        self._decomposing: set[Callable] = set()

    @property
    def hidden(self) -> list[str]:
        """The operations that were visible only in the autograd graph."""
        return self._values.hidden

    @property
    def has_hooks(self) -> bool:
        """Whether the function registered hooks on the gradients of its values."""
        return self._values.hooks.registered

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if types and (owner := owner_of(types)) is not None:
            with self:  # sees the calls that the override makes
                return owner.__torch_function__(func, types, args, kwargs)
        if transforms_are_active():
            # A torch.func transform wraps tensors: its result is found in the graph.
            args, kwargs = bind(func, args, kwargs) if func in DECOMPOSITIONS else (args, kwargs)
            return DECOMPOSITIONS.get(func, func)(*args, **kwargs)
        name = name_of(func)
        if name == "__get__":
            return self._get(func, args, kwargs)
        if name == "__set__":
            # Torch holds a lock while it sets an attribute, so grad_fn must not be read.
            if getattr(getattr(func, "__self__", None), "__name__", "") == "data":
                self._memory.preserve(args[0])
            return func(*args, **kwargs)
        keep_saved_tensors()
        if func is Tensor.register_hook:
            return self._values.hooks.register(*args, **kwargs)
        if name in QUERIES:
            if name == "grad":
                return self._intermediates.run(func, name, args, kwargs)
            return func(*args, **kwargs)
        if self._lost.results:
            self._lost.refuse(name, (args, kwargs))
        write = write_of(func, name, args, kwargs)
        if write is not None:
            for target in write.targets:
                self._memory.preserve(target)
        if not torch.is_grad_enabled():
            return self._intermediates.run(func, name, args, kwargs)
        reach = self._values.reach
        if not (reach(args) or reach(kwargs.values())):
            return func(*args, **kwargs)
        if write is None and name in PREDICATES and not is_foreign(func):
            return func(*args, **kwargs)
        if isinstance(func, HigherOrderOperator):
            raise DerivativeError(
                f"PyTorch has no derivative of '{name}' that can be differentiated twice, or a "
                "wrong one: write its loop, or its branches, in Python"
            )
        if write is not None:
            return self._write(func, name, args, kwargs, write)
        if name == "__iter__":
            with self:
                return iter(args[0].unbind(0))
        return self._record(func, name, args, kwargs)

    def _get(self, func, args, kwargs):
        """Read an attribute, which may be a view."""
        out = func(*args, **kwargs)
        name = getattr(getattr(func, "__self__", None), "__name__", "")
        if name in READERS and torch.is_grad_enabled() and self._values.is_traced(args[0]):
            return self._record(READERS[name], name, args[:1], {}, out)
        return out

    # -- recording ---------------------------------------------------------------------------

    def _record(self, func, name, args, kwargs, out=None, before=None):
        """Run a call, unless its result ``out`` is given, and append its step."""
        foreign = is_foreign(func)
        if not foreign:  # a foreign function may write into its arguments
            args, kwargs = settled(args), settled(kwargs) if kwargs else kwargs
        rule = None if foreign else self._rules.get(name)
        decomposed = self._is_decomposed(func)
        if rule is None and decomposed:
            return self._decompose(func, args, kwargs)
        body = body_of(func) if rule is None and out is None else None
        if body is not None:
            with self:
                return body(*args, **kwargs)
        may_draw = rule is None or (name in RANDOM and kwargs.get("training") is not False)
        if before is None and may_draw:
            before = self._random_state(func, args, kwargs)
        call = Call(func, name, *bind(func, args, kwargs), out, self._values.is_traced)
        if decomposed and name in COVERED and (self._order > 1 or not COVERED[name](call)):
            return self._decompose(func, args, kwargs)
        if out is None:
            watched = self._lost.watched
            call.out = watched(func, name, args, kwargs) if foreign else func(*args, **kwargs)
        outputs = self._moving_results(call)
        if not outputs:
            return call.out
        if before is not None and (is_capturing() or before != before.again()):
            call.drawn = before if name in RANDOM or not is_capturing() else None
        step = None
        if rule is not None:
            try:
                if not call.args:
                    raise NoRuleError
                step = rule(call)
            except NoRuleError:
                if decomposed:
                    return self._decompose(func, args, kwargs)
                call.func, (call.args, call.kwargs) = func, bind(func, args, kwargs)
        general = step is None
        if general and not foreign:
            step = self._general(call)
        if step is None:  # found in the graph when its results are read
            self._values.shown.update((t.grad_fn, name) for t in outputs)
        else:
            self._append(call, step, general)
        # A step may hold the call, which must not keep all other steps and the graph alive.
        call.is_traced = _after_the_rules
        return call.out

    def _moving_results(self, call: Call) -> list[Tensor]:
        """The results whose tangents are to be recorded."""
        values, out = self._values, call.out
        found = (out,) if isinstance(out, Tensor) else tensors_in(out)
        outputs = [t for t in found if values.is_new(t)]
        if not outputs and call.name not in NO_SLOPE and not values.reach([out]):
            self._lost.note(call.name, out)
        if call.name in STEPWISE and not any(t.is_complex() for t in outputs):
            values.apart.update(t.grad_fn for t in outputs)
            return []
        return outputs

    def _append(self, call: Call, step: Step[Tensor], general: bool) -> None:
        """Append a rule's step to the program, with slots in place of values."""
        values, out = self._values, call.out
        # By default all results, though some results of a linear map may not move.
        outputs = step.outputs or (
            [out] if isinstance(out, Tensor) else [t for t in tensors_in(out) if differentiable(t)]
        )
        inputs = tuple([values.slots[t.grad_fn, t.output_nr] for t in step.inputs])
        results = tuple([values.add(t) for t in outputs])
        has_rows = values.has_rows
        recorded = Step(
            inputs,
            tuple([self._memory.capture(t) for t in step.captured]),
            step.push,
            results,
            step.keep,
            step.overwrites,
            step.pull,
            step.scale,
            step.is_identity,
            step.by_rows and has_rows.issuperset(inputs) and has_rows.issuperset(results),
            call.name,
            general=general,
            is_complex=tuple([t.is_complex() for t in outputs]),
        )
        if self._order > 1:
            add_bend(recorded, step, values, self._memory.capture)
        values.steps.append(recorded)
        for held in call.held or ():
            for place, value in enumerate(held):
                if isinstance(value, Tensor):
                    self._memory.keep(held, place)

    def _random_state(self, func: Callable, args: tuple, kwargs: dict[str, Any]) -> RandomState:
        given = generators_in(args, kwargs)
        opaque = is_foreign(func) or any(map(callable, (*args, *kwargs.values())))
        return RandomState.now(self._z.device, given, torch_alone=not opaque)

    def _is_decomposed(self, func: Callable) -> bool:
        return func in DECOMPOSITIONS and func not in self._decomposing

    def _decompose(self, func, args, kwargs):
        if func in KEEP_STATISTICS:
            with torch.no_grad():  # for its effect on buffers
                func(*args, **kwargs)
        self._decomposing.add(func)
        token = traced.set(True)
        try:
            args, kwargs = bind(func, args, kwargs)
            with self:
                return DECOMPOSITIONS[func](*args, **kwargs)
        finally:
            traced.reset(token)
            self._decomposing.discard(func)

    def _write(self, func, name, args, kwargs, write: Write):
        """Run a call that writes in place, and record it as one that returns the new value."""
        values = self._values
        target = write.targets[0]
        base = target._base if target._is_view() else None
        source = None if base is None else edge_of(base)
        if source is not None and source not in values.slots and source[0] not in values.apart:
            base = None  # internal to another operation, and not visible outside
        old = values.copies(target, (write.args, write.kwargs))
        plain = "" if write.func is None else name_of(write.func)
        known = plain in self._rules and plain not in RANDOM and not is_foreign(func)
        before = None if known else self._random_state(func, args, kwargs)
        if write.func is None:
            out = self._lost.watched(func, name, args, kwargs)
        else:
            out = func(*args, **kwargs)
        if write.func is None or not values.is_new(target) or overlaps_itself(target):
            values.shown.update((t.grad_fn, name) for t in write.targets if values.is_new(t))
            return out  # found in the graph, if it had an effect
        plain_args = tuple([with_copies(value, old) for value in write.args])
        plain_kwargs = with_copies(write.kwargs, old) if write.kwargs else {}
        if len(old) > 1 and plain not in RANDOM and not is_foreign(func):
            refuse_overlap(name, target, write.func, plain_args, plain_kwargs)
        result = self._record(write.func, plain, plain_args, plain_kwargs, target, before)
        slot = values.slot_of(result)
        if result is not target and slot is not None:  # recorded through a decomposition
            values.slots[edge_of(target)] = slot  # type: ignore[index]
        if base is not None and slot is not None:
            values.write_through(target, base, values.slots.get(source) if source else None)
        return out

    # -- the result --------------------------------------------------------------------------

    def program(self, outputs: Sequence[Tensor]) -> Program:
        """The tangent program of the traced function, whose results were ``outputs``."""
        values = self._values
        if self._lost.results:
            self._lost.refuse("return", outputs)
        slots = [values.slot_of(output) for output in outputs]
        self._memory.refuse_unseen_writes(values.steps)
        return Program(
            values.steps,
            self._memory.captured,
            slots,
            [output.shape for output in outputs],
            values.sizes,
            values.input_slot,
            live=[self._z, *values.live.values()] if any(s.live for s in values.steps) else [],
            rounding=values.rounding,
            origins={slot: edge for edge, slot in values.slots.items()},
        )
