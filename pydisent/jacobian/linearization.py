"""``linearize``: products with the Jacobian of any function of a batch of latent codes."""

from __future__ import annotations

import difflib
import functools
import inspect
import operator
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pydisent._notice import warn
from pydisent._precision import affordable_dtype
from pydisent.jacobian._capture import is_capturing
from pydisent.jacobian._coupling import is_coupled, mixing_steps
from pydisent.jacobian._eager import run_eagerly
from pydisent.jacobian._finite import is_finite
from pydisent.jacobian._program import Program
from pydisent.jacobian._trace import Tracer
from pydisent.jacobian.rules import RULES, general

MEMORY_BUDGET = 256 * 2**20
"""Bytes that the tangents of one chunk may take at once."""

JACOBIAN_BUDGET = 4 * MEMORY_BUDGET
"""Bytes past which the Jacobian is not kept whole; its Gram matrix then costs a reverse pass."""

Coupled = Literal["error", "hold"]
_V = TypeVar("_V")

_ROWS = 256
"""Rows (tangents times batch) past which a larger chunk only costs memory."""


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
    """Linearise ``fn`` at each of the B latent codes ``z``: one trace, then products at will.

    Parameters
    ----------
    fn
        Any callable of a (B, *latent) tensor that returns a tensor (B, ...) or a list of such
        tensors, each sample's output depending on its own code alone. It is called once, with its
        side effects; random draws (dropout, noise) are those of that call for every product.
    z
        Latent codes, (B, *latent), floating point: (B, m), or any shape of m numbers a code.
    args, kwargs
        Passed to ``fn`` after ``z`` and not differentiated.
    compute_dtype
        Dtype of the tangents; by default that of ``z``, or float32 if that is a half type. On a
        CPU without native bfloat16 products of that dtype are computed in float32, which is many
        times faster there, and a warning says so once.
    chunk
        Tangents pushed at once; by default as many as a memory budget of 256 MiB allows.
    coupled
        What to do if a sample's output depends on another sample's code, as by batch statistics
        written by hand: "error", or "hold" for taking what mixes samples as constants, as
        ``nn.BatchNorm`` in training mode is taken.
    fn_kwargs
        More keyword arguments of ``fn``, whose names may be those of this function's own.

    Raises
    ------
    TypeError, ValueError
        If ``z`` is not a floating (B, *latent) tensor with B, m >= 1, or the output of ``fn`` is
        not finite, does not depend on ``z``, lacks the batch dimension or mixes samples.
    DerivativeError
        If PyTorch's derivative of an operation in ``fn`` is missing or wrong; it is named.

    Notes
    -----
    Batch norm in training mode is an affine map with the batch's statistics held constant:
    otherwise the per-sample Jacobian is not defined. A custom ``autograd.Function`` is one
    operation, differentiated by its own ``backward``, which must be differentiable itself. So is
    what torch functions do not show (TorchScript, ``torch.func`` inside ``fn``), which a
    warning says.

    Examples
    --------
    >>> weight = torch.tensor([[1.0, 2.0], [0.0, 3.0], [1.0, 0.0]])
    >>> linear = linearize(lambda z: z @ weight.T, torch.zeros(4, 2))
    >>> linear.jacobian().shape
    torch.Size([4, 3, 2])
    >>> torch.equal(linear.gram_matrix()[0], weight.T @ weight)
    True
    """
    check_arguments(fn, z, compute_dtype, chunk, coupled)
    given, kwargs = kwargs, merged_keywords(kwargs, fn_kwargs)
    check_keywords(fn, given, linearize)
    affordable = affordable_dtype(compute_dtype, z.device)
    linear = linearize_unchecked(fn, z, args, kwargs, affordable, chunk)
    linear.returned = compute_dtype or linear.dtype
    linear.keep_samples_apart(coupled)
    return linear


def linearize_unchecked(
    fn: Callable[..., _V],
    z: Tensor,
    args: tuple,
    kwargs: dict,
    compute_dtype: torch.dtype | None = None,
    chunk: int | None = None,
) -> Linearization[_V]:
    """As :func:`linearize`, for arguments that have been checked; samples may be coupled."""
    program, value, z_in = _trace(fn, z, args, kwargs)
    return Linearization(value, z_in, program, compute_dtype, chunk)


def linearize_with_graph(
    fn: Callable[..., Any], z: Tensor, args: tuple, kwargs: dict, coupled: str = "error"
) -> tuple[Any, Program]:
    """Return the value of ``fn`` at ``z``, attached to its graph, and its derivative there."""
    check_arguments(fn, z, None, None, coupled)
    program, value, z_in = _trace(fn, z, args, kwargs)
    Linearization(value, z_in, program, None, None).keep_samples_apart(coupled)
    return value, program


