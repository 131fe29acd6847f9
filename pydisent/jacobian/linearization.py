"""``linearize``: products with the Jacobian of any function of a batch of latent codes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pydisent.jacobian._capture import is_capturing
from pydisent.jacobian._eager import run_eagerly
from pydisent.jacobian._function import (
    FunctionDerivative,
    output_tensors,
    restore_random_state,
    save_random_state,
)
from pydisent.jacobian._program import Program
from pydisent.jacobian._trace import Tracer, UntraceableError
from pydisent.jacobian.decompositions import DECOMPOSITIONS
from pydisent.jacobian.rules import RULES, general

MEMORY_BUDGET = 256 * 2**20
"""Bytes that the tangents of one chunk may take at once."""

JACOBIAN_BUDGET = 4 * MEMORY_BUDGET
"""Bytes past which the Jacobian is not kept whole; its Gram matrix then costs a reverse pass."""

_ROWS = 256
"""Rows (tangents times batch) past which a larger chunk only costs memory."""


@run_eagerly
def linearize(
    fn: Callable[..., Any],
    z: Tensor,
    *args: Any,
    compute_dtype: torch.dtype | None = None,
    chunk: int | None = None,
    **kwargs: Any,
) -> Linearization:
    """Linearise ``fn`` at each of the B latent codes ``z``: one trace, then products at will.

    Parameters
    ----------
    fn
        Any callable of a (B, m) tensor that returns a tensor (B, ...) or a list of such tensors,
        each sample's output depending on its own code alone. It is called once, with its side
        effects; random draws (dropout, noise) are those of that call for every product.
    z
        Latent codes, (B, m), floating point.
    args, kwargs
        Passed to ``fn`` after ``z`` and not differentiated.
    compute_dtype
        Dtype of the tangents; by default that of ``z``, or float32 if that is a half type.
    chunk
        Tangents pushed at once; by default as many as a memory budget of 256 MiB allows.

    Raises
    ------
    TypeError, ValueError
        If ``z`` is not a floating (B, m) tensor with B, m >= 1, or the output of ``fn`` is not
        finite, does not depend on ``z`` or lacks the batch dimension.

    Notes
    -----
    Batch norm in training mode is an affine map with the batch's statistics held constant:
    otherwise the per-sample Jacobian is not defined. A function that cannot be traced is
    differentiated whole by ``torch.func.jvp``, which a warning says once.
    """
    _check_arguments(fn, z, compute_dtype, chunk)
    derivative, value, z_in = _trace(fn, z, args, kwargs)
    return Linearization(value, z_in, derivative, compute_dtype, chunk)


def linearize_with_graph(
    fn: Callable[..., Any], z: Tensor, args: tuple, kwargs: dict
) -> tuple[Any, Program | FunctionDerivative]:
    """Return the value of ``fn`` at ``z``, attached to its graph, and its derivative there."""
    _check_arguments(fn, z, None, None)
    derivative, value, _ = _trace(fn, z, args, kwargs)
    return value, derivative


def refuse_transforms() -> None:
    """Raise RuntimeError inside ``torch.func.grad``, ``vmap`` and their like."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise RuntimeError(
            "pydisent's Jacobian engine cannot run inside a torch.func transform (grad, vmap); "
            "call it outside of one and take gradients with backward() or torch.autograd.grad"
        )


def _check_arguments(fn: Any, z: Any, compute_dtype: Any, chunk: Any) -> None:
    refuse_transforms()
    if not callable(fn):
        raise TypeError(f"fn must be callable, got {type(fn).__name__}")
    if not isinstance(z, Tensor):
        raise TypeError(f"z must be a (B, m) tensor, got {type(z).__name__}")
    if not z.is_floating_point():
        raise TypeError(f"z must be a floating-point tensor, got dtype {z.dtype}")
    if z.dim() != 2 or 0 in z.shape:
        raise ValueError(f"z must have shape (B, m) with B, m >= 1, got {tuple(z.shape)}")
    if compute_dtype is not None and not (
        isinstance(compute_dtype, torch.dtype) and compute_dtype.is_floating_point
    ):
        raise TypeError(
            f"compute_dtype must be a floating-point torch.dtype, got {compute_dtype!r}"
        )
    if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, int)):
        raise TypeError(f"chunk must be a whole number of tangents, got {chunk!r}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")


def _trace(fn: Callable, z: Tensor, args: tuple, kwargs: dict):
    """The derivative of ``fn`` at ``z``, its value, and the input at the head of its graph."""
    state = save_random_state(z)
    with torch.inference_mode(False), torch.enable_grad():
        source = z.clone() if z.is_inference() else z
        z_in = (source if source.requires_grad else source.detach().requires_grad_()).clone()
        tracer = Tracer(z_in, RULES, general, DECOMPOSITIONS)
        try:
            # Compiled parts hide their operations; they run eagerly for once.
            with torch.compiler.set_stance("force_eager"), tracer:
                value = fn(z_in, *args, **kwargs)
            derivative: Program | FunctionDerivative = tracer.program(output_tensors(value, z))
        except UntraceableError as reason:
            _say_once(fn, reason)
            restore_random_state(state, z)
            derivative = FunctionDerivative(fn, z_in, args, kwargs)
            value = derivative.value
    check_finite(output_tensors(value, z))
    if not derivative.moved:
        raise ValueError("fn must depend on z, but its output is computed without it")
    return derivative, value, z_in


