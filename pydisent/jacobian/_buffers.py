"""Calls of modules that leave their buffers unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def spare_buffers(*callables: Any) -> Iterator[None]:
    """Give modules, and those whose methods are passed, temporary copies of their buffers.

    A call may write into the copies, as it does for running statistics and power iterations, or
    replace them; afterwards the modules have their original tensors back, unchanged.
    """
    spares: dict[int, Tensor] = {}
    before: dict[nn.Module, dict[str, Tensor | None]] = {}
    for part in callables:
        owner = getattr(part, "__self__", part)
        for module in owner.modules() if isinstance(owner, nn.Module) else ():
            if module._buffers and not isinstance(module, torch.jit.ScriptModule):
                before.setdefault(module, dict(module._buffers))
    try:
        for module, buffers in before.items():
            for name, buffer in buffers.items():
                if buffer is not None:
                    spare = spares.setdefault(id(buffer), buffer.detach().clone())
                    module._buffers[name] = spare
        yield
    finally:
        for module, buffers in before.items():
            module._buffers.clear()
            module._buffers.update(buffers)
