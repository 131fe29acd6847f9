"""``linearize``: products with the Jacobian of any function of a batch of latent codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pydisent._precision import affordable_dtype
from pydisent.jacobian._arguments import (
    Coupled,
    check_tangents,
    checked_cotangents,
    checked_keywords,
)
from pydisent.jacobian._budget import budget_of
from pydisent.jacobian._coupling import keep_samples_apart, mixing_steps, refuse_coupled
from pydisent.jacobian._eager import run_eagerly
from pydisent.jacobian._finite import first_not_finite
from pydisent.jacobian._layout import flat, gram_of_columns, like_columns
from pydisent.jacobian._prepared import Prepared
from pydisent.jacobian._program import NOTHING, Kept, Program
from pydisent.jacobian._trace import trace

_V = TypeVar("_V")


@run_eagerly
def linearize(
    fn: Callable[..., _V],
    z: Tensor,
    *args: Any,
    compute_dtype: torch.dtype | None = None,
    chunk: int | None = None,
    coupled: Coupled = "error",
    fn_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Linearization[_V]:
    """Linearise ``fn`` at each of the B latent codes ``z``: trace it once, then take products.

    Parameters
    ----------
    fn
        Any callable of a (B, *latent) tensor that returns a tensor (B, ...) or a list of such
        tensors, each sample's output depending only on its own code. It is called once, with its
        side effects; every product uses the random draws (dropout, noise) of that call.
    z
        Latent codes, (B, *latent), floating point: (B, m), or any shape with m numbers per code.
    args, kwargs
        Passed to ``fn`` after ``z`` and not differentiated.
    compute_dtype
        Dtype of the tangents; by default that of ``z``, or float32 if that is a half type. On a
        CPU without native bfloat16, products in that dtype are computed in float32, which is many
        times faster there, with a one-time warning.
    chunk
        Tangents pushed at once; by default as many as fit into 256 MiB, or 1/16 of a GPU's memory.
    coupled
        What to do if a sample's output depends on another sample's code, for example through
        hand-written batch statistics: "error", or "hold" to hold what mixes samples constant, as is
        done for ``nn.BatchNorm`` in training mode.
    fn_kwargs
        Further keyword arguments of ``fn``, which may share the names of this function's own.

    Raises
    ------
    TypeError, ValueError
        If ``z`` is not a floating (B, *latent) tensor with B, m >= 1, or the output of ``fn`` is
        not finite, does not depend on ``z``, lacks the batch dimension or mixes samples.
    DerivativeError
        If PyTorch's derivative of an operation in ``fn`` is missing or wrong; the message names it.

    Notes
    -----
    Batch norm in training mode is an affine map with the batch's statistics held constant:
    otherwise the per-sample Jacobian is not defined. Those of a single row, as in instance norm
    written as a batch norm of (1, B·C, ...), are differentiated. A custom ``autograd.Function`` is
    one operation, differentiated by its own ``backward``, which must itself be differentiable; for
    penalties it must also save nothing but inputs and outputs. So are operations invisible to torch
    functions (TorchScript, ``torch.func`` inside ``fn``), with a warning.

    Gradient hooks (``register_hook``) are not part of J. Products use the weights at the time of
    the call; after an in-place write to these, as by an optimizer, they raise RuntimeError.

    Examples
    --------
    >>> weight = torch.tensor([[1.0, 2.0], [0.0, 3.0], [1.0, 0.0]])
    >>> linear = linearize(lambda z: z @ weight.T, torch.zeros(4, 2))
    >>> linear.jacobian().shape
    torch.Size([4, 3, 2])
    >>> torch.equal(linear.gram_matrix()[0], weight.T @ weight)
    True
    """
    kwargs = checked_keywords(
        linearize, fn, z, kwargs, fn_kwargs,
        compute_dtype=compute_dtype, chunk=chunk, coupled=coupled,
    )  # fmt: skip
    return linearize_checked(fn, z, args, kwargs, compute_dtype, chunk, coupled)


def linearize_checked(
    fn: Callable[..., _V],
    z: Tensor,
    args: tuple,
    kwargs: dict,
    compute_dtype: torch.dtype | None,
    chunk: int | None,
    coupled: Coupled,
) -> Linearization[_V]:
    """As :func:`linearize`, for arguments that have been checked."""
    affordable = affordable_dtype(compute_dtype, z.device)
    linear = linearize_unchecked(fn, z, args, kwargs, affordable, chunk)
    linear.returned = compute_dtype or linear.dtype
    keep_samples_apart(linear, coupled)
    return linear


def linearize_unchecked(
    fn: Callable[..., _V],
    z: Tensor,
    args: tuple,
    kwargs: dict,
    compute_dtype: torch.dtype | None = None,
    chunk: int | None = None,
) -> Linearization[_V]:
    """As :func:`linearize_checked`, but samples may be coupled."""
    program, value, z_in = trace(fn, z, args, kwargs)
    return Linearization(value, z_in, program, compute_dtype, chunk)


def linearize_with_graph(
    fn: Callable[..., Any], z: Tensor, args: tuple, kwargs: dict, coupled: Coupled
) -> tuple[Any, Program]:
    """The value of ``fn`` at ``z``, attached to its graph, and its derivative there."""
    program, value, z_in = trace(fn, z, args, kwargs)
    keep_samples_apart(Linearization(value, z_in, program, None, None), coupled)
    return value, program


class Linearization(Generic[_V]):
    """The derivative of a function at B latent codes; made by :func:`linearize`.

    Attributes
    ----------
    value
        What the function returned, detached: a tensor (B, *out) or a list of such tensors.
    """

    def __init__(
        self,
        value: _V,
        z_in: Tensor,
        program: Program,
        compute_dtype: torch.dtype | None,
        chunk: int | None,
    ) -> None:
        detached: Any = (
            value.detach()
            if isinstance(value, Tensor)
            else pytree.tree_map_only(Tensor, Tensor.detach, value)
        )
        self.value: _V = detached
        self.program = program
        self.dtype = compute_dtype or torch.promote_types(z_in.dtype, torch.float32)
        self._prepared = Prepared(program, self.dtype)
        self.returned = self.dtype  # dtype of the products that are returned
        self.latent_shape = z_in.shape
        self.device = z_in.device
        self._leaves, self._structure = pytree.tree_flatten(self.value)
        self._shapes = program.output_shapes
        self._chunk = None if chunk is None else int(chunk)

    @property
    def captured(self) -> list[Tensor]:
        """The tensors that steps read, cast once; chunks share the memory layout of the first."""
        return self._prepared.tensors()

    # -- products ------------------------------------------------------------------------------

    def jvp(self, tangents: Tensor) -> _V:
        """J V: tangents (K, B, *latent) to (K, B, *out), in the structure of ``value``."""
        check_tangents(tangents, self.latent_shape)
        parts = [self.push(chunk) for chunk in self.chunks(tangents)]
        if not parts:
            none = tangents.new_zeros(0, dtype=self.returned)
            return self.structured([none.reshape(0, *shape) for shape in self._shapes])
        return self.structured([torch.cat(column).to(self.returned) for column in zip(*parts)])

    def vjp(self, cotangents: Any) -> Tensor:
        """J' U: cotangents (K, B, *out), in the structure of ``value``, to (K, B, *latent)."""
        flat = checked_cotangents(cotangents, self._structure, self._leaves)
        flat = [flat[i] for i in self.program.moved]
        zeros = torch.zeros(len(flat[0]), *self.latent_shape, dtype=self.dtype, device=self.device)
        rows, start = [zeros[:0]], 0
        for chunk in self.chunks(zeros, graph=True):
            part = [cotangent[start : start + len(chunk)] for cotangent in flat]
            rows.append(self._pull(chunk, lambda _, part=part: part))  # type: ignore[misc]
            start += len(chunk)
        return torch.cat(rows).to(self.returned)

    def gram_product(self, tangents: Tensor) -> Tensor:
        """J'J V: one JVP→VJP turn; tangents (K, B, *latent) to the same shape."""
        check_tangents(tangents, self.latent_shape)
        rows = [
            self._pull(chunk, lambda outputs: outputs)
            for chunk in self.chunks(tangents, graph=True)
        ]
        return torch.cat(rows or [tangents]).to(self.returned)

    def jacobian(self) -> Tensor:
        """J itself, (B, n, m), with all n elements of a sample's outputs and m of its code."""
        wide = torch.promote_types(self.dtype, torch.float32)
        columns = [flat(part).to(wide) for part in self.columns(self.basis())]
        return torch.cat(columns, -1).mT.contiguous()

    def gram_matrix(self) -> Tensor:
        """M = J'J, (B, m, m), in float32 or wider."""
        wide = torch.promote_types(self.dtype, torch.float32)
        if not self.jacobian_fits:
            return self.gram_product(self.basis()).flatten(2).permute(1, 2, 0).to(wide)
        return gram_of_columns(self.columns(self.basis()))

    # -- as a Derivative -----------------------------------------------------------------------

    @property
    def rounding(self) -> float:
        """Machine epsilon of the coarsest dtype in which the function computed."""
        return self.program.rounding

    @property
    def samples_are_apart(self) -> bool:
        """Whether the steps themselves prove that no sample moves another."""
        return self.latent_shape[0] == 1 or self.program.keeps_samples_apart

    def images(self, tangents: Tensor) -> list[Tensor]:
        """J V without a graph, in the dtype of the tangents; for the outputs that move."""
        with torch.no_grad():
            captured = self.program.prepare(tangents.dtype)
            return self.program.push(tangents, captured, overwrite=True)

    def decouple(self, coupled: Coupled) -> None:
        """Hold the steps that mix samples constant, or raise ValueError naming them."""
        steps, crossed = mixing_steps(self.program, self.latent_shape, self.device)
        if not steps and not crossed:  # rounding of a zero derivative
            return
        if coupled == "hold" and not crossed:
            self.program.hold(steps)
            return
        refuse_coupled([step.name for step in steps])

    def why_not_finite(self) -> str:
        """The error message for a J, or J'J, that is not finite."""
        operation = first_not_finite(self.program, self.chunks(self.basis()))
        if operation is None:
            return (
                "J'J is not finite, though the Jacobian J of fn is: its squares overflow "
                f"{self.dtype}. Scale the output of fn, or pass compute_dtype=torch.float64"
            )
        return (
            f"the Jacobian of fn has NaN or infinity in it, from '{operation}' on, though the "
            "values of fn are finite: at such a point it has no derivative, or one that overflows"
        )

    @property
    def jacobian_fits(self) -> bool:
        """Whether all columns of J may be kept in memory."""
        return self.jacobian_bytes() <= budget_of(self.device).jacobian

    def jacobian_bytes(self) -> int:
        """Size in bytes of all columns of J, as they are stored."""
        count = self.latent_shape[1:].numel() * sum(shape.numel() for shape in self._shapes)
        return count * self._column_dtype.itemsize

    @property
    def _column_dtype(self) -> torch.dtype:
        """float32 or wider; half types are kept where their products can sum in float32."""
        if self.device.type in ("cuda", "meta"):
            return self.dtype
        return torch.promote_types(self.dtype, torch.float32)

    def columns(self, tangents: Tensor, keep: Kept = NOTHING) -> list[Tensor]:
        """J V with the batch in front, (B, K, *out) for each output, for ``gram_of_columns``."""
        count, batch = tangents.shape[:2]
        parts: list[Tensor] = []
        start = 0
        for chunk in self.chunks(tangents):
            columns = self.push(chunk, keep)
            if not parts:  # in the columns' memory format
                dtype = self._column_dtype
                parts = [like_columns(column, batch, count, dtype) for column in columns]
            for part, column in zip(parts, columns):
                part[:, start : start + len(chunk)] = column.transpose(0, 1)
            start += len(chunk)
        return parts

    def push(self, tangents: Tensor, keep: Kept = NOTHING) -> list[Tensor]:
        """One chunk of J V, without a graph; zeros for outputs that do not depend on z."""
        with torch.no_grad():
            own = tangents.to(self.dtype)
            moved = self.program.push(own, self.captured, overwrite=True, keep=keep)
        still = tangents.new_zeros((), dtype=self.dtype)
        outputs = [still.expand(len(tangents), *shape) for shape in self._shapes]
        for i, output in zip(self.program.moved, moved):
            outputs[i] = output
        return outputs

    def _pull(self, tangents: Tensor, cotangents: Callable[[list[Tensor]], list[Tensor]]) -> Tensor:
        """Transpose the (linear) tangent map with autograd, at ``tangents``."""
        with torch.inference_mode(False), torch.enable_grad():
            source = tangents.detach().to(self.dtype).clone().requires_grad_()
            outputs = self.program.push(source, self.captured)
            seeds = cotangents([output.detach() for output in outputs])
            pairs = [(o, s.to(o.dtype)) for o, s in zip(outputs, seeds) if o.requires_grad]
            if not pairs:  # a derivative of zero
                return torch.zeros_like(tangents)
            moving, seeds = map(list, zip(*pairs))
            return torch.autograd.grad(moving, source, seeds, materialize_grads=True)[0]

    def chunk_size(self, *, graph: bool = False) -> int:
        """Tangents to push at once: enough rows to be fast, within the memory budget."""
        if self._chunk is not None:
            return self._chunk
        elements = self.program.elements_saved if graph else self.program.elements_peak
        budget = budget_of(self.device)
        fits = budget.tangents // max(1, elements * self.dtype.itemsize)
        return max(1, min(fits, -(-budget.rows // self.latent_shape[0])))

    def chunks(self, tangents: Tensor, *, graph: bool = False) -> tuple[Tensor, ...]:
        """The (K, B, m) tangents in parts of about equal size, none above ``chunk_size``."""
        count = len(tangents)
        parts = -(-count // self.chunk_size(graph=graph))
        return tangents.split(-(-count // parts)) if count else ()

    def basis(self) -> Tensor:
        """The axes of latent space as tangents, (m, B, *latent)."""
        size = self.latent_shape[1:].numel()
        eye = torch.eye(size, dtype=self.dtype, device=self.device)
        axes = eye.reshape(size, 1, *self.latent_shape[1:])
        return axes.expand(size, *self.latent_shape)

    def structured(self, tensors: list[Tensor]) -> _V:
        """Tensors, one for each output, in the structure of ``value``."""
        queue = iter(tensors)  # other leaves are kept
        leaves = [next(queue) if isinstance(leaf, Tensor) else leaf for leaf in self._leaves]
        return pytree.tree_unflatten(leaves, self._structure)