def refuse_transforms() -> None:
    """Raise RuntimeError inside ``torch.func.grad``, ``vmap`` and their like."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise RuntimeError(
            "pydisent's Jacobian engine cannot run inside a torch.func transform (grad, vmap); "
            "call it outside of one and take gradients with backward() or torch.autograd.grad"
        )


def check_keywords(
    fn: Callable[..., Any], kwargs: dict[str, Any], *own: Callable[..., Any]
) -> None:
    """Raise TypeError on a keyword that neither ``fn`` takes nor the function called, ``own[0]``.

    The nearest name of those that ``own`` take is suggested; where ``fn`` does not tell what it
    takes nothing is refused.
    """
    if not kwargs:
        return
    try:
        taken = inspect.signature(fn.forward if isinstance(fn, nn.Module) else fn).parameters
    except (TypeError, ValueError):
        return
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        return
    unknown = [name for name in kwargs if name not in taken or taken[name].kind not in named]
    if not unknown:
        return
    accepted = [
        n for f in own for n, p in inspect.signature(f).parameters.items() if p.kind in named
    ]
    near = difflib.get_close_matches(unknown[0], accepted, 1)
    hint = f"; did you mean {near[0]!r}?" if near and near[0] != unknown[0] else ""
    raise TypeError(
        f"{own[0].__qualname__} got an unexpected keyword argument {unknown[0]!r}, which fn does "
        f"not accept, either{hint}"
    )


def merged_keywords(kwargs: dict[str, Any], more: Mapping[str, Any] | None) -> dict[str, Any]:
    """All keyword arguments of ``fn``; TypeError if one is given twice."""
    if more is None:
        return kwargs
    if not isinstance(more, Mapping) or not all(isinstance(name, str) for name in more):
        raise TypeError(f"fn_kwargs must map names to values, got {more!r:.60}")
    twice = sorted(kwargs.keys() & more.keys())
    if twice:
        raise TypeError(f"fn_kwargs gives {twice}, which are given as keywords, too")
    return {**kwargs, **more}


def whole_number(name: str, value: Any) -> int:
    """``value`` as an int, NumPy's integers included; TypeError if it is not a whole number."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None


def check_codes(z: Any) -> None:
    """Raise TypeError or ValueError if ``z`` is not a batch of latent codes."""
    if not isinstance(z, Tensor):
        raise TypeError(f"z must be a (B, m) tensor, got {type(z).__name__}")
    if not z.is_floating_point():
        raise TypeError(f"z must be a floating-point tensor (B, m), got dtype {z.dtype}")
    if z.dim() < 2 or 0 in z.shape:
        raise ValueError(
            f"z must have shape (B, m) or (B, *latent) with B, m >= 1, got {tuple(z.shape)}"
        )


def check_arguments(fn: Any, z: Any, compute_dtype: Any, chunk: Any, coupled: Any) -> None:
    """Raise TypeError or ValueError, before any work is done, if an argument is unusable."""
    refuse_transforms()
    if not callable(fn):
        raise TypeError(f"fn must be callable, got {type(fn).__name__}")
    check_codes(z)
    if compute_dtype is not None and not (
        isinstance(compute_dtype, torch.dtype) and compute_dtype.is_floating_point
    ):
        raise TypeError(
            f"compute_dtype must be a floating-point torch.dtype, got {compute_dtype!r}"
        )
    if chunk is not None and whole_number("chunk", chunk) < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    if coupled not in get_args(Coupled):
        raise ValueError(f'coupled must be "error" or "hold", got {coupled!r}')


def _trace(fn: Callable, z: Tensor, args: tuple, kwargs: dict) -> tuple[Program, Any, Tensor]:
    """The derivative of ``fn`` at ``z``, its value, and the input at the head of its graph."""
    with torch.inference_mode(False), torch.enable_grad():
        source = z.clone() if z.is_inference() else z
        z_in = (source if source.requires_grad else source.detach().requires_grad_()).clone()
        tracer = Tracer(z_in, RULES, general)
        # Compiled parts hide their operations; they run eagerly for once.
        with (
            torch.compiler.set_stance("force_eager"),
            torch.jit.optimized_execution(False),  # or its graphs are closed, too
            tracer,
        ):
            value = fn(z_in, *args, **kwargs)
        outputs = output_tensors(value, z)
        program = tracer.program(outputs)
    if tracer.hidden:
        _announce(fn, tracer.hidden)
    check_finite(outputs)
    if not program.moved:
        raise ValueError("fn must depend on z, but its output is computed without it")
    return program, value, z_in


