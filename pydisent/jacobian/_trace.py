"""Tracing: run a function once and record what each of its operations does to a tangent.

The function runs for real, on ordinary tensors, under a ``TorchFunctionMode`` that sees every
torch call. So Python control flow, closures, parametrisations, hooks and shapes work as they
do in eager mode, and nothing of the caller's is patched. A traced value is known by its place in
the autograd graph, which is where PyTorch itself keeps what depends on what: writes in place and
views are followed there, and whatever reaches a value by a way that the mode cannot see (a custom
``autograd.Function``, TorchScript) is found there, and becomes a step of its own.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from pydisent.jacobian._call import (
    Call,
    DerivativeError,
    GeneralRule,
    NoRuleError,
    Rule,
    Write,
    bind,
    differentiable,
    generators_in,
    is_foreign,
    name_of,
    tensors_in,
    write_of,
)
from pydisent.jacobian._capture import is_capturing
from pydisent.jacobian._checkpoint import keep_saved_tensors
from pydisent.jacobian._draws import RandomState
from pydisent.jacobian._hidden import (
    Edge,
    Region,
    edge_of,
    is_custom,
    leaves_behind,
    live_push,
    refuse_wrong_nodes,
)
from pydisent.jacobian._program import Program
from pydisent.jacobian._step import Step
from pydisent.jacobian._views import overlaps_itself, view_places
from pydisent.jacobian.decompositions import DECOMPOSITIONS, KEEP_STATISTICS

# Calls whose result carries no tangent, whatever they read: they are not looked into.
_QUERIES = frozenset(
    "detach detach_ item tolist numpy size stride dim numel nelement ndimension element_size "
    "storage_offset untyped_storage storage data_ptr get_device is_floating_point is_complex "
    "is_contiguous is_nonzero is_same_size is_inference is_pinned is_set_to is_shared is_signed "
    "register_hook register_post_accumulate_grad_hook requires_grad_ retain_grad share_memory_ "
    "rename_ backward grad zeros_like ones_like empty_like full_like rand_like randn_like "
    "randint_like new_zeros new_ones new_full new_empty new_tensor".split()
)
# Calls whose results are truths or places, unless they write into ``out``.
_JUDGEMENTS = frozenset(
    "lt gt le ge eq ne __lt__ __gt__ __le__ __ge__ __eq__ __ne__ __bool__ less greater less_equal "
    "greater_equal not_equal equal allclose isclose isnan isinf isfinite isposinf isneginf isreal "
    "signbit any all logical_and logical_or logical_xor logical_not argmax argmin argsort "
    "count_nonzero nonzero searchsorted bucketize".split()
)
# Functions that are constant but for jumps; autograd gives them a derivative of zero.
_STEPWISE = frozenset("round floor ceil trunc fix sign heaviside floor_divide __floordiv__".split())
# Results that move by jumps or not at all, and that torch gives no place in the graph.
_NO_SLOPE = frozenset(
    "to type_as expand_as view_as reshape_as nextafter histc histogram bincount frexp bernoulli "
    "multinomial".split()
)
_READERS = {name: operator.attrgetter(name) for name in "T mT H mH real imag".split()}


class Tracer(TorchFunctionMode):
    """Records a tangent program while a function runs.

    Parameters
    ----------
    z
        The traced input; it must not be a leaf of the autograd graph.
    rules, general
        The tangent rules by name, and the one for all other operations.
    """

    def __init__(self, z: Tensor, rules: dict[str, Rule], general: GeneralRule) -> None:
        super().__init__()
        self._z = z
        self._rules = rules
        self._general = general
        self._steps: list[Step[int]] = []
        self._captured: list[Tensor] = []
        self._versions: list[int] = []
        self._captured_index: dict[int, int] = {}
        self._slots: dict[Edge, int] = {}
        self._slot_sizes: dict[int, int] = {}
        self._apart: set[Any] = {None}  # nodes of the autograd graph that z does not reach
        self._memory: dict[int, list[tuple[list[Any], int]]] = {}  # who reads an address
        self._decomposing: set[Callable] = set()
        self._live: dict[int, Tensor] = {}  # leaves that steps read through the graph
        self._rounding = 0.0  # of the coarsest dtype in which something was computed
        self._shown: dict[Any, str] = {}  # nodes of calls that have no step of their own
        self._doubtful: dict[int, tuple[Tensor, str]] = {}  # results without a derivative
        self.hidden: list[str] = []  # what only the autograd graph shows
        self.input_slot = self._new_slot(edge_of(z), z)

    # -- what is known of a tensor -----------------------------------------------------------

    def slot_of(self, tensor: Any) -> int | None:
        """Where the tangent of a value is found, or None if the value does not depend on z."""
        if not isinstance(tensor, Tensor):
            return None
        node = tensor.grad_fn
        if node in self._apart:
            return None
        slot = self._slots.get((node, tensor.output_nr))
        return self._discover(tensor, node) if slot is None else slot

    def is_traced(self, value: Any) -> bool:
        """Whether ``value`` is a tensor that depends on the traced input."""
        return self.slot_of(value) is not None

    def _reach(self, values: Iterable[Any]) -> bool:
        """Whether some tensor among arguments is traced: as ``tensors_in`` walks, but quicker."""
        for value in values:
            if isinstance(value, Tensor):
                if self.slot_of(value) is not None:
                    return True
            elif isinstance(value, (tuple, list)):
                if self._reach(value):
                    return True
            elif isinstance(value, dict) and self._reach(value.values()):
                return True
        return False

    def _new_slot(self, edge: Edge | None, tensor: Tensor) -> int:
        slot = len(self._slot_sizes)
        self._slot_sizes[slot] = tensor.numel()
        if differentiable(tensor):
            self._rounding = max(self._rounding, torch.finfo(tensor.dtype).eps)
        if edge is not None:
            self._slots[edge] = slot
        return slot

    def _discover(self, tensor: Tensor, node: Any) -> int | None:
        """Follow the autograd graph to traced values: a view of one, or an operation not shown."""
        region = Region.behind(node, self._slots.__contains__, self._apart)
        if not region.boundary:
            self._apart.update(region.nodes)
            return None
        base = tensor._base if tensor._is_view() else None
        if base is not None and not any(map(is_custom, region.nodes)):
            source = self.slot_of(base)
            places = view_places(tensor, base)
            if source is not None and places is not None:
                return self._append_view(tensor, base, source, places)
        refuse_wrong_nodes(region)
        name = self._shown.get(node)
        if name is None and not region.is_custom:
            self.hidden.append(region.name)
        name = name or region.name
        push = live_push(tensor, region, name)
        for leaf in leaves_behind(node, self._z.grad_fn):
            self._live[id(leaf)] = leaf
        slot = self._new_slot((node, tensor.output_nr), tensor)
        inputs = tuple(self._slots[edge] for edge in region.boundary)
        self._steps.append(Step(inputs, (), push, (slot,), name=name, live=True))
        return slot

    def _append_view(self, tensor: Tensor, base: Tensor, source: int, places: Tensor) -> int:
        shape = tensor.shape

        def push(_, tangents):
            flat = tangents[0].reshape(len(tangents[0]), -1)
            return (
                flat[:, places.flatten()].unflatten(1, shape)
                if shape.numel()
                else (flat.new_zeros(len(flat), *shape))
            )

        slot = self._new_slot(edge_of(tensor), tensor)
        self._steps.append(Step((source,), (), push, (slot,), name="view"))
        return slot

    # -- what steps read later ---------------------------------------------------------------

    def _capture(self, tensor: Tensor) -> int:
        index = self._captured_index.get(id(tensor))
        if index is None:
            index = len(self._captured)
            self._captured.append(tensor)
            self._versions.append(_version(tensor))
            self._captured_index[id(tensor)] = index
            self._reads(self._captured, index)
        return index

    def _reads(self, holder: list[Any], place: int) -> None:
        address = _address(holder[place])
        if address is not None:
            self._memory.setdefault(address, []).append((holder, place))

    def _preserve(self, target: Tensor) -> None:
        """Copy what is about to be overwritten, for the steps that read it later."""
        for holder, place in self._memory.pop(_address(target) or 0, ()):
            old = holder[place]
            with torch.enable_grad():  # a copy leads where the original does
                holder[place] = old.clone()
            if holder is self._captured:
                self._captured_index.pop(id(old), None)
                self._captured_index[id(holder[place])] = place
                self._versions[place] = _version(holder[place])
            self._reads(holder, place)

    # -- the mode ----------------------------------------------------------------------------

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if transforms_are_active():
            # A transform of torch.func wraps tensors: its result is found later.
            args, kwargs = bind(func, args, kwargs) if func in DECOMPOSITIONS else (args, kwargs)
            return DECOMPOSITIONS.get(func, func)(*args, **kwargs)
        name = name_of(func)
        if name == "__get__":
            return self._getter(func, args, kwargs)
        if name == "__set__":
            # Torch sets attributes while it holds the lock on a tensor's place in the graph, which
            # must not be asked for then.
            if getattr(getattr(func, "__self__", None), "__name__", "") == "data":
                self._preserve(args[0])
            return func(*args, **kwargs)
        keep_saved_tensors()
        if name in _QUERIES:
            return func(*args, **kwargs)
        if self._doubtful:
            self._refuse_doubtful(name, args, kwargs)
        write = write_of(func, name, args, kwargs)
        if write is not None:
            for target in write.targets:
                self._preserve(target)
        if not torch.is_grad_enabled() or not (self._reach(args) or self._reach(kwargs.values())):
            return func(*args, **kwargs)
        if write is None and name in _JUDGEMENTS and not is_foreign(func):
            return func(*args, **kwargs)
        if write is not None:
            return self._write(func, name, args, kwargs, write)
        if name == "__iter__":
            with self:
                return iter(args[0].unbind(0))
        return self._record(func, name, args, kwargs)

    def _getter(self, func, args, kwargs):
        out = func(*args, **kwargs)
        attribute = getattr(getattr(func, "__self__", None), "__name__", "")
        if attribute in _READERS and torch.is_grad_enabled() and self.is_traced(args[0]):
            return self._record(_READERS[attribute], attribute, args[:1], {}, out)
        return out

    def _record(self, func, name, args, kwargs, out=None, before=None):
        """Run a call, unless ``out`` is its result already, and append its step."""
        foreign = is_foreign(func)
        rule = None if foreign else self._rules.get(name)
        decomposition = DECOMPOSITIONS.get(func)
        if rule is None and decomposition is not None and func not in self._decomposing:
            return self._decompose(func, decomposition, args, kwargs)
        if before is None and (rule is None or name in RANDOM):
            before = self._random_state(func, args, kwargs)
        call = Call(func, name, *bind(func, args, kwargs), out, self.is_traced)
        if out is None:
            call.out = func(*args, **kwargs)
        outputs = [t for t in tensors_in(call.out) if self._is_new(t)]
        if not outputs:
            if name not in _NO_SLOPE:
                self._doubt(name, call.out)
            return call.out
        if name in _STEPWISE and not any(t.is_complex() for t in outputs):
            self._apart.update(t.grad_fn for t in outputs)
            return call.out
        if before is not None and (is_capturing() or before != before.again()):
            call.drawn = before if name in RANDOM or not is_capturing() else None
        step, general = None, False
        if rule is not None:
            try:
                if not call.args:
                    raise NoRuleError
                step = rule(call)
            except NoRuleError:
                if decomposition is not None and func not in self._decomposing:
                    return self._decompose(func, decomposition, args, kwargs)
                call.func, (call.args, call.kwargs) = func, bind(func, args, kwargs)
        if step is None and not foreign:
            step, general = self._general(call), True
        if step is None:
            self._shown.update((t.grad_fn, name) for t in outputs)
            return call.out  # by its own reverse mode, when its results are read
        # By default all results, though some of a linear map's may not move.
        moved = step.outputs or [t for t in tensors_in(call.out) if differentiable(t)]
        self._append(name, step, moved, general)
        for values in call.held or ():
            for place, value in enumerate(values):
                if isinstance(value, Tensor):
                    self._reads(values, place)
        return call.out

    def _random_state(self, func: Callable, args: tuple, kwargs: dict[str, Any]) -> RandomState:
        given = generators_in(args, kwargs)
        strange = is_foreign(func) or any(map(callable, (*args, *kwargs.values())))
        return RandomState.now(self._z.device, given, torch_alone=not strange)

    def _doubt(self, name: str, out: Any) -> None:
        """Remember floating results that torch cuts off from the graph, having no derivative."""
        for tensor in tensors_in(out):
            if differentiable(tensor) and not tensor.requires_grad:
                self._doubtful[id(tensor)] = (tensor, name)

    def _refuse_doubtful(self, name: str, args: Any, kwargs: Any) -> None:
        """Raise DerivativeError if a call computes with a result that has lost its derivative."""
        for tensor in tensors_in((args, kwargs)):
            if id(tensor) in self._doubtful and torch.is_grad_enabled():
                origin = self._doubtful[id(tensor)][1]
                raise DerivativeError(
                    f"torch has no derivative of '{origin}', whose result '{name}' reads: it would "
                    "count as a constant. If that is what is meant, detach() it"
                )

    def _is_new(self, value: Any) -> bool:
        """Whether a result is differentiable, and is not just handed through."""
        return (
            isinstance(value, Tensor)
            and value.grad_fn is not None
            and edge_of(value) not in self._slots
        )

    def _decompose(self, func, decomposition, args, kwargs):
        if func in KEEP_STATISTICS:
            with torch.no_grad():  # for what it does to its buffers
                func(*args, **kwargs)
        self._decomposing.add(func)
        try:
            args, kwargs = bind(func, args, kwargs)
            with self:
                return decomposition(*args, **kwargs)
        finally:
            self._decomposing.discard(func)

    def _append(
        self, name: str, step: Step[Tensor], outputs: Sequence[Tensor], general: bool = False
    ) -> None:
        inputs = tuple(self._slots[edge_of(tensor)] for tensor in step.inputs)  # type: ignore[index]
        captured = tuple(self._capture(tensor) for tensor in step.captured)
        batch = len(self._z)
        by_rows = step.by_rows and all(
            t.dim() > 0 and len(t) == batch for t in (*step.inputs, *outputs)
        )
        slots = tuple(self._new_slot(edge_of(tensor), tensor) for tensor in outputs)
        self._steps.append(
            Step(
                inputs,
                captured,
                step.push,
                slots,
                step.keep,
                step.overwrites,
                step.scale,
                step.is_identity,
                by_rows,
                name,
                general=general,
                is_complex=tuple(tensor.is_complex() for tensor in outputs),
            )
        )

    # -- writing in place --------------------------------------------------------------------

    def _write(self, func, name, args, kwargs, write: Write):
        target = write.targets[0]
        base = target._base if target._is_view() else None
        source = None if base is None else edge_of(base)
        if source is not None and source not in self._slots and source[0] not in self._apart:
            base = None  # inside another operation, where nobody sees it
        old = self._copies(target, (write.args, write.kwargs))
        before = self._random_state(func, args, kwargs)
        out = func(*args, **kwargs)
        if write.func is None or not self._is_new(target) or overlaps_itself(target):
            self._shown.update((t.grad_fn, name) for t in write.targets if self._is_new(t))
            return out  # what it did is found in the graph, if anything
        substitute = lambda value: old.get(id(value), value)  # noqa: E731
        plain_args = pytree.tree_map(substitute, write.args)
        plain_kwargs = pytree.tree_map(substitute, write.kwargs or {})
        result = self._record(
            write.func, name_of(write.func), plain_args, plain_kwargs, target, before
        )
        slot = self.slot_of(result)
        if result is not target and slot is not None:  # recorded by way of a decomposition
            self._slots[edge_of(target)] = slot  # type: ignore[index]
        if base is not None and slot is not None:
            self._write_through(target, base, self._slots.get(source) if source else None)
        return out

    def _copies(self, target: Tensor, arguments: Any) -> dict[int, Tensor]:
        """What of the arguments lies in the memory that is about to be overwritten, by id."""
        address = _address(target)
        copies: dict[int, Tensor] = {}
        for tensor in tensors_in(arguments):
            if id(tensor) in copies or (tensor is not target and _address(tensor) != address):
                continue
            slot = self.slot_of(tensor)
            copies[id(tensor)] = copy = tensor.clone()
            if slot is not None:
                self._slots[edge_of(copy)] = slot  # type: ignore[index]
        return copies

    def _write_through(self, view: Tensor, base: Tensor, source: int | None) -> None:
        """A view was written: so was its part of the base, whose rest is as it was."""
        places = view_places(view, base)
        edge = edge_of(base)
        if places is None or edge is None or edge in self._slots:
            return
        shape = base.shape
        inputs = (self._slots[edge_of(view)],)  # type: ignore[index]

        def push(_, tangents):
            part = tangents[0].reshape(len(tangents[0]), -1)
            whole = (
                tangents[1].reshape(len(part), -1)
                if source is not None
                else part.new_zeros(len(part), shape.numel())
            )
            return whole.index_copy(1, places.flatten(), part).unflatten(1, shape)

        slot = self._new_slot(edge, base)
        both = inputs if source is None else (*inputs, source)
        self._steps.append(Step(both, (), push, (slot,), name="write"))

    # -- the result --------------------------------------------------------------------------

    def program(self, outputs: Sequence[Tensor]) -> Program:
        """The tangent program of the traced function, whose results were ``outputs``."""
        if self._doubtful:
            self._refuse_doubtful("return", outputs, {})
        slots = [self.slot_of(output) for output in outputs]
        for index, (tensor, version) in enumerate(zip(self._captured, self._versions, strict=True)):
            if _version(tensor) != version:
                reader = next(step.name for step in self._steps if index in step.captured)
                raise DerivativeError(
                    f"a value of shape {tuple(tensor.shape)} that the derivative of '{reader}' "
                    "needs was written in place by an operation that torch functions do not show "
                    "(such as x.real = y); write into a clone() of it"
                )
        return Program(
            self._steps,
            self._captured,
            slots,
            [output.shape for output in outputs],
            self._slot_sizes,
            self.input_slot,
            live=[self._z, *self._live.values()] if self._live or self._has_live() else [],
            rounding=self._rounding,
            origins={slot: edge for edge, slot in self._slots.items()},
        )

    def _has_live(self) -> bool:
        return any(step.live for step in self._steps)


# Functions that draw random numbers and have a rule; those without one are watched.
RANDOM = frozenset(
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout "
    "rrelu native_dropout".split()
)


def transforms_are_active() -> bool:
    """Whether a transform of torch.func, or forward mode, is at work inside the function."""
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch.autograd.forward_ad._current_level >= 0
    )


def _address(tensor: Any) -> int | None:
    """Where the memory of a tensor begins, or None if it has none of its own."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (RuntimeError, NotImplementedError):
        return None  # a sparse tensor, or one that a transform of torch.func left behind


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version
