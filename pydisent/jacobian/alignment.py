"""Ramesh et al.'s alignment penalty (Algorithm 3), exact and without unrolling it.

The penalty is a function R of the Gram matrices M_b = J_b'J_b alone. With C_b = dR/dM_b, a constant
small matrix a sample, its gradient is dR = Σ_b <C_b, dM_b> = 2 Σ_b <J_b C_b, dJ_b>. So it takes a
few Jacobian-vector products along the leading directions of J C and one reverse pass through
them, however many eigenvectors and power iterations the penalty has.
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pydisent import parallel
from pydisent._precision import affordable_dtype
from pydisent.jacobian._call import DerivativeError, differentiable
from pydisent.jacobian._capture import is_capturing
from pydisent.jacobian._cost import machine
from pydisent.jacobian._coupling import is_coupled, mixes_columns, probing_tangents
from pydisent.jacobian._eager import run_eagerly
from pydisent.jacobian._finite import refuse_infinite
from pydisent.jacobian._program import Program
from pydisent.jacobian.decompositions import DecomposedFunctions, RefuseWrongDerivatives
from pydisent.jacobian.linearization import (
    JACOBIAN_BUDGET,
    Coupled,
    Linearization,
    check_arguments,
    check_finite,
    check_keywords,
    gram_of_columns,
    in_memory_order,
    like_columns,
    linearize_unchecked,
    merged_keywords,
    output_tensors,
    refuse_coupled,
    whole_number,
)
from pydisent.ops import masked_power_iteration

Method = Literal["auto", "gram", "matrix_free", "autograd"]
METHODS = get_args(Method)
EPS = 1e-8  # Algorithm 2's guard against division by zero
_SMALL_ALGEBRA = 30  # steps that take as long as the algebra on small matrices


@run_eagerly
def alignment_penalty(
    fn: Callable[..., Any],
    z: Tensor,
    *args: Any,
    k: int,
    iterations: int,
    reweight: bool = True,
    probe: Tensor | None = None,
    method: Method = "auto",
    tolerance: float = 1e-3,
    compute_dtype: torch.dtype | None = None,
    chunk: int | None = None,
    coupled: Coupled = "error",
    fn_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Tensor:
    """Penalise leading right-singular vectors of ``fn``'s Jacobian that leave the first k axes.

    Ramesh et al. 2018, Algorithm 3: T masked power iterations estimate the k leading eigenvectors
    V of M = J'J at each latent code, and the penalty is the mean over the batch of
    sum(S ∘ V ∘ V), with S of Eq. 12 and its columns weighted by Eq. 13.

    Parameters
    ----------
    fn
        Any callable of a (B, *latent) tensor that returns a tensor (B, ...) or a list of such
        tensors (their squared norms add). It is called once. The gradient flows to whatever it
        reads.
    z
        Latent codes, (B, m), or (B, *latent) with m numbers a code, floating point; they get a
        gradient if they require one.
    args, kwargs
        Passed to ``fn`` after ``z``, not differentiated (labels, noise).
    k
        Eigenvectors to align, 1 <= k <= m.
    iterations
        Power iterations T >= 1.
    reweight
        Weight column i by 2(k − i + 1) / (k(k + 1)) (Eq. 13), or by 1.
    probe
        Start of the iterations, (B, m, k); by default random signs (Rademacher), drawn from
        PyTorch's global generator.
    method
        "gram": the Gram matrix from m Jacobian-vector products, best for a moderate m.
        "matrix_free": products with M only, for a large m. "autograd": plain double backward
        through the unrolled algorithm, slow, the only one whose own gradient can be taken.
        "auto": the cheapest of the first two and, for small problems, the algorithm unrolled on the
        Gram matrix in one graph, by a count of the steps, products and numbers of ``fn``, weighed
        by what each takes on this machine: measured once, kept in the user's cache.
    tolerance
        Directions of the gradient that may be left out, in [0, 1); 0 is exact. By the Gram route:
        the relative Frobenius norm of what is left of J C. Matrix-free: the part of the sum
        of the magnitudes of C's eigenvalues. While a CUDA graph is captured it must be 0, and the
        method "gram" (or "auto" where that is cheaper): the number of directions, and whether
        values are finite, would have to be read from the GPU.
    compute_dtype
        Dtype of the tangents, such as ``torch.bfloat16``; sums and small matrices stay in float32.
        On a CPU without native bfloat16 it is float32 all the same, and a warning says so once.
    chunk
        Tangents in memory at once; by default as many as a memory budget of 256 MiB allows.
    coupled
        "error" or "hold": as of :func:`linearize`.
    fn_kwargs
        More keyword arguments of ``fn``, whose names may be those of this function's own.

    Returns
    -------
    Tensor
        The penalty, a scalar, in float32 or wider.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; if ``fn`` returns values that are not finite, do not depend
        on ``z``, lack the batch dimension or mix samples; if its Jacobian is not finite.
    DerivativeError
        If PyTorch's derivative of an operation in ``fn`` is missing or wrong; it is named.

    Notes
    -----
    The gradient is that of the unrolled algorithm, computed when backward comes. It cannot be
    differentiated again, except with ``method="autograd"``.

    Examples
    --------
    >>> generator = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 32))
    >>> penalty = alignment_penalty(generator, torch.randn(4, 8), k=2, iterations=4)
    >>> penalty.backward()  # into the generator's parameters

    Where the leading eigenvector lies on the first axis the penalty is at its minimum.

    >>> stretch = torch.tensor([3.0, 1.0])
    >>> value = alignment_penalty(lambda z: z * stretch, torch.zeros(5, 2), k=1, iterations=9)
    >>> round(value.item(), 6)
    -1.0
    """
    check_arguments(fn, z, compute_dtype, chunk, coupled)
    compute_dtype = affordable_dtype(compute_dtype, z.device)
    k, iterations = _check_arguments(z, k, iterations, probe, method, tolerance)
    given, kwargs = kwargs, merged_keywords(kwargs, fn_kwargs)
    check_keywords(fn, given, alignment_penalty)
    wants_gradient = torch.is_grad_enabled()
    with torch.inference_mode(False):
        z = z.clone() if z.is_inference() else z
        if method == "autograd":
            if coupled == "hold":
                raise ValueError('coupled="hold" takes method "gram" or "matrix_free"')
            value = _by_autograd(fn, z, args, kwargs, k, iterations, reweight, probe)
            return value if wants_gradient else value.detach()
        linear = linearize_unchecked(fn, z, args, kwargs, compute_dtype, chunk)
        problem = _Problem.of(z, linear.dtype, k, iterations, reweight, probe)
        route: str = method
        if method == "auto":
            measurable = not is_capturing()
            route = (
                _cheaper(linear, k, iterations, tolerance, wants_gradient) if measurable else "gram"
            )
        if route == "unrolled":
            return _unrolled(linear, problem, z, coupled)
        linear.keep_samples_apart(coupled)
        if is_capturing():
            _check_capturable(linear, route, tolerance)
        evaluate = _gram_route if route == "gram" else _matrix_free_route
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            value, directions = evaluate(linear, problem, tolerance, wants_gradient)
        return _with_gradient(value, z, linear, directions) if wants_gradient else value


class AlignmentPenalty(nn.Module):
    """The alignment penalty as a module: ``AlignmentPenalty(k, iterations)(fn, z, *args)``.

    Parameters
    ----------
    k, iterations, reweight, method, tolerance, compute_dtype, chunk, coupled
        As of :func:`alignment_penalty`.

    Examples
    --------
    >>> penalty = AlignmentPenalty(k=2, iterations=4)
    >>> generator = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 32))
    >>> penalty(generator, torch.randn(4, 8)).shape
    torch.Size([])
    """

    def __init__(
        self,
        k: int,
        iterations: int,
        *,
        reweight: bool = True,
        method: Method = "auto",
        tolerance: float = 1e-3,
        compute_dtype: torch.dtype | None = None,
        chunk: int | None = None,
        coupled: Coupled = "error",
    ) -> None:
        super().__init__()
        k, iterations = _check_counts(k, iterations, method, tolerance)
        self.options: dict[str, Any] = {
            "k": k,
            "iterations": iterations,
            "reweight": reweight,
            "method": method,
            "tolerance": tolerance,
            "compute_dtype": compute_dtype,
            "chunk": chunk,
            "coupled": coupled,
        }

    def forward(
        self,
        fn: Callable[..., Any],
        z: Tensor,
        *args: Any,
        probe: Tensor | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The penalty of ``fn`` at latent codes z (B, *latent): a scalar."""
        more = merged_keywords(kwargs, fn_kwargs)
        check_keywords(fn, kwargs, self.forward, type(self))
        return alignment_penalty(fn, z, *args, probe=probe, fn_kwargs=more, **self.options)

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return ", ".join(f"{name}={value}" for name, value in self.options.items())


