"""Triton kernels as launched by the ops, recorded without a GPU."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

from pydisent.ops.registry import REGISTRY
from pydisent.ops.spec import Draw


class Shapes(Draw):
    """Tensors without data."""

    def __call__(self, *shape: int, dtype: torch.dtype | None = None, **_: Any) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype or self.dtype, device="meta")

    def integers(self, below: int, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.int64, device="meta")


def launches(family: str, dtype: torch.dtype, target: GPUTarget) -> Iterator[tuple[str, Any, dict]]:
    """Name, source and options of each kernel in a family's large problems, as specialised there.

    Specialisation is on strides, and on addresses and integers divisible by 16, which determine the
    width of memory accesses.
    """
    backend, found = make_backend(target), {}

    def record(kernel: JITFunction, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        bind = create_function_from_signature(kernel.signature, kernel.params, backend)
        parsed = kernel._pack_args(backend, options, *bind(*args, **options))
        _, signature, constants, attrs = parsed
        settings = {kernel.arg_names[place]: x for (place,), x in constants.items()}
        settings = {name: int(x) for name, x in settings.items() if name.isupper()}
        settings |= {name: x for name, x in options.items() if name not in kernel.arg_names}
        types = sorted({x[1:] for x in signature.values() if re.match(r"\*b?f", x)})
        told = [f"{setting}={x}" for setting, x in settings.items()]
        source = ASTSource(kernel, signature, constants, attrs)
        launch = {name: x for name, x in options.items() if name not in kernel.arg_names}
        found[" ".join([kernel.__name__, "/".join(types), *told])] = source, launch

    kernels = importlib.import_module(f"pydisent.triton_kernels.{family}")
    with mock.patch.object(JITFunction, "run", record):
        for name, op in REGISTRY.items():
            if op.spec.family == family and op.spec.triton:
                getattr(kernels, name)(*op.spec.problem(Shapes(dtype), op.spec.sizes.large))
    for name, (source, launch) in found.items():
        yield name, source, launch
