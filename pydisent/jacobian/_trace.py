"""Tracing: run a function once and record what each of its operations does to a tangent.

The function runs for real, on ordinary tensors, under a ``TorchFunctionMode`` that sees every
torch call. So Python control flow, closures, parametrisations, hooks and shapes work as they
do in eager mode, and nothing of the caller's is patched. A value that reaches the result by a way
that the mode cannot see (a custom ``autograd.Function``, TorchScript) is found through the
autograd graph and raises ``UntraceableError``, never a silently wrong derivative.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from pydisent.jacobian._function import save_random_state
from pydisent.jacobian._node import Node, Push, Scale
from pydisent.jacobian._program import Program
from pydisent.jacobian.decompositions import KEEP_STATISTICS


class UntraceableError(RuntimeError):
    """The function does something whose derivative the tracer cannot follow."""


class NoRuleError(Exception):
    """A rule does not cover the arguments at hand; the general one takes over."""


@dataclass(slots=True)
class Call:
    """One torch call that touches a traced value, as the tangent rules see it."""

    func: Callable
    name: str
    args: tuple
    kwargs: dict[str, Any]
    out: Any
    is_traced: Callable[[Any], bool]
    random_state: Any = None  # from before a random call

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """The argument given at ``position`` or by ``name``."""
        if len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(name, default)


@dataclass(slots=True)
class Step:
    """What a rule returns: the traced tensors read, the others captured, and the linear map."""

    inputs: Sequence[Tensor]
    captured: Sequence[Tensor]
    push: Push
    outputs: Sequence[Tensor] | None = None
    keep: bool = False
    overwrites: Push | None = None
    scale: Scale | None = None
    is_identity: bool = False


Rule = Callable[[Call], Step]

# Calls that return the value of a traced tensor as something that autograd treats as constant.
_CONSTANT = frozenset(
    "detach item tolist numpy __bool__ __float__ __int__ __len__ __index__ __repr__ __format__ "
    "__contains__ __hash__ __array__ is_floating_point is_complex size stride dim numel "
    "nelement ndimension element_size storage_offset untyped_storage storage data_ptr "
    "get_device is_contiguous is_nonzero is_same_size is_inference is_pinned is_set_to "
    "is_shared is_signed zeros_like ones_like empty_like full_like rand_like randn_like "
    "randint_like new_zeros new_ones new_full new_empty new_tensor bernoulli multinomial argmax "
    "argmin argsort searchsorted bucketize round floor ceil trunc sign sgn isnan isinf isfinite "
    "allclose equal".split()
)
# In-place methods that change no value.
_HARMLESS = frozenset("requires_grad_ retain_grad share_memory_ rename_ align_as".split())
_GETTERS_WITH_TANGENT = frozenset("T mT H mH real imag".split())


class Tracer(TorchFunctionMode):
    """Records a tangent program while a function runs."""

    def __init__(
        self,
        z: Tensor,
        rules: dict[str, Rule],
        general: Rule,
        decompositions: dict[Callable, Callable],
    ) -> None:
        super().__init__()
        self._rules = rules
        self._general = general
        self._decompositions = decompositions
        self._nodes: list[Node] = []
        self._captured: list[Tensor] = []
        self._versions: list[int] = []
        self._captured_index: dict[int, int] = {}
        self._slots: dict[int, int] = {}
        self._constants: set[int] = set()
        self._stale: set[int] = set()
        self._origins: dict[int, tuple[Tensor, Any]] = {}  # of h[index]: h and index
        self._alive: list[Tensor] = []  # an id is only a name while its tensor lives
        self._slot_sizes: dict[int, int] = {}
        self._dependence = _Dependence(z)
        self.input_slot = self._new_slot(z)

    # -- bookkeeping -------------------------------------------------------------------------

    def _new_slot(self, tensor: Tensor) -> int:
        slot = len(self._slot_sizes)
        self._slot_sizes[slot] = tensor.numel()
        self._slots[id(tensor)] = slot
        self._alive.append(tensor)
        return slot

    def is_traced(self, value: Any) -> bool:
        """Whether ``value`` is a tensor that depends on the traced input."""
        return isinstance(value, Tensor) and id(value) in self._slots

    def _capture(self, tensor: Tensor) -> int:
        index = self._captured_index.get(id(tensor))
        if index is None:
            index = len(self._captured)
            self._captured.append(tensor)
            self._versions.append(tensor._version)
            self._captured_index[id(tensor)] = index
            self._alive.append(tensor)
        return index

    def _note_constants(self, out: Any) -> None:
        for leaf in pytree.tree_leaves(out):
            if isinstance(leaf, Tensor) and id(leaf) not in self._slots:
                self._constants.add(id(leaf))
                self._alive.append(leaf)

    def _check_constants(self, leaves: Sequence[Any], name: str) -> None:
        for leaf in leaves:
            if (
                isinstance(leaf, Tensor)
                and leaf.grad_fn is not None
                and id(leaf) not in self._slots
                and id(leaf) not in self._constants
            ):
                if self._dependence.reaches(leaf):
                    raise UntraceableError(
                        f"an input of '{name}' depends on z through an operation that torch "
                        "functions do not show (a custom autograd.Function or TorchScript)"
                    )
                self._constants.add(id(leaf))
                self._alive.append(leaf)

    # -- the mode ----------------------------------------------------------------------------

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        leaves = pytree.tree_leaves((args, kwargs))
        traced = [leaf for leaf in leaves if self.is_traced(leaf)]
        self._check_constants(leaves, name)
        if name == "__get__":
            return self._getter(func, args, kwargs, traced)
        if not traced or name in _HARMLESS:
            out = func(*args, **kwargs)
            self._note_constants(out)
            return out
        if name in _CONSTANT or not torch.is_grad_enabled():
            if name.endswith("_") and not name.endswith("__"):
                raise UntraceableError(f"'{name}' writes into a traced value without gradient")
            out = func(*args, **kwargs)
            self._note_constants(out)
            return out
        if any(id(tensor) in self._stale for tensor in traced):
            raise UntraceableError(f"'{name}' reads a view whose memory was written in place")
        if kwargs.get("out") is not None:
            raise UntraceableError(f"'{name}' writes a traced value through out=")
        if name == "__setitem__":
            return self._set_item(func, args)
        if name == "__iter__":
            with self:
                return iter(args[0].unbind(0))
        plain = _in_place_form(func, name, args, kwargs)
        if plain is not None:
            return self._in_place(func, args, kwargs, *plain)
        out = self._record(func, name, args, kwargs)
        if name == "__getitem__" and out._is_view() and not args[0]._is_view():
            self._origins[id(out)] = args
        return out

    def _getter(self, func, args, kwargs, traced):
        out = func(*args, **kwargs)
        attribute = getattr(getattr(func, "__self__", None), "__name__", "")
        if traced and attribute in _GETTERS_WITH_TANGENT and torch.is_grad_enabled():
            read = lambda tensor: getattr(tensor, attribute)  # noqa: E731
            return self._record(read, "getattr", args[:1], {}, out)
        self._note_constants(out)
        return out

    def _record(self, func, name, args, kwargs, out=None):
        decomposition = self._decompositions.get(func)
        rule = self._rules.get(name)
        if rule is None and decomposition is not None:
            if func in KEEP_STATISTICS:
                with torch.no_grad():  # for what it does to its buffers
                    func(*args, **kwargs)
            with self:
                return decomposition(*args, **kwargs)
        call = Call(func, name, args, kwargs, out, self.is_traced)
        if name in RANDOM:
            call.random_state = save_random_state(args[0])
        if out is None:
            call.out = func(*args, **kwargs)
        try:
            step = (rule or self._general)(call)
        except NoRuleError:
            if decomposition is not None:
                with self:
                    return decomposition(*args, **kwargs)
            step = self._general(call)
        self._append(name, call.out, step)
        return call.out

    def _append(self, name: str, out: Any, step: Step) -> None:
        leaves = pytree.tree_leaves(out)
        self._note_constants([leaf for leaf in leaves if not differentiable(leaf)])
        outputs = step.outputs
        if outputs is None:
            outputs = [leaf for leaf in leaves if differentiable(leaf)]
        if not outputs:
            return
        inputs = tuple(self._slots[id(tensor)] for tensor in step.inputs)
        captured = tuple(self._capture(tensor) for tensor in step.captured)
        slots = tuple(self._new_slot(tensor) for tensor in outputs)
        self._nodes.append(
            Node(
                name,
                step.push,
                inputs,
                captured,
                slots,
                step.keep,
                step.overwrites,
                step.scale,
                step.is_identity,
            )
        )

    # -- writing in place --------------------------------------------------------------------

    def _sharing(self, target: Tensor) -> list[Tensor]:
        address = target.untyped_storage().data_ptr()
        return [t for t in self._alive if t.untyped_storage().data_ptr() == address]

    def _preserve(self, target: Tensor, name: str) -> Tensor:
        """Copy what is about to be overwritten, for the steps that captured it."""
        if not self.is_traced(target) and target._is_view():
            raise UntraceableError(f"'{name}' writes a traced value through a view")
        old = target.clone()
        if id(target) in self._slots:
            self._slots[id(old)] = self._slots.pop(id(target))
        for tensor in self._sharing(target):
            index = self._captured_index.pop(id(tensor), None)
            if index is not None:
                self._captured[index] = old if tensor is target else tensor.clone()
                self._captured_index[id(self._captured[index])] = index
                self._versions[index] = self._captured[index]._version
                self._alive.append(self._captured[index])
        self._alive.append(old)
        return old

    def _written(self, target: Tensor) -> None:
        """Other names of the memory hold a value that the recorded steps no longer describe."""
        for tensor in self._sharing(target):
            self._constants.discard(id(tensor))
            if tensor is not target and id(tensor) in self._slots:
                self._stale.add(id(tensor))

    def _in_place(self, func, args, kwargs, plain, plain_args, plain_kwargs):
        target = args[0]
        origin = self._origins.get(id(target))
        if origin is not None:
            base, index = origin
            whole = base.clone()
            self._slots[id(whole)] = self._slots[id(base)]
        old = self._preserve(target, _name(func))
        out = func(*args, **kwargs)
        self._written(target)
        plain_args = tuple(old if argument is target else argument for argument in plain_args)
        result = self._record(plain, _name(plain), plain_args, plain_kwargs, target)
        if result is not target:  # recorded by way of a decomposition
            self._slots[id(target)] = self._slots[id(result)]
        if origin is not None:  # writing into h[index] is an assignment to h
            self._alive.append(whole)
            self._record(set_item, "set_item", (whole, index, target), {}, base)
            self._stale.discard(id(base))
        return out

    def _set_item(self, func, args):
        target, index, value = args
        old = self._preserve(target, "an assignment")
        func(*args)
        self._written(target)
        self._record(set_item, "set_item", (old, index, value), {}, target)

    # -- the result --------------------------------------------------------------------------

    def program(self, outputs: Sequence[Tensor]) -> Program:
        """The tangent program of the traced function, whose results were ``outputs``."""
        if any(t._version != v for t, v in zip(self._captured, self._versions, strict=True)):
            raise UntraceableError("a value that the derivative needs was written in place")
        slots: list[int | None] = []
        for output in outputs:
            if id(output) in self._stale:
                raise UntraceableError("the result is a view whose memory was written in place")
            slot = self._slots.get(id(output))
            if slot is None and self._dependence.reaches(output):
                raise UntraceableError(
                    "the result depends on z through an operation that torch functions do not show"
                )
            slots.append(slot)
        return Program(
            self._nodes,
            self._captured,
            slots,
            [output.shape for output in outputs],
            self._slot_sizes,
            self.input_slot,
        )


def set_item(target: Tensor, index: Any, value: Any) -> Tensor:
    """``target`` with ``target[index] = value``, out of place."""
    result = target.clone()
    result[index] = value
    return result


def differentiable(value: Any) -> bool:
    """Whether a result can carry a tangent."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def _name(func: Callable) -> str:
    return getattr(func, "__name__", "")