def output_tensors(value: Any, z: Tensor) -> list[Tensor]:
    """The tensors that ``fn`` returned, checked: floating, with the batch in front."""
    leaves = [leaf for leaf in pytree.tree_leaves(value) if leaf is not None]
    if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
        kinds = sorted({type(leaf).__name__ for leaf in leaves}) or type(value).__name__
        raise TypeError(f"fn must return a tensor or a list of tensors, got {kinds}")
    for leaf in leaves:
        if not leaf.is_floating_point():
            raise TypeError(f"fn must return real floating-point tensors, got dtype {leaf.dtype}")
        if leaf.dim() == 0 or leaf.shape[0] != z.shape[0]:
            raise ValueError(
                "fn must return tensors with the batch of z in front, (B, ...) with "
                f"B = {z.shape[0]}, got shape {tuple(leaf.shape)}"
            )
    return leaves


def check_finite(outputs: Sequence[Tensor]) -> None:
    """Raise ValueError if ``fn`` returned NaN or infinity; a captured CUDA graph cannot."""
    if is_capturing():
        return
    for output in outputs:
        if not is_finite(output):
            raise ValueError(
                "fn must return finite values, but its output has NaN or infinity in it"
            )


def refuse_coupled(operations: Sequence[str]) -> None:
    """Raise ValueError in the name of the operations that mix samples, if these are known."""
    names = ", ".join(dict.fromkeys(f"'{name}'" for name in operations)) or "a change of places"
    raise ValueError(
        f"fn must compute each sample from its own code, but {names} mixes the samples of the "
        'batch, so that a sample has no Jacobian of its own. coupled="hold" takes what is mixed '
        "(batch statistics) as constants, as nn.BatchNorm's are"
    )


_announced: weakref.WeakSet[Any] = weakref.WeakSet()