def check_finite(outputs: Sequence[Tensor]) -> None:
    """Raise ValueError if ``fn`` returned NaN or infinity; a captured CUDA graph cannot."""
    if is_capturing():
        return
    for output in outputs:
        if not torch.isfinite(output.detach()).all():
            raise ValueError(
                "fn must return finite values, but its output has NaN or infinity in it"
            )


_said: set[str] = set()


def _say_once(fn: Callable, reason: Exception) -> None:
    name = getattr(fn, "__qualname__", type(fn).__qualname__)
    if name not in _said:
        _said.add(name)
        warnings.warn(
            f"pydisent: {name} cannot be traced ({reason}); it is differentiated whole, which is "
            "right but slower",
            stacklevel=5,
        )


class Linearization:
    """The derivative of a function at B latent codes; made by :func:`linearize`.

    Attributes
    ----------
    value
        What the function returned, detached: a tensor (B, *out) or a list of such tensors.
    """

    def __init__(
        self,
        value: Any,
        z_in: Tensor,
        derivative: Program | FunctionDerivative,
        compute_dtype: torch.dtype | None,
        chunk: int | None,
    ) -> None:
        self.value = pytree.tree_map(lambda t: t.detach(), value)
        self.derivative = derivative
        self.dtype = compute_dtype or torch.promote_types(z_in.dtype, torch.float32)
        self.latent_shape = z_in.shape
        self.device = z_in.device
        self._structure = pytree.tree_structure(value)
        self._shapes = derivative.output_shapes
        self._chunk = chunk
        self._captured = derivative.prepare(self.dtype)

    # -- products ------------------------------------------------------------------------------

    def jvp(self, tangents: Tensor) -> Any:
        """J V: tangents (K, B, m) to (K, B, *out), in the structure of ``value``."""
        tangents = self._checked_tangents(tangents)
        parts = [self.push(chunk) for chunk in self.chunks(tangents)]
        if not parts:
            return self._structured([tangents.new_zeros(0, *shape) for shape in self._shapes])
        return self._structured([torch.cat(column) for column in zip(*parts)])

    def vjp(self, cotangents: Any) -> Tensor:
        """J' U: cotangents (K, B, *out), in the structure of ``value``, to (K, B, m)."""
        flat = self._checked_cotangents(cotangents)
        flat = [flat[i] for i in self.derivative.moved]
        zeros = torch.zeros(len(flat[0]), *self.latent_shape, dtype=self.dtype, device=self.device)
        rows, start = [zeros[:0]], 0
        for chunk in self.chunks(zeros, graph=True):
            part = [cotangent[start : start + len(chunk)] for cotangent in flat]
            rows.append(self._pull(chunk, lambda _, part=part: part))  # type: ignore[misc]
            start += len(chunk)
        return torch.cat(rows)

    def gram_product(self, tangents: Tensor) -> Tensor:
        """J'J V: one JVP→VJP turn; tangents (K, B, m) to (K, B, m)."""
        tangents = self._checked_tangents(tangents)
        rows = [
            self._pull(chunk, lambda outputs: outputs)
            for chunk in self.chunks(tangents, graph=True)
        ]
        return torch.cat(rows) if rows else tangents.clone()

    def jacobian(self) -> Tensor:
        """J itself, (B, n, m): n counts all elements of a sample's output (of all outputs)."""
        columns = [part.flatten(2) for part in self.columns(self._basis())]
        return torch.cat(columns, -1).mT.contiguous()

    def gram_matrix(self) -> Tensor:
        """M = J'J, (B, m, m), in float32 or wider."""
        wide = torch.promote_types(self.dtype, torch.float32)
        if self.jacobian_bytes() > JACOBIAN_BUDGET:
            return self.gram_product(self._basis()).permute(1, 2, 0).to(wide)
        return gram_of_columns(self.columns(self._basis()))

    # -- inside --------------------------------------------------------------------------------

    def jacobian_bytes(self) -> int:
        """What all columns of J take in float32 or wider."""
        size = max(4, self.dtype.itemsize)
        return self.latent_shape[1] * size * sum(shape.numel() for shape in self._shapes)

    def columns(self, tangents: Tensor) -> list[Tensor]:
        """J V with the batch in front, (B, K, *out) an output, in float32 or wider."""
        count, batch = tangents.shape[:2]
        wide = torch.promote_types(self.dtype, torch.float32)
        parts: list[Tensor] = []
        start = 0
        for chunk in self.chunks(tangents):
            columns = self.push(chunk)
            if not parts:  # in the layout in which the columns come
                parts = [like_columns(column, batch, count, wide) for column in columns]
            for part, column in zip(parts, columns):
                part[:, start : start + len(chunk)] = column.transpose(0, 1)
            start += len(chunk)
        return parts

    def push(self, tangents: Tensor) -> list[Tensor]:
        """One chunk of J V, without a graph: an output that does not move gets zeros."""
        with torch.no_grad():
            moved = self.derivative.push(tangents.to(self.dtype), self._captured, overwrite=True)
        still = tangents.new_zeros((), dtype=self.dtype)
        outputs = [still.expand(len(tangents), *shape) for shape in self._shapes]
        for i, output in zip(self.derivative.moved, moved):
            outputs[i] = output
        return outputs

    def _pull(self, tangents: Tensor, cotangents: Callable[[list[Tensor]], list[Tensor]]) -> Tensor:
        """Transpose the (linear) tangent map with autograd, at ``tangents``."""
        with torch.inference_mode(False), torch.enable_grad():
            source = tangents.detach().to(self.dtype).clone().requires_grad_()
            outputs = self.derivative.push(source, self._captured)
            seeds = cotangents([output.detach() for output in outputs])
            seeds = [seed.to(output.dtype) for seed, output in zip(seeds, outputs)]
            return torch.autograd.grad(outputs, source, seeds)[0]

    def chunk_size(self, *, graph: bool = False) -> int:
        """Tangents to push at once: rows enough to be fast, within the memory budget."""
        if self._chunk is not None:
            return self._chunk
        elements = self.derivative.elements_saved if graph else self.derivative.elements_peak
        fits = MEMORY_BUDGET // max(1, elements * self.dtype.itemsize)
        return max(1, min(fits, -(-_ROWS // self.latent_shape[0])))

    def chunks(self, tangents: Tensor, *, graph: bool = False) -> tuple[Tensor, ...]:
        """The (K, B, m) tangents in parts of about equal size, none above ``chunk_size``."""
        count = len(tangents)
        parts = -(-count // self.chunk_size(graph=graph))
        return tangents.split(-(-count // parts)) if count else ()

    def _basis(self) -> Tensor:
        batch, size = self.latent_shape
        eye = torch.eye(size, dtype=self.dtype, device=self.device)
        return eye[:, None, :].expand(size, batch, size)

    def _structured(self, tensors: list[Tensor]) -> Any:
        return pytree.tree_unflatten(tensors, self._structure)

    def _checked_tangents(self, tangents: Any) -> Tensor:
        batch, size = self.latent_shape
        if not isinstance(tangents, Tensor) or tangents.shape[1:] != self.latent_shape:
            got = tuple(getattr(tangents, "shape", ())) or type(tangents).__name__
            raise ValueError(f"tangents must have shape (K, {batch}, {size}), got {got}")
        return tangents

    def _checked_cotangents(self, cotangents: Any) -> list[Tensor]:
        leaves, structure = pytree.tree_flatten(cotangents)
        shapes = [tuple(shape) for shape in self._shapes]
        if structure != self._structure or any(
            not isinstance(leaf, Tensor) or tuple(leaf.shape[1:]) != shape
            for leaf, shape in zip(leaves, shapes)
        ):
            got = [tuple(getattr(leaf, "shape", ())) for leaf in leaves]
            raise ValueError(f"cotangents must have shapes (K, *s) for s in {shapes}, got {got}")
        return leaves


def _is_channels_last(part: Tensor) -> bool:
    return part.dim() == 5 and part.shape[2] > 1 and part.stride(2) == 1


def like_columns(column: Tensor, batch: int, count: int, dtype: torch.dtype) -> Tensor:
    """An empty (batch, count, *out), its images in memory as those of ``column`` (·, ·, *out)."""
    shape = column.shape[2:]
    if _is_channels_last(column):
        channels, height, width = shape
        storage = column.new_empty(batch, count, height, width, channels, dtype=dtype)
        return storage.permute(0, 1, 4, 2, 3)
    return column.new_empty(batch, count, *shape, dtype=dtype)


def in_memory_order(part: Tensor) -> Tensor:
    """A result of ``like_columns`` as (B, K, n), its elements in the order in which they lie."""
    return (part.permute(0, 1, 3, 4, 2) if _is_channels_last(part) else part).flatten(2)


def gram_of_columns(columns: Sequence[Tensor]) -> Tensor:
    """J'J (B, m, m) from the columns of J, (B, m, *out) an output."""
    flat = [in_memory_order(part) for part in columns]
    with torch.autocast(flat[0].device.type, enabled=False):
        return sum((part @ part.mT for part in flat[1:]), flat[0] @ flat[0].mT)
