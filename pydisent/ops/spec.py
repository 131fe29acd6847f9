"""Specification of an op, in one place: its schema, arguments, costs and adjoint.

The names in the two schemas wire an op to its adjoint, so that neither the gradient nor the
adjoint's own samples, metadata and traffic are written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from pydisent.reference.dtypes import compute_dtype

#: Namespace of the ops in ``torch.ops``.
NAMESPACE = "pydisent"
BACKWARD = "_backward"
Grads = tuple[Tensor | None, ...]
#: ``backward(inputs, outputs, grads, needs) -> grads``, one per input. ``outputs`` has None for
#: outputs that are not saved; a None among the returned gradients means zero.
Backward = Callable[[tuple[Any, ...], tuple[Any, ...], Grads, tuple[bool, ...]], Grads]


class Draw:
    """Random arguments in one dtype, the same on every call for a device.

    Numbers are drawn in float64 and rounded, so every dtype gets the same ones.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        self.dtype, self.device = dtype, device
        self.generator = torch.Generator(device).manual_seed(0)

    def __call__(
        self, *shape: int, mean: float = 0.0, std: float = 1.0, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Draw normal numbers with the given mean and standard deviation."""
        x = torch.randn(shape, generator=self.generator, dtype=torch.float64, device=self.device)
        return x.mul_(std).add_(mean).to(dtype or self.dtype)

    def integers(self, below: int, *shape: int) -> Tensor:
        """Draw int64 numbers in [0, below)."""
        return torch.randint(below, shape, generator=self.generator, device=self.device)

    def normals(self, count: int, *shape: int) -> tuple[Tensor, ...]:
        """Draw several tensors of one shape."""
        return tuple(self(*shape) for _ in range(count))


@dataclass(frozen=True)
class Sizes:
    """Problem sizes of an op, as passed to its ``arguments`` after the draw.

    Attributes
    ----------
    axes
        Names of the numbers in a size, as in ``"B d"``; the batch is B, or the first if there is no
        B.
    samples
        Small sizes for the tests, including edge cases; the last entry may be a dict of keyword
        arguments.
    tiny, small, medium, large
        Sizes for the benchmarks: a smoke test, a typical training step, one that fills a few CPU
        cores, and one that fills a GPU.
    """

    axes: str
    samples: tuple[tuple[Any, ...], ...]
    tiny: tuple[int, ...]
    small: tuple[int, ...]
    medium: tuple[int, ...]
    large: tuple[int, ...]

    def label(self, name: str) -> str:
        """Readable label of a benchmark's size, as in ``B 64, d 10``."""
        return ", ".join(f"{a} {n}" for a, n in zip(self.axes.split(), getattr(self, name)))

    def enlarged(self, size: tuple[Any, ...], times: int) -> tuple[Any, ...]:
        """The size with its batch multiplied by ``times``."""
        axes = self.axes.split()
        batch = axes.index("B") if "B" in axes else 0
        return *size[:batch], times * size[batch], *size[batch + 1 :]


@dataclass(frozen=True)
class OpSpec:
    """Complete specification of one op; everything else is derived from it.

    Attributes
    ----------
    family
        Name of its file in ``csrc``, ``triton_kernels``, ``reference`` and ``ops``.
    name, schema
        The op is ``torch.ops.pydisent.<name>``; the schema has no default values, so that every
        kernel gets every argument.
    reference
        Pure PyTorch, differentiable in every mode: the fallback kernel and the tests' oracle.
    fake
        The outputs' metadata, for tracing.
    arguments, sizes
        ``arguments(draw, *size)`` makes a problem's arguments for one of ``sizes``.
    flops
        Floating-point operations of a call with given arguments.
    outputs
        Number of outputs that callers see; the others are saved for the backward pass.
    triton
        Whether the op's CUDA kernel is ``pydisent.triton_kernels.<family>.<name>``, which has the
        op's signature.
    core
        If not 0, kernels take and return tensors with one leading axis and this many non-empty axes
        after it. The op, and so its reference, accepts any number of leading axes.
    is_product
        Whether its arithmetic is matrix products, which matrix units can do.
    adjoint
        The op ``<name>_backward``, if there is one.
    backward
        The gradient where it is not a plain call of the adjoint. It is not called if exactly the
        cotangents that the adjoint takes are given and the first input needs a gradient.
    constants
        Tensor arguments that get no gradient, by definition.
    """

    family: str
    name: str
    schema: str
    reference: Callable[..., Any]
    fake: Callable[..., Any]
    arguments: Callable[..., tuple[Any, ...]]
    sizes: Sizes
    flops: Callable[..., int]
    outputs: int
    triton: bool = False
    core: int = 0
    is_product: bool = False
    adjoint: OpSpec | None = None
    backward: Backward | None = None
    constants: frozenset[str] = frozenset()

    @cached_property
    def _parsed(self) -> Any:
        return torch._C.parse_schema(f"{NAMESPACE}::{self.name}{self.schema}")

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the arguments."""
        return tuple(argument.name for argument in self._parsed.arguments)

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensor arguments, including optional ones."""
        return tuple(a.name for a in self._parsed.arguments if "Tensor" in str(a.type))

    @cached_property
    def returns(self) -> tuple[str, ...]:
        """Names of the outputs; an unnamed output takes the op's name."""
        return tuple(output.name or self.name for output in self._parsed.returns)

    @cached_property
    def written(self) -> tuple[str, ...]:
        """Names of the arguments that the op writes to; such an op has no gradient."""
        infos = ((a.name, a.alias_info) for a in self._parsed.arguments)
        return tuple(name for name, info in infos if info is not None and info.is_write)

    @cached_property
    def saves(self) -> tuple[int, ...]:
        """Indices of the outputs that the gradient reads."""
        if self.adjoint is None:
            return ()
        return tuple(i for i, name in enumerate(self.returns) if name in self.adjoint.inputs)

    def problem(self, draw: Draw, size: tuple[Any, ...]) -> tuple[Any, ...]:
        """Arguments of a problem of the given size."""
        *numbers, last = size
        if isinstance(last, dict):
            return self.arguments(draw, *numbers, **last)
        return self.arguments(draw, *size)

    def samples(
        self, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Any, ...]]:
        """Small arguments, including edge cases, the same in every dtype up to rounding."""
        draw = Draw(dtype, device)
        return (self.problem(draw, size) for size in self.sizes.samples)

    def bytes(self, *args: Any) -> int:
        """Least memory traffic: each tensor argument read once, each output written once."""
        tensors = [x for x in args if isinstance(x, Tensor)]
        if self.written:
            outputs = tuple(x for name, x in zip(self.inputs, args) if name in self.written)
        else:
            outputs = tuple_of(self.fake(*map(as_meta, args)))
        return sum(x.nbytes for x in (*tensors, *outputs))