def _announce(fn: Callable, hidden: Sequence[str]) -> None:
    # Once a function: one that is made anew at each step has the same code.
    code = getattr(getattr(fn, "__func__", fn), "__code__", fn)
    if code in _announced:
        return
    _announced.add(code)
    name = getattr(fn, "__qualname__", type(fn).__qualname__)
    warn(
        f"{name} cannot be traced in all its parts ({'; '.join(dict.fromkeys(hidden))}); "
        "these are differentiated by reverse mode twice, which is right but slower"
    )


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
        derivative: Program,
        compute_dtype: torch.dtype | None,
        chunk: int | None,
    ) -> None:
        self.value: _V = pytree.tree_map_only(Tensor, Tensor.detach, value)
        self.derivative = derivative
        self.dtype = compute_dtype or torch.promote_types(z_in.dtype, torch.float32)
        self.returned = self.dtype  # that of products; they may be computed in a wider one
        self.latent_shape = z_in.shape
        self.device = z_in.device
        self._leaves, self._structure = pytree.tree_flatten(self.value)
        self._shapes = derivative.output_shapes
        self._chunk = None if chunk is None else int(chunk)

    @functools.cached_property
    def _captured(self) -> list[Tensor]:
        return self.derivative.prepare(self.dtype)

    # -- products ------------------------------------------------------------------------------

    def jvp(self, tangents: Tensor) -> _V:
        """J V: tangents (K, B, *latent) to (K, B, *out), in the structure of ``value``."""
        tangents = self._checked_tangents(tangents)
        parts = [self.push(chunk) for chunk in self.chunks(tangents)]
        if not parts:
            return self._structured([tangents.new_zeros(0, *shape) for shape in self._shapes])
        return self._structured([torch.cat(column).to(self.returned) for column in zip(*parts)])

    def vjp(self, cotangents: Any) -> Tensor:
        """J' U: cotangents (K, B, *out), in the structure of ``value``, to (K, B, *latent)."""
        flat = self._checked_cotangents(cotangents)
        flat = [flat[i] for i in self.derivative.moved]
        zeros = torch.zeros(len(flat[0]), *self.latent_shape, dtype=self.dtype, device=self.device)
        rows, start = [zeros[:0]], 0
        for chunk in self.chunks(zeros, graph=True):
            part = [cotangent[start : start + len(chunk)] for cotangent in flat]
            rows.append(self._pull(chunk, lambda _, part=part: part))  # type: ignore[misc]
            start += len(chunk)
        return torch.cat(rows).to(self.returned)

    def gram_product(self, tangents: Tensor) -> Tensor:
        """J'J V: one JVP→VJP turn; tangents (K, B, *latent) to the same shape."""
        tangents = self._checked_tangents(tangents)
        rows = [
            self._pull(chunk, lambda outputs: outputs)
            for chunk in self.chunks(tangents, graph=True)
        ]
        return torch.cat(rows).to(self.returned) if rows else tangents.clone()

    def jacobian(self) -> Tensor:
        """J itself, (B, n, m), with all n elements of a sample's outputs and m of its code."""
        columns = [_flat(part) for part in self.columns(self.basis())]
        return torch.cat(columns, -1).mT.contiguous()

    def gram_matrix(self) -> Tensor:
        """M = J'J, (B, m, m), in float32 or wider."""
        wide = torch.promote_types(self.dtype, torch.float32)
        if self.jacobian_bytes() > JACOBIAN_BUDGET:
            return self.gram_product(self.basis()).flatten(2).permute(1, 2, 0).to(wide)
        return gram_of_columns(self.columns(self.basis()))

    # -- inside --------------------------------------------------------------------------------

    def keep_samples_apart(self, coupled: str) -> None:
        """Find out whether samples are coupled, and then refuse or hold what couples them."""
        program, shape = self.derivative, self.latent_shape
        if self.samples_are_apart or is_capturing():
            return
        dtype = torch.promote_types(self.dtype, torch.float32)
        captured = program.prepare(dtype)

        def push(tangents: Tensor) -> list[Tensor]:
            with torch.no_grad():
                return program.push(tangents, captured, overwrite=True)

        if not is_coupled(push, shape, dtype, self.device, program.rounding):
            return
        steps, crossed = mixing_steps(program, shape, self.device)
        if not steps and not crossed:  # roundings of a derivative that is zero
            return
        if coupled == "hold" and not crossed:
            program.hold(steps)
            return
        refuse_coupled([step.name for step in steps])

    @property
    def samples_are_apart(self) -> bool:
        """Whether the steps themselves prove that no sample moves another."""
        return self.latent_shape[0] == 1 or self.derivative.keeps_samples_apart

    def jacobian_bytes(self) -> int:
        """What all columns of J take in float32 or wider."""
        size = max(4, self.dtype.itemsize)
        return self.latent_shape[1:].numel() * size * sum(shape.numel() for shape in self._shapes)

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
            pairs = [(o, s.to(o.dtype)) for o, s in zip(outputs, seeds) if o.requires_grad]
            if not pairs:  # a derivative of zero, such as that of a step
                return torch.zeros_like(tangents)
            moving, seeds = map(list, zip(*pairs))
            return torch.autograd.grad(moving, source, seeds, materialize_grads=True)[0]

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

    def basis(self) -> Tensor:
        """The axes of latent space as tangents, (m, B, *latent)."""
        size = self.latent_shape[1:].numel()
        eye = torch.eye(size, dtype=self.dtype, device=self.device)
        axes = eye.reshape(size, 1, *self.latent_shape[1:])
        return axes.expand(size, *self.latent_shape)

    def _structured(self, tensors: list[Tensor]) -> Any:
        queue = iter(tensors)  # what is not a tensor comes as it was
        leaves = [next(queue) if isinstance(leaf, Tensor) else leaf for leaf in self._leaves]
        return pytree.tree_unflatten(leaves, self._structure)

    def _checked_tangents(self, tangents: Any) -> Tensor:
        if not isinstance(tangents, Tensor) or tangents.shape[1:] != self.latent_shape:
            got = tuple(getattr(tangents, "shape", ())) or type(tangents).__name__
            expected = ", ".join(map(str, self.latent_shape))
            raise ValueError(f"tangents must have shape (K, {expected}), got {got}")
        return tangents

    def _checked_cotangents(self, cotangents: Any) -> list[Tensor]:
        leaves, structure = pytree.tree_flatten(cotangents)
        leaves = [leaf for leaf in leaves if leaf is not None]
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
    return _flat(part.permute(0, 1, 3, 4, 2) if _is_channels_last(part) else part)


def _flat(part: Tensor) -> Tensor:
    """(B, K, *out) as (B, K, n), where ``out`` may be nothing."""
    return part.flatten(2) if part.dim() > 2 else part.unsqueeze(2)


def gram_of_columns(columns: Sequence[Tensor]) -> Tensor:
    """J'J (B, m, m) from the columns of J, (B, m, *out) an output."""
    flat = [in_memory_order(part) for part in columns]
    with torch.autocast(flat[0].device.type, enabled=False):
        return sum((part @ part.mT for part in flat[1:]), flat[0] @ flat[0].mT)