def _check_counts(k: Any, iterations: Any, method: Any, tolerance: Any) -> tuple[int, int]:
    counts = []
    for name, value in (("k", k), ("iterations", iterations)):
        counts.append(whole_number(name, value))
        if counts[-1] < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if isinstance(tolerance, bool) or not isinstance(tolerance, numbers.Real):
        raise TypeError(f"tolerance must be a number in [0, 1), got {tolerance!r}")
    if not 0 <= float(tolerance) < 1:
        raise ValueError(f"tolerance must be in [0, 1), got {tolerance}")
    return counts[0], counts[1]


def _check_arguments(
    z: Tensor, k: Any, iterations: Any, probe: Any, method: Any, tolerance: Any
) -> tuple[int, int]:
    k, iterations = _check_counts(k, iterations, method, tolerance)
    batch, size = len(z), z.shape[1:].numel()
    if k > size:
        raise ValueError(f"k must be at most m = {size}, the size of a latent code, got {k}")
    if probe is None:
        return k, iterations
    if not isinstance(probe, Tensor) or not probe.is_floating_point():
        got = probe.dtype if isinstance(probe, Tensor) else type(probe).__name__
        raise TypeError(f"probe must be a floating-point tensor (B, m, k), got {got}")
    if probe.shape != (batch, size, k):
        raise ValueError(
            f"probe must have shape (B, m, k) = {(batch, size, k)}, got {tuple(probe.shape)}"
        )
    return k, iterations


