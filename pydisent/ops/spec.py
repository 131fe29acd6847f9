"""What is said of an op, once: its schema, arguments, costs and adjoint.

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
#: ``backward(inputs, outputs, grads, needs) -> grads``, an entry for each input; ``outputs`` holds
#: those that are saved and None elsewhere; a gradient may be None for zero.
Backward = Callable[[tuple[Any, ...], tuple[Any, ...], Grads, tuple[bool, ...]], Grads]


class Draw:
    """Random arguments in one dtype, the same on every call for a device.

    Numbers are drawn in float64 and rounded: every dtype gets the same ones.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        self.dtype, self.device = dtype, device
        self.generator = torch.Generator(device).manual_seed(0)

    def __call__(
        self, *shape: int, mean: float = 0.0, std: float = 1.0, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Draw normal numbers of that mean and standard deviation."""
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
    """Sizes of an op's problems: what its ``arguments`` takes after the draw.

    Attributes
    ----------
    axes
        Names of the numbers in a size, as ``"B d"``; B is the batch, else the first of them.
    samples
        Small sizes for the tests, edge cases included; the last entry may be a dict of keyword
        arguments.
    tiny, small, medium, large
        Sizes for the benchmarks: one that only shows that it runs, that of a training step, one
        that fills a few CPU cores, and one that fills a GPU.
    """

    axes: str
    samples: tuple[tuple[Any, ...], ...]
    tiny: tuple[int, ...]
    small: tuple[int, ...]
    medium: tuple[int, ...]
    large: tuple[int, ...]

    def label(self, name: str) -> str:
        """A benchmark's size in words, as ``B 64, d 10``."""
        return ", ".join(f"{a} {n}" for a, n in zip(self.axes.split(), getattr(self, name)))

    def enlarged(self, size: tuple[Any, ...], times: int) -> tuple[Any, ...]:
        """The size with a batch that many times as large."""
        axes = self.axes.split()
        batch = axes.index("B") if "B" in axes else 0
        return *size[:batch], times * size[batch], *size[batch + 1 :]


@dataclass(frozen=True)
class OpSpec:
    """All there is to say about one op; everything else is derived.

    Attributes
    ----------
    family
        The file of that name in ``csrc``, ``triton_kernels``, ``reference`` and ``ops``.
    name, schema
        The op is ``torch.ops.pydisent.<name>``; the schema has no default values, so that every
        kernel gets every argument.
    reference
        Pure PyTorch, differentiable in every mode: the fallback kernel and the tests' oracle.
    fake
        The outputs' metadata, for tracing.
    arguments, sizes
        ``arguments(draw, *size)`` makes the arguments of a problem of one of ``sizes``.
    flops
        Arithmetic of a call with these arguments.
    outputs
        How many of the outputs callers see; the others are saved for the backward pass.
    triton
        Whether the op's kernel on CUDA is ``pydisent.triton_kernels.<family>.<name>``, which takes
        what the op takes and returns what it returns.
    core
        If not 0, all arguments and outputs are tensors with one leading axis and this many after
        it, none of these empty, and the op takes any number of leading axes; the reference has to
        as well.
    is_product
        Whether its arithmetic is that of matrix products, which matrix units can do.
    adjoint
        The op ``<name>_backward``, if there is one.
    backward
        The gradient where it is not a plain call of the adjoint: not asked where all cotangents
        that this takes are there, no others are, and the first input has a gradient.
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
        """Names of the arguments that are tensors, or may be."""
        return tuple(a.name for a in self._parsed.arguments if "Tensor" in str(a.type))

    @cached_property
    def returns(self) -> tuple[str, ...]:
        """Names of the outputs; one that has none is called as the op."""
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
        """Arguments of a problem of this size."""
        *numbers, last = size
        if isinstance(last, dict):
            return self.arguments(draw, *numbers, **last)
        return self.arguments(draw, *size)

    def samples(
        self, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Any, ...]]:
        """Small arguments, edge cases included, the same in every dtype up to rounding."""
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
    """Outputs of an op as a tuple."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def as_meta(x: Any) -> Any:
    """A tensor's shape, strides and dtype, without its data; anything else as it is."""
    if not isinstance(x, Tensor):
        return x
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def like(x: Tensor, *shape: int) -> Tensor:
    """An uninitialised contiguous result in the dtype of x, of its shape or of another."""
    return x.new_empty(shape or x.shape)


def computed(x: Tensor, *shape: int) -> Tensor:
    """An uninitialised contiguous result in the dtype that the arithmetic on x is done in."""
    return x.new_empty(shape, dtype=compute_dtype(x))


class Wiring:
    """Where an adjoint's arguments are among its op's cotangents, inputs and outputs: by name.

    Arguments of neither an input's nor an output's name are the cotangents of the first outputs.
    The output ``grad_x`` is the gradient of the input x.
    """

    def __init__(self, spec: OpSpec, adjoint: OpSpec) -> None:
        known = (*spec.inputs, *spec.returns)
        cotangents = [name for name in adjoint.inputs if name not in known]
        self.cotangents, self.names = len(cotangents), cotangents
        gradients = [f"grad_{name}" for name in spec.inputs]
        if unknown := set(adjoint.returns) - set(gradients):
            raise ValueError(f"{adjoint.name}: {', '.join(unknown)} is the gradient of no input")
        offset = len(spec.returns)  # each output has a cotangent, if not all are read
        places = {name: offset + i for i, name in enumerate(known)}
        places |= {name: i for i, name in enumerate(cotangents)}
        self._pick = itemgetter(*(places[name] for name in adjoint.inputs))
        found = {name: i for i, name in enumerate(adjoint.returns)}
        self._order = [found.get(name, len(found)) for name in gradients]
        self._spread = itemgetter(*self._order)

    def arguments(self, grads: Any, inputs: Any, outputs: Any) -> tuple[Any, ...]:
        """The adjoint's arguments, of as many cotangents as there are outputs."""
        return self._pick((*grads, *inputs, *outputs))

    def gradients(self, found: Any) -> Grads:
        """A gradient, or None, for each input of the op, of what the adjoint returned."""
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
    """The op ``<name>_backward``; by default its outputs are contiguous, shaped as the inputs."""

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