def tuple_of(outputs: Any) -> tuple[Any, ...]:
    """An op's outputs as a tuple."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def as_meta(x: Any) -> Any:
    """A tensor as a meta tensor of the same shape, strides and dtype; anything else unchanged."""
    if not isinstance(x, Tensor):
        return x
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def like(x: Tensor, *shape: int) -> Tensor:
    """An uninitialised contiguous tensor in the dtype of x, by default of its shape."""
    return x.new_empty(shape or x.shape)


def computed(x: Tensor, *shape: int) -> Tensor:
    """An uninitialised contiguous tensor in the dtype of arithmetic on x."""
    return x.new_empty(shape, dtype=compute_dtype(x))


class Wiring:
    """Map, by name, from an op's cotangents, inputs and outputs to its adjoint's arguments.

    Arguments that are not named after an input or output are cotangents of the first outputs. The
    output ``grad_x`` is the gradient of the input x.
    """

    def __init__(self, spec: OpSpec, adjoint: OpSpec) -> None:
        known = (*spec.inputs, *spec.returns)
        cotangents = [name for name in adjoint.inputs if name not in known]
        self.cotangents, self.names = len(cotangents), cotangents
        gradients = [f"grad_{name}" for name in spec.inputs]
        if unknown := set(adjoint.returns) - set(gradients):
            raise ValueError(f"{adjoint.name}: {', '.join(unknown)} is the gradient of no input")
        offset = len(spec.returns)  # every output has a cotangent, read or not
        places = {name: offset + i for i, name in enumerate(known)}
        places |= {name: i for i, name in enumerate(cotangents)}
        self._pick = itemgetter(*(places[name] for name in adjoint.inputs))
        found = {name: i for i, name in enumerate(adjoint.returns)}
        self._order = [found.get(name, len(found)) for name in gradients]
        self._spread = itemgetter(*self._order)

    def arguments(self, grads: Any, inputs: Any, outputs: Any) -> tuple[Any, ...]:
        """The adjoint's arguments, given one cotangent per output."""
        return self._pick((*grads, *inputs, *outputs))

    def gradients(self, found: Any) -> Grads:
        """One gradient or None per input of the op, from the adjoint's outputs."""
        if type(found) is not tuple:
            found = (found,)
        spread = self._spread((*found, None))
        return spread if len(self._order) > 1 else (spread,)


def adjoint_of(
    spec: OpSpec,
    schema: str,
    reference: Callable[..., Any],
    flops: Callable[..., int],
    fake: Callable[..., Any] | None,
) -> OpSpec:
    """Spec of ``<name>_backward``; by default its outputs are contiguous, shaped as the inputs."""

    def arguments(draw: Draw, *size: Any, **options: Any) -> tuple[Any, ...]:
        given = spec.arguments(draw, *size, **options)
        outputs = tuple_of(spec.reference(*given))
        cotangents: list[Tensor | None] = [
            draw(*y.shape, dtype=y.dtype) for y in outputs[: wiring.cotangents]
        ]
        cotangents += [None] * (len(outputs) - len(cotangents))
        return wiring.arguments(cotangents, given, [y.contiguous() for y in outputs])

    def gradients_like_inputs(*args: Any) -> Any:
        named = dict(zip(adjoint.inputs, args))
        sources = [named[name.removeprefix("grad_")] for name in adjoint.returns]
        some = next(x for x in sources if x is not None)
        found = tuple(like(some, 0) if x is None else like(x) for x in sources)
        return found if len(found) > 1 else found[0]

    adjoint = replace(
        spec,
        name=spec.name + BACKWARD,
        schema=schema,
        reference=reference,
        fake=fake or gradients_like_inputs,
        arguments=arguments,
        flops=flops,
        backward=None,
    )
    wiring = Wiring(spec, adjoint)
    gradients = {name.removeprefix("grad_") for name in adjoint.returns}
    constants = frozenset(name for name in spec.tensors if name not in gradients)
    return replace(adjoint, outputs=len(adjoint.returns), constants=constants)
