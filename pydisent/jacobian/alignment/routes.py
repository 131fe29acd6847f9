"""The routes to the penalty and its gradient, and the choice between them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pydisent.jacobian._arguments import Coupled
from pydisent.jacobian._coupling import keep_samples_apart
from pydisent.jacobian._directions import (
    Directions,
    Keep,
    leading_eigenvectors_of_product,
    subspace_of_product,
)
from pydisent.jacobian._finite import refuse_infinite
from pydisent.jacobian._gradient import with_gradient
from pydisent.jacobian._gram import gram_form
from pydisent.jacobian._modes import is_capturing
from pydisent.jacobian.alignment._algorithm import EPS, Problem
from pydisent.jacobian.alignment._unrolled import unrolled
from pydisent.jacobian.cost import machine
from pydisent.jacobian.linearization import Linearization
from pydisent.ops import masked_power_iteration

_SMALL_ALGEBRA = 30  # steps that take as long as the algebra on small matrices


def penalty(
    linear: Linearization,
    problem: Problem,
    z: Tensor,
    *,
    method: Literal["auto", "gram", "matrix_free"],
    keep: Keep,
    coupled: Coupled,
    wants_gradient: bool,
) -> Tensor:
    """The penalty computed by one of the routes, with its gradient attached."""
    route: str = method
    if method == "auto":
        if keep.rank is not None:
            route = _of_fewer_rows(linear, problem, keep.rank)
        else:
            exact = keep.tolerance == 0
            route = "gram" if is_capturing() else _cheaper(linear, problem, exact, wants_gradient)
    if route == "unrolled":
        return unrolled(linear, problem, z, coupled)
    keep_samples_apart(linear, coupled)
    if is_capturing():
        _check_capturable(linear, route, keep)
    evaluate = gram_route if route == "gram" else matrix_free_route
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        value, directions = evaluate(linear, problem, keep, wants_gradient)
    return value if directions is None else with_gradient(value, z, linear, directions)


def _check_capturable(linear: Linearization, method: str, keep: Keep) -> None:
    if keep.rank is not None:
        return
    if keep.tolerance != 0:
        raise ValueError(
            "tolerance must be 0, or rank be given, while a CUDA graph is captured, as the number "
            f"of directions would have to be read from the GPU, got {keep.tolerance}"
        )
    if method != "gram" or not linear.jacobian_fits:
        raise ValueError(
            "rank must be given while a CUDA graph is captured, unless the method is 'gram' and "
            "the Jacobian fits into the memory budget, got None"
        )


def _cheaper(linear: Linearization, problem: Problem, exact: bool, wants_gradient: bool) -> str:
    """The route with the least time as estimated by ``cost``."""
    k, iterations = problem.probe.shape[-1], problem.iterations
    work, costs = linear.program.work(), machine(linear.device)
    size = linear.latent_shape[1:].numel()
    plain, graph = linear.chunk_size(), linear.chunk_size(graph=True)
    gram = work.forward(size, plain, costs)
    turns = iterations * work.both(k, graph, costs)
    if wants_gradient:
        # A tolerance drops about half of the directions.
        kept = size if exact else -(-size // 2)
        gram += work.both(kept, graph, costs)
        turns += (iterations - 1) * work.both(k, graph, costs)
        turns += work.both(min(size, 2 * k * iterations), graph, costs)
        whole = work.both(size, graph, costs)
        least = min(gram, turns) + _SMALL_ALGEBRA * costs.step
        if whole < least and size <= graph and linear.dtype.itemsize >= 4:
            return "unrolled"
    return "gram" if gram <= turns else "matrix_free"


def _of_fewer_rows(linear: Linearization, problem: Problem, rank: int) -> str:
    """The route that pushes fewer rows, eager or captured, counting a reverse pass as two."""
    size = linear.latent_shape[1:].numel()
    gram = size if linear.jacobian_fits else 3 * size + rank
    turns = 3 * problem.probe.shape[-1] * (2 * problem.iterations - 1) + rank
    return "gram" if gram <= turns else "matrix_free"


def gram_route(
    linear: Linearization, problem: Problem, keep: Keep, wants_gradient: bool
) -> tuple[Tensor, Directions | None]:
    """All of J, in chunks of columns; then everything on (m, m) matrices."""

    def objective(gram: Tensor) -> Tensor:
        vectors, _ = masked_power_iteration(
            gram, problem.probe, problem.mask, problem.iterations, EPS
        )
        return problem.value(vectors)

    return gram_form(linear, objective, keep, wants_gradient=wants_gradient)


def matrix_free_route(
    linear: Linearization, problem: Problem, keep: Keep, wants_gradient: bool
) -> tuple[Tensor, Directions | None]:
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
    if keep.rank is not None:
        return value, subspace_of_product(linear, left, right, keep.rank)
    return value, leading_eigenvectors_of_product(left, right, keep.tolerance)


def _normalise_adjoint(cotangent: Tensor, image: Tensor, norm: Tensor) -> Tensor:
    """Adjoint of w / (‖w‖ + eps), without the norm's contribution where the norm is zero."""
    guarded = norm + EPS
    along = (image * cotangent).sum(-1, keepdim=True)
    inverse = torch.where(norm > 0, 1 / (norm * guarded.square()), torch.zeros_like(norm))
    return cotangent / guarded - image * (along * inverse)