# Functions that draw random numbers; their rules see the state from before the draw.
RANDOM = frozenset(
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout "
    "rrelu native_dropout".split()
)
_WITH_INPLACE = RANDOM | frozenset(
    "relu leaky_relu elu hardtanh silu mish threshold celu selu hardswish hardsigmoid relu6".split()
)


def _in_place_form(func, name, args, kwargs):
    """The out-of-place function that an in-place call stands for, or None if it is not one."""
    if name.startswith("__i") and name.endswith("__") and hasattr(Tensor, "__" + name[3:]):
        return getattr(Tensor, "__" + name[3:]), args, kwargs
    if name.endswith("_") and not name.startswith("_"):
        plain = getattr(Tensor, name[:-1], None) or getattr(torch, name[:-1], None)
        if plain is None:
            raise UntraceableError(f"'{name}' writes into a traced value")
        return plain, args, kwargs
    if name in _WITH_INPLACE:
        if kwargs.get("inplace", False):
            return func, args, {key: v for key, v in kwargs.items() if key != "inplace"}
        position = _inplace_position(func)
        if 0 < position < len(args) and args[position]:
            return func, (*args[:position], False, *args[position + 1 :]), kwargs
    return None


@functools.cache
def _inplace_position(func: Callable) -> int:
    try:
        return list(inspect.signature(func).parameters).index("inplace")
    except (TypeError, ValueError):
        return -1


@dataclass
class _Dependence:
    """Answers from the autograd graph whether a tensor was computed from z."""

    z: Tensor
    _negative: set[Any] = field(default_factory=set)

    def reaches(self, tensor: Tensor) -> bool:
        if tensor.grad_fn is None:
            return False
        target = torch.autograd.graph.get_gradient_edge(self.z).node
        pending: list[Any] = [tensor.grad_fn]
        seen: set[Any] = set()
        while pending:
            node = pending.pop()
            if node is None or node in seen or node in self._negative:
                continue
            if node == target:
                return True
            seen.add(node)
            pending.extend(parent for parent, _ in node.next_functions)
        self._negative.update(seen)
        return False