def _check_capturable(linear: Linearization, method: str, tolerance: float) -> None:
    if tolerance != 0:
        raise ValueError(
            f"tolerance is {tolerance}; accepted while a CUDA graph is captured: 0, as the number "
            "of directions would have to be read from the GPU"
        )
    if method != "gram" or linear.jacobian_bytes() > JACOBIAN_BUDGET:
        raise ValueError(
            f"method is {method}, of a Jacobian of {linear.jacobian_bytes()} bytes; accepted while "
            f'a CUDA graph is captured: "gram", up to {JACOBIAN_BUDGET} bytes'
        )


def _cheaper(
    linear: Linearization, k: int, iterations: int, tolerance: float, wants_gradient: bool
) -> str:
    """The route that takes less time by the counts of ``_cost``."""
    work, costs = linear.derivative.work(), machine(linear.device)
    size = linear.latent_shape[1:].numel()
    plain, graph = linear.chunk_size(), linear.chunk_size(graph=True)
    gram = work.forward(size, plain, costs)
    turns = iterations * work.both(k, graph, costs)
    if wants_gradient:
        # With a tolerance about half of the directions count.
        kept = size if tolerance == 0 else -(-size // 2)
        gram += work.both(kept, graph, costs)
        turns += (iterations - 1) * work.both(k, graph, costs)
        turns += work.both(min(size, 2 * k * iterations), graph, costs)
        unrolled = work.both(size, graph, costs)
        least = min(gram, turns) + _SMALL_ALGEBRA * costs.step
        if unrolled < least and size <= graph and linear.dtype.itemsize >= 4:
            return "unrolled"
    return "gram" if gram <= turns else "matrix_free"


# -- the algorithm on small matrices --------------------------------------------------------------


def alignment_mask(
    size: int, k: int, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> Tensor:
    """M_k of Eq. 11, (m, k): column j is zero in its first j − 1 rows."""
    return torch.ones(size, k, dtype=dtype, device=device).tril()


def alignment_signs(
    size: int,
    k: int,
    reweight: bool,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """S_k of Eq. 12, (m, k): −1 on the diagonal, 1 elsewhere, its columns weighted by Eq. 13."""
    signs = torch.ones(size, k, dtype=dtype, device=device)
    signs.fill_diagonal_(-1)
    if reweight:
        signs *= torch.arange(k, 0, -1, dtype=dtype, device=device) * (2 / (k * (k + 1)))
    return signs


def _constants(
    size: int, k: int, reweight: bool, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    mask = alignment_mask(size, k, dtype, device)
    return mask, alignment_signs(size, k, reweight, dtype, device)


_kept_constants = functools.lru_cache(16)(_constants)  # small, and the same at each update


@dataclass(frozen=True)
class _Problem:
    """What Algorithm 3 is given besides the Jacobian."""

    probe: Tensor  # (B, m, k)
    mask: Tensor  # (m, k)
    signs: Tensor  # (m, k)
    iterations: int

    @classmethod
    def of(cls, z: Tensor, dtype: torch.dtype, k, iterations, reweight, probe) -> _Problem:
        batch, size = len(z), z.shape[1:].numel()
        dtype = torch.promote_types(dtype, torch.float32)
        if probe is None:
            probe = parallel.draw(lambda n: random_signs((n, size, k), z.device), batch)
        probe = probe.detach().to(z.device, dtype)
        # What is made while a CUDA graph is captured belongs to that graph.
        constants = _constants if is_capturing() else _kept_constants
        mask, signs = constants(size, k, bool(reweight), probe.dtype, probe.device)
        return cls(probe, mask, signs, iterations)

    def value(self, vectors: Tensor) -> Tensor:
        """R: the mean over the batch of sum(S ∘ V ∘ V), V (B, m, k)."""
        return (self.signs * vectors.square()).sum() / vectors.shape[0]

    def iterated(self, product: Callable[[Tensor], Tensor]) -> Tensor:
        """V after T iterations with ``product``, V -> M V, all of them in the graph."""
        vectors = self.mask * self.probe
        for _ in range(self.iterations):
            image = self.mask * product(vectors)
            vectors = image / (torch.linalg.vector_norm(image, dim=1, keepdim=True) + EPS)
        return vectors

    def value_gradient(self, vectors: Tensor) -> Tensor:
        """dR/dV."""
        return self.signs * vectors * (2 / vectors.shape[0])


def random_signs(shape: Sequence[int], device: torch.device) -> Tensor:
    """Rademacher numbers from PyTorch's global generator of ``device``."""
    return torch.randint(0, 2, tuple(shape), device=device) * 2.0 - 1.0


@dataclass(frozen=True)
class _Directions:
    """Where the penalty's gradient is that of Σ_r <seed_r, J q_r>, or of Σ_r λ_r ‖J q_r‖².

    ``tangents`` are the q, ``seeds`` one (B, r, *out) an output; without seeds ``weights`` are λ.
    """

    tangents: Tensor  # (r, B, m)
    seeds: list[Tensor] | None
    weights: Tensor | None


# -- one graph of everything ---------------------------------------------------------------------


def _unrolled(linear: Linearization, problem: _Problem, z: Tensor, coupled: str) -> Tensor:
    """All of J, and Algorithm 3 on its Gram matrix, in the graph: the fewest calls.

    For small problems, where calls cost more than what they compute. Steps without a rule are
    differentiated apart from the function, so that what goes wrong there can be said.
    """
    program = linear.derivative
    apart = bool(program.live or program.general)
    with torch.enable_grad(), torch.autocast(linear.device.type, enabled=False):
        if apart:
            needed = [tensor.requires_grad for tensor in program.captured]
            leaves, wanted = _leaves(linear, needed)
        else:
            leaves = program.attached(linear.dtype)
        gram = gram_of_columns(_columns_in_the_graph(linear, leaves, coupled))
        refuse_infinite(gram, linear)
        value = problem.value(problem.iterated(lambda vectors: gram @ vectors))
        if not apart:
            return _once_differentiable(value, z)
        return _Apart.apply(value.detach(), z, value, program, leaves, wanted, *program.captured)


def _columns_in_the_graph(
    linear: Linearization, captured: Sequence[Tensor], coupled: str
) -> list[Tensor]:
    """J (B, m, *out), an output each, with one more tangent to see whether samples are coupled."""
    program, basis = linear.derivative, linear.basis()

    def pushed(tangents: Tensor) -> list[Tensor]:
        return [image.transpose(0, 1) for image in program.push(tangents, captured)]

    if linear.samples_are_apart:
        return pushed(basis)
    w = probing_tangents(linear.latent_shape, linear.dtype, linear.device)[0][0]
    both = pushed(torch.cat([basis, w[None]]))
    columns = [image[:, :-1] for image in both]
    if mixes_columns([image[:, -1] for image in both], columns, w.flatten(1), program.rounding):
        linear.keep_samples_apart(coupled)
        return pushed(basis)
    return columns


class _Apart(torch.autograd.Function):
    """The value of a graph that ends at ``leaves``, which stand for what the function read."""

    @staticmethod
    def forward(ctx, value, z, inside, program, leaves, wanted, *captured):  # z as of _Gradient
        ctx.inside, ctx.program, ctx.leaves, ctx.wanted = inside, program, leaves, wanted
        ctx.save_for_backward(*captured)
        return value

    @staticmethod
    def backward(ctx, cotangent):
        _refuse_double_backward()
        parts: list[Tensor | None] = [None] * len(ctx.leaves)
        if ctx.inside.requires_grad and ctx.wanted:
            found = _pulled(ctx.program, [ctx.inside], ctx.leaves, ctx.wanted, [cotangent], True)
            for i, part in zip(ctx.wanted, found):
                parts[i] = part
        scaled = [
            _nothing(saved) if part is None else part.to(saved.dtype)
            for part, saved in zip(parts, ctx.saved_tensors)
        ]
        return (None, None, None, None, None, None, *scaled)


def _once_differentiable(value: Tensor, z: Tensor) -> Tensor:
    """The value of a graph, for a gradient that is the same by every route: not to be taken twice.

    Where J is constant, so that there is no graph, it still has a backward if ``z`` has one.
    """
    if not value.requires_grad:
        return value + z.flatten()[:0].sum() if z.requires_grad else value
    value.register_hook(_refuse_double_backward)
    return value


# -- Gram route ----------------------------------------------------------------------------------


def _gram_route(linear: Linearization, problem: _Problem, tolerance: float, wants_gradient: bool):
    """All of J, a chunk of columns at a time; then everything on (m, m)."""
    columns = None
    if linear.jacobian_bytes() <= JACOBIAN_BUDGET:
        columns = linear.columns(linear.basis())
        gram = gram_of_columns(columns)
    else:
        gram = linear.gram_matrix()
    refuse_infinite(gram, linear)
    if not wants_gradient:
        vectors, _ = masked_power_iteration(
            gram, problem.probe, problem.mask, problem.iterations, EPS
        )
        return problem.value(vectors), None
    with torch.enable_grad():
        source = gram.detach().requires_grad_()
        vectors, _ = masked_power_iteration(
            source, problem.probe, problem.mask, problem.iterations, EPS
        )
        (slope,) = torch.autograd.grad(vectors, source, problem.value_gradient(vectors.detach()))
    value = problem.value(vectors.detach())
    slope = (slope + slope.mT) / 2
    if columns is None:
        return value, _leading_eigenvectors(slope, tolerance)
    return value, _leading_directions(columns, gram, slope, tolerance)


def _leading_directions(
    columns: list[Tensor], gram: Tensor, slope: Tensor, tolerance: float
) -> _Directions:
    """The best low-rank form of J C: its right-singular vectors, from the eigenvectors of C M C."""
    if tolerance == 0:  # the axes do as well as any other full basis, without rounding
        vectors = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device).expand_as(gram)
        return _directions_along(vectors, columns, slope)
    energy, vectors = torch.linalg.eigh(slope @ gram @ slope)
    energy, vectors = energy.flip(-1).clamp_min(0), vectors.flip(-1)
    return _directions_along(vectors[..., : _rank(energy, tolerance**2)], columns, slope)


def _directions_along(vectors: Tensor, columns: list[Tensor], slope: Tensor) -> _Directions:
    """Seeds 2 J C q for the orthonormal columns q of ``vectors`` (B, m, r)."""
    images = 2 * (slope @ vectors).mT
    seeds = []
    for part in columns:
        seed = like_columns(part, len(images), images.shape[1], part.dtype)
        torch.bmm(images, in_memory_order(part), out=in_memory_order(seed))
        seeds.append(seed)
    return _Directions(vectors.permute(2, 0, 1).contiguous(), seeds, None)


def _leading_eigenvectors(slope: Tensor, tolerance: float) -> _Directions:
    """C = Σ λ q q', the smallest |λ| left out."""
    weights, vectors = torch.linalg.eigh(slope)
    order = weights.abs().argsort(-1, descending=True)
    weights = weights.gather(-1, order)
    vectors = vectors.gather(-1, order[:, None, :].expand_as(vectors))
    rank = _rank(weights.abs(), tolerance)
    tangents = vectors[..., :rank].permute(2, 0, 1).contiguous()
    return _Directions(tangents, None, weights[:, :rank])


def _rank(magnitudes: Tensor, fraction: float) -> int:
    """How many of the (B, m) descending magnitudes to keep so that the rest sum to a fraction."""
    sums = parallel.total(magnitudes.sum(0).double())
    left_out = sums.flip(0).cumsum(0).flip(0)  # from each one on
    total = left_out[0]
    return max(1, int((left_out > fraction * total).sum()))


# -- matrix-free route ---------------------------------------------------------------------------


def _matrix_free_route(
    linear: Linearization, problem: _Problem, tolerance: float, wants_gradient: bool
):
    """T JVP→VJP turns forward and T − 1 in the adjoint; tangents are (k, B, m)."""
    mask, dtype = problem.mask.mT[:, None, :], problem.probe.dtype

    def product(vectors: Tensor) -> Tensor:
        images = linear.gram_product(vectors.reshape(len(vectors), *linear.latent_shape))
        return images.flatten(2).to(dtype)

    vectors = [mask * problem.probe.permute(2, 0, 1)]
    images, norms = [], []
    for _ in range(problem.iterations):
        images.append(mask * product(vectors[-1]))
        norms.append(images[-1].norm(dim=-1, keepdim=True))
        vectors.append(images[-1] / (norms[-1] + EPS))
    refuse_infinite(vectors[-1], linear)
    last = vectors[-1].permute(1, 2, 0)
    value = problem.value(last)
    if not wants_gradient:
        return value, None
    cotangent = problem.value_gradient(last).permute(2, 0, 1)
    slopes = []
    for i in reversed(range(problem.iterations)):
        slopes.append(mask * _normalise_adjoint(cotangent, images[i], norms[i]))
        if i:
            cotangent = product(slopes[-1])
    left = torch.cat(slopes[::-1]).permute(1, 2, 0)  # (B, m, kT)
    right = torch.cat(vectors[:-1]).permute(1, 2, 0)
    return value, _leading_eigenvectors_of_product(left, right, tolerance)


def _normalise_adjoint(cotangent: Tensor, image: Tensor, norm: Tensor) -> Tensor:
    """Adjoint of w / (‖w‖ + eps), with no contribution of the norm where it is zero."""
    guarded = norm + EPS
    along = (image * cotangent).sum(-1, keepdim=True)
    inverse = torch.where(norm > 0, 1 / (norm * guarded.square()), torch.zeros_like(norm))
    return cotangent / guarded - image * (along * inverse)


def _leading_eigenvectors_of_product(left: Tensor, right: Tensor, tolerance: float) -> _Directions:
    """Eigenvectors of sym(left right'), in the span of the factors where that is the smaller."""
    factors = torch.cat([left, right], -1)
    if factors.shape[-1] >= factors.shape[-2]:
        product = left @ right.mT
        return _leading_eigenvectors((product + product.mT) / 2, tolerance)
    basis, coordinates = torch.linalg.qr(factors)
    first, second = coordinates.chunk(2, -1)
    product = first @ second.mT
    core = _leading_eigenvectors((product + product.mT) / 2, tolerance)
    return _Directions(
        (core.tangents.movedim(0, 1) @ basis.mT).movedim(1, 0).contiguous(), None, core.weights
    )


# -- the gradient --------------------------------------------------------------------------------


def _with_gradient(
    value: Tensor, z: Tensor, linear: Linearization, directions: _Directions
) -> Tensor:
    """Attach to the value the gradient that flows to whatever the function read."""
    return _Gradient.apply(value, z, linear, directions, *linear.derivative.captured)


def _refuse_double_backward(_gradient: Tensor | None = None) -> None:
    if torch.is_grad_enabled():  # what create_graph=True does
        raise RuntimeError(
            "the gradient of alignment_penalty cannot be differentiated again "
            '(create_graph=True); method="autograd" can'
        )


class _Gradient(torch.autograd.Function):
    """Identity on the penalty's value; its backward is the tangent pass and one reverse pass.

    Each chunk's graph is freed before the next is built, so memory does not grow with the rank.
    """

    @staticmethod
    def forward(ctx, value, z, linear, directions, *captured):  # z: where J does not depend on it
        ctx.linear, ctx.directions = linear, directions
        ctx.save_for_backward(*captured)
        return value.clone()

    @staticmethod
    def backward(ctx, cotangent):
        _refuse_double_backward()
        needed = ctx.needs_input_grad[4:]
        gradients = _form_gradient(ctx.linear, ctx.directions, needed)
        scaled = [
            _nothing(saved) if g is None else (g * cotangent.to(g.dtype)).to(saved.dtype)
            for g, saved in zip(gradients, ctx.saved_tensors)
        ]
        return (None, None, None, None, *scaled)


def _nothing(tensor: Tensor) -> Tensor | None:
    """No gradient; zeros where the caller has hooked a value, as a hook expects a tensor."""
    hooked = tensor.grad_fn is not None and tensor._backward_hooks
    return tensor.new_zeros(()).expand_as(tensor) if hooked else None


def _form_gradient(
    linear: Linearization, directions: _Directions, needed: Sequence[bool]
) -> list[Tensor | None]:
    """The gradient of the penalty with respect to what the function read, chunk by chunk.

    It is that of Σ <seed, J q>, or of Σ λ ‖J q‖²: functions of J alone.
    """
    program = linear.derivative
    leaves, wanted = _leaves(linear, needed)
    sums: list[Tensor | None] = [None] * len(leaves)
    start = 0
    tangents = directions.tangents.reshape(-1, *linear.latent_shape)
    for chunk in linear.chunks(tangents, graph=True):
        with torch.enable_grad():
            outputs = program.push(chunk.to(linear.dtype), leaves)
        moving = [
            (output, _seed(output.detach(), directions, i, start))
            for i, output in zip(program.moved, outputs)
            if output.requires_grad
        ]
        start += len(chunk)
        if not moving or not wanted:
            continue
        parts = _pulled(
            program,
            [output for output, _ in moving],
            leaves,
            wanted,
            [seed for _, seed in moving],
            bool(program.live),
        )
        for i, part in zip(wanted, parts):
            if part is not None:
                wide = part.to(torch.promote_types(part.dtype, torch.float32))
                before = sums[i]
                sums[i] = wide if before is None else before.add_(wide)
    return sums


def _leaves(linear: Linearization, needed: Sequence[bool]) -> tuple[list[Tensor], list[int]]:
    """What the steps read, cut off from the function, and which of it gets a gradient."""
    program = linear.derivative
    leaves = program.prepare(linear.dtype)
    wanted = [i for i, need in enumerate(needed) if need and differentiable(leaves[i])]
    for i in wanted:
        if i < len(leaves) - program.live:
            leaves[i] = leaves[i].detach().requires_grad_()
    return leaves, wanted


def _pulled(
    program: Program,
    ends: Sequence[Tensor],
    leaves: Sequence[Tensor],
    wanted: Sequence[int],
    seeds: Sequence[Tensor],
    keep: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients by the wanted leaves; DerivativeError if some step has none of that order."""
    try:
        with program.cut_at_the_input():
            return torch.autograd.grad(
                ends, [leaves[i] for i in wanted], seeds, allow_unused=True, retain_graph=keep
            )
    except (RuntimeError, NotImplementedError) as error:
        raise DerivativeError(
            f"an operation of fn ({', '.join(program.general)}) has no derivative of the order "
            f"that the gradient of the penalty needs: {error}"
        ) from error


def _seed(output: Tensor, directions: _Directions, index: int, start: int) -> Tensor:
    """The cotangent at an output of one chunk of directions, laid out as the output is."""
    part = slice(start, start + len(output))
    if directions.weights is not None:
        weights = 2 * directions.weights[:, part].mT
        return output * weights.reshape(*weights.shape, *(1,) * (output.dim() - 2)).to(output.dtype)
    assert directions.seeds is not None
    return torch.empty_like(output).copy_(directions.seeds[index][:, part].transpose(0, 1))


# -- the oracle ----------------------------------------------------------------------------------


def _by_autograd(fn, z, args, kwargs, k, iterations, reweight, probe) -> Tensor:
    """Algorithm 3 unrolled, every product with M by reverse mode twice, all of it in the graph."""
    with torch.enable_grad():
        z_in = (z if z.requires_grad else z.detach().requires_grad_()).clone()
        with (
            torch.compiler.set_stance("force_eager"),
            DecomposedFunctions(write_statistics=True),
            RefuseWrongDerivatives(),
        ):
            outputs = output_tensors(fn(z_in, *args, **kwargs), z)
        check_finite(outputs)
        outputs = [output for output in outputs if output.requires_grad]
        probes = [torch.zeros_like(output, requires_grad=True) for output in outputs]
        pulled = outputs and torch.autograd.grad(
            outputs, z_in, probes, create_graph=True, allow_unused=True
        )
        if not outputs or pulled[0] is None:
            raise ValueError("fn must depend on z, but its output is computed without it")

        def push(vectors: Tensor, *, graph: bool) -> tuple[Tensor, ...]:
            try:
                return torch.autograd.grad(
                    pulled,
                    probes,
                    vectors.reshape(z.shape),
                    create_graph=graph,
                    retain_graph=True,
                    materialize_grads=True,
                )
            except RuntimeError as error:
                raise DerivativeError(
                    f"fn cannot be differentiated twice by reverse mode: {error}"
                ) from error

        if is_coupled(
            lambda tangents: [
                torch.stack(rows) for rows in zip(*(push(t, graph=False) for t in tangents))
            ],
            z.shape,
            z.dtype,
            z.device,
        ):
            refuse_coupled([])

        def product(vectors: Tensor) -> Tensor:
            columns: list[Tensor] = []
            for column in vectors.unbind(-1):
                pushed = push(column.to(z.dtype), graph=True)
                columns += torch.autograd.grad(outputs, z_in, pushed, create_graph=True)
            return torch.stack([column.flatten(1) for column in columns], -1)

        problem = _Problem.of(z, z.dtype, k, iterations, reweight, probe)
        vectors = problem.iterated(product)
        refuse_infinite(vectors, None)
        return problem.value(vectors)
