"""A stand-in for a GPU: tensors that are said to be there, and errors where they meet others."""

from contextlib import contextmanager

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

OTHER = torch.device("cuda", 0)
# What may take tensors of both devices, by PyTorch's own rules.
_CROSSING = ("copy_", "_to_copy", "set_", "lift_fresh", "_local_scalar_dense")
_INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")

_there: dict[int, StorageWeakRef] = {}


def _key(tensor):
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None


def is_there(tensor):
    with torch._C.DisableTorchFunction():
        storage = _key(tensor)
    return storage is not None and storage._cdata in _there


def _place(tensor, there):
    with torch._C.DisableTorchFunction():
        storage = _key(tensor)
    if storage is None:
        return tensor
    if there:
        # A weak reference keeps the address from being used again.
        _there[storage._cdata] = StorageWeakRef(storage)
    else:
        _there.pop(storage._cdata, None)
    return tensor


def _moved(tensor, result, there):
    """The result of a move: with memory of its own if it changes sides."""
    if is_there(tensor) != there and _key(result)._cdata == _key(tensor)._cdata:
        result = result.clone()
    return _place(result, there)


def _is_other(device):
    return device is not None and torch.device(device).type == "cuda"


class _Names(TorchFunctionMode):
    """Reads what is said of devices, and says which tensors are where."""

    def __init__(self, operations):
        super().__init__()
        self.operations = operations

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func == Tensor.device.__get__:
            return OTHER if is_there(args[0]) else func(*args)
        if func == Tensor.is_cuda.__get__:
            return is_there(args[0])
        if func in (Tensor.numpy, Tensor.__array__) and is_there(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func is Tensor.cpu:
            return _moved(args[0], func(*args, **kwargs), False)
        if func is Tensor.to:
            return self._to(func, args, kwargs)
        device = kwargs.get("device")
        if device is not None and torch.device(device).type in ("cpu", "cuda"):
            there = _is_other(device)
            made = func(*args, **kwargs | {"device": "cpu"})
            return _place(made, there) if isinstance(made, Tensor) else made
        # What PyTorch makes within a function is where the function's tensors are.
        given = (t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
        self.operations.makes_there = any(map(is_there, given))
        try:
            return func(*args, **kwargs)
        finally:
            self.operations.makes_there = False

    def _to(self, func, args, kwargs):
        tensor, *rest = args
        target = kwargs.get("device")
        for number, word in enumerate(rest):
            if isinstance(word, Tensor):
                target = OTHER if is_there(word) else "cpu"
                rest[number] = word.dtype
            elif isinstance(word, (str, torch.device)):
                target, rest[number] = word, "cpu"
        if kwargs.get("device") is not None:
            kwargs["device"] = "cpu"
        there = is_there(tensor) if target is None else _is_other(target)
        return _moved(tensor, func(tensor, *rest, **kwargs), there)


class _Operations(TorchDispatchMode):
    """Fails where an operation takes tensors of both sides; its results are where those are."""

    makes_there = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        name = func._schema.name.split("::")[-1]
        if name not in _CROSSING and len(given) > 1:
            counted = given[:1] if name in _INDEXING and is_there(given[0]) else given
            if len({is_there(t) for t in counted if t.ndim}) > 1:
                raise AssertionError(f"{func} takes tensors of both devices")
        result = func(*args, **kwargs)
        there = any(map(is_there, given)) if given else self.makes_there
        if there and name not in _CROSSING:
            for made in tree_leaves(result):
                if isinstance(made, Tensor):
                    _place(made, True)
        return result


@contextmanager
def without_it():
    """A context in which nothing is watched, and there is no other device."""
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        yield


@contextmanager
def other_device():
    """A context in which tensors may be on `OTHER`, which is the CPU in truth."""
    try:
        with _Operations() as operations, _Names(operations):
            yield OTHER
    finally:
        _there.clear()
