"""CUDA graphs on a CPU: what a step dispatches is recorded, and replayed on the same tensors."""

import sys
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

#: What a graph cannot hold, as it waits for the device or takes values from the host.
REFUSED = frozenset(
    "_local_scalar_dense nonzero masked_select _linalg_eigh linalg_qr lift_fresh equal".split()
)


class Tape(TorchDispatchMode):
    """A stand-in for ``torch.cuda.CUDAGraph``."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[1]
        assert name not in REFUSED, name
        out = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, out))
        return out

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, out in self.calls:
            new = func(*args, **kwargs)
            read = {_memory(x) for x in _tensors((args, kwargs))}
            for old, value in zip(_tensors(out), _tensors(new), strict=True):
                if _memory(old) not in read:  # neither a view nor written in place
                    old.copy_(value)


def _tensors(tree):
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _memory(tensor):
    return tensor.untyped_storage().data_ptr() or id(tensor)


def pretend(monkeypatch, system):
    """Make graphs of steps of ``system``, on the CPU, possible; capture leaves it as it was."""
    capturing = []

    @contextmanager
    def graph(tape, **_):
        optimizers = system.optimizers.values()
        kept = [*system.state_dict().values(), *_tensors([o.state_dict() for o in optimizers])]
        before, drawn = [x.clone() for x in kept], torch.get_rng_state()
        capturing.append(True)
        with tape:
            yield
        capturing.pop()
        torch.set_rng_state(drawn)
        for tensor, value in zip(kept, before):
            tensor.copy_(value)

    stream = SimpleNamespace(wait_stream=lambda _: None)
    fakes = {
        "Stream": lambda _: stream,
        "current_stream": lambda: stream,
        "stream": lambda _: nullcontext(),
        "CUDAGraph": Tape,
        "graph": graph,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr("pydisent.training.graphs._check_device", lambda _: None)
    for name, module in list(sys.modules.items()):
        if name.startswith("pydisent.jacobian.") and hasattr(module, "is_capturing"):
            monkeypatch.setattr(module, "is_capturing", lambda: bool(capturing))
