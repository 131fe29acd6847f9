"""Problems for measuring each op, and the minimum bytes and operations of a call.

Sizes and counts are the ops' own (``OpSpec.sizes``, ``bytes`` and ``flops``): each input read once
and each output written once, and the arithmetic of the formula. Bytes at the rate of a copy and
operations at that of a matrix product give two times; no version of an op is faster than the longer
one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pydisent.ops.registry import REGISTRY
from pydisent.ops.spec import BACKWARD, Draw, OpSpec, Wiring, as_meta, tuple_of

CUDA = Path(__file__).parents[1] / "csrc" / "cuda"
#: Ops measured by themselves; adjoints are measured with the op that they belong to.
OPS = [name for name in REGISTRY if not name.endswith(BACKWARD)]


def is_torchs_own(name: str) -> bool:
    """Whether the op has no kernel of ours on GPUs, according to the sources, not the build."""
    spec = REGISTRY[name].spec
    return not spec.triton and not (CUDA / f"{spec.family}.cu").exists()


def floor(moved: int, done: int, top: dict[str, float], dtype: str) -> tuple[float, str]:
    """Minimum seconds under the measured ceilings, and the bound: bytes or operations."""
    floors = {
        "bytes": moved / top["copy_gb_s"] / 1e9,
        "operations": done / top[f"{dtype}_tflop_s"] / 1e12,
    }
    bound = max(floors, key=lambda what: floors[what])
    return floors[bound], bound


def gradient_leaves(spec: OpSpec, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments, with those that have a gradient as leaves that require it."""
    return tuple(
        x.detach().requires_grad_()
        if isinstance(x, Tensor) and x.is_floating_point() and n not in spec.constants
        else x
        for n, x in zip(spec.inputs, args)
    )


def problem(name: str, size: str, dtype: torch.dtype, device: str) -> tuple[Any, ...]:
    """Arguments of an op at one of its sizes."""
    spec = REGISTRY[name].spec
    args = spec.problem(Draw(dtype, device), getattr(spec.sizes, size))
    return gradient_leaves(spec, args)


def work(name: str, args: tuple[Any, ...], backward: bool = False) -> tuple[int, int]:
    """Bytes and operations of a forward pass, or of forward and backward."""
    spec = REGISTRY[name].spec
    moved, done = spec.bytes(*args), spec.flops(*args)
    if not backward:
        return moved, done
    if spec.adjoint is None:  # two products of the same size, by torch
        return 3 * moved, 3 * done
    meta = tuple(map(as_meta, args))
    outputs = tuple_of(spec.fake(*meta))
    wiring = Wiring(spec, spec.adjoint)
    given = wiring.arguments(outputs, meta, outputs)  # a cotangent is like its output
    return moved + spec.adjoint.bytes(*given), done + spec.adjoint.flops(*given)
