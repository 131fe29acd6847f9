"""The torch operations that a function applies to values that depend on z, and their arguments."""

from __future__ import annotations

import contextlib
import linecache
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from pydisent.jacobian._call import differentiable, generators_in, is_foreign, name_of
from pydisent.jacobian._draws import RandomState
from pydisent.jacobian._modes import transforms_are_active
from pydisent.jacobian._names import QUERIES, READERS
from pydisent.jacobian._writes import write_of
from pydisent.jacobian.diagnosis._operation import Operation, floating

_APPLY = torch.autograd.Function.apply.__func__.__code__  # type: ignore[attr-defined]
_OWN = (str(Path(torch.__file__).parent), str(Path(__file__).parents[2]))


class Recorder(TorchFunctionMode):
    """Records, while a function runs, each differentiable operation on a value that depends on z.

    Equal calls are recorded once and counted: calls of the same function, with tensors of the same
    shapes and dtypes and equal other arguments.

    Parameters
    ----------
    z
        The input, which requires a gradient and is not a leaf.
    names
        Names of the modules of a model in which operations may be called, by their ``id``.
    """

    def __init__(self, z: Tensor, names: dict[int, str]) -> None:
        super().__init__()
        assert z.grad_fn is not None
        self._reached: dict[Any, bool] = {z.grad_fn: True}
        self._names = names
        self._device = z.device
        self.operations: dict[Any, Operation] = {}
        self.in_transforms = False
        self.inside = False
        """Whether a recorded operation is running; operations called inside it are part of it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if transforms_are_active():
            self.in_transforms = True
            return func(*args, **kwargs)
        name = name_of(func)
        if name == "__get__":
            attribute = getattr(getattr(func, "__self__", None), "__name__", "")
            if attribute not in READERS:
                return func(*args, **kwargs)
            func, name = READERS[attribute], attribute
        if name == "__set__" or name in QUERIES or not self.moves((args, kwargs)):
            return func(*args, **kwargs)
        call = self.begin(func, name, args, kwargs)
        self.inside = True
        try:
            out = func(*args, **kwargs)
        finally:
            self.inside = False
        self.end(call, out)
        return out

    def moves(self, arguments: Any) -> bool:
        """Whether any of the arguments depends on z."""
        return torch.is_grad_enabled() and any(
            t.grad_fn is not None and self._reaches(t.grad_fn)
            for t in pytree.tree_leaves(arguments)
            if isinstance(t, Tensor)
        )

    def _reaches(self, node: Any) -> bool:
        """Whether a node of the autograd graph depends on z; each node is visited once."""
        pending = [node]
        while pending:
            at = pending[-1]
            if at in self._reached:
                pending.pop()
                continue
            parents = [parent for parent, _ in at.next_functions if parent is not None]
            unknown = [parent for parent in parents if parent not in self._reached]
            if unknown:
                pending += unknown
                continue
            self._reached[at] = any(self._reached[parent] for parent in parents)
            pending.pop()
        return self._reached[node]

    def begin(self, func: Callable, name: str, args: tuple, kwargs: dict) -> _Begun:
        """Note a call before it runs, with copies of its arguments if it is of a new kind."""
        leaves, spec = pytree.tree_flatten((args, kwargs))
        first = {id(leaf): i for i, leaf in reversed(list(enumerate(leaves)))}
        key = (func, repr(spec), *((_key(leaf), first[id(leaf)]) for leaf in leaves))
        if key in self.operations:
            return _Begun(key, self.operations[key], [])
        write = write_of(func, name, args, kwargs)
        target = None
        if write is not None:
            places = [i for i, leaf in enumerate(leaves) if leaf is write.targets[0]]
            target = places[0] if places else None
        drawn = RandomState.now(
            self._device, generators_in(args, kwargs), torch_alone=not is_foreign(func)
        )
        copies = [leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        moving: dict[int, list[int]] = {}
        for i, leaf in enumerate(leaves):
            if differentiable(leaf) and leaf.requires_grad:
                moving.setdefault(id(leaf), []).append(i)
        aliases = list(moving.values())
        operation = Operation(func, name, copies, spec, aliases, target, self._place(), drawn)
        return _Begun(key, operation, [leaves[target]] if target is not None else [])

    def end(self, call: _Begun, out: Any) -> None:
        """Count a call that has run, if it has a derivative."""
        operation = call.operation
        if call.key in self.operations:
            operation.count += 1
            return
        results = call.written or floating(out)
        operation.outputs = [i for i, t in enumerate(results) if t.requires_grad]
        if operation.outputs:
            if operation.drawn is not None and operation.drawn == operation.drawn.again():
                operation.drawn = None
            self.operations[call.key] = operation

    def _place(self) -> str:
        """The part of the model, and the line of the user's code, that calls an operation."""
        frame: FrameType | None = sys._getframe(2)
        part = ""
        while frame is not None:
            file = frame.f_code.co_filename
            owner = frame.f_locals.get("self")
            if not part and isinstance(owner, nn.Module) and id(owner) in self._names:
                part = f"{self._names[id(owner)]} ({type(owner).__name__})"
            if not file.startswith(_OWN) and not file.startswith("<frozen"):
                break
            if file == __file__ and frame.f_code.co_name == "run":
                frame = None
                break
            frame = frame.f_back
        line = ""
        if frame is not None:
            line = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
            text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            line += f": {text[:60]}" if text else ""
        return ", ".join(filter(None, (part, line)))

    def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run ``fn`` while recording."""
        with self, _CustomFunctions(self):
            return fn(*args, **kwargs)


@dataclass
class _Begun:
    key: Any
    operation: Operation
    written: Sequence[Tensor]


class _CustomFunctions(contextlib.AbstractContextManager[None]):
    """Shows a recorder the calls of ``autograd.Function.apply``, which no mode sees.

    Python's profiler sees them without patching the caller's objects.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._calls: dict[FrameType, _Begun] = {}
        self._before: Any = None

    def __enter__(self) -> None:
        self._before = sys.getprofile()
        sys.setprofile(self._event)

    def __exit__(self, *error: Any) -> None:
        sys.setprofile(self._before)

    def _event(self, frame: FrameType, event: str, result: Any) -> None:
        if self._before is not None:
            self._before(frame, event, result)
        recorder = self._recorder
        if frame.f_code is not _APPLY or recorder.inside or transforms_are_active():
            return
        with torch._C.DisableTorchFunction():
            if event == "call":
                cls, args, kwargs = (frame.f_locals[n] for n in ("cls", "args", "kwargs"))
                if recorder.moves((args, kwargs)):
                    begun = recorder.begin(cls.apply, cls.__qualname__, args, kwargs)
                    self._calls[frame] = begun
            elif event == "return" and frame in self._calls:
                recorder.end(self._calls.pop(frame), result)


def _key(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.dtype, tuple(leaf.shape), leaf.requires_grad, str(leaf.device)
    return type(leaf), repr(leaf)
