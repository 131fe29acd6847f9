"""The leading right-singular vectors of a generator's Jacobian across latent space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pydisent._checks import check, check_counts, check_integer, check_number
from pydisent.jacobian._arguments import Coupled, checked_keywords
from pydisent.jacobian._eager import run_eagerly
from pydisent.jacobian._finite import refuse_infinite
from pydisent.jacobian.linearization import Linearization, linearize_checked


@run_eagerly
def eigenvectors(
    fn: Callable[..., Any],
    z: Tensor,
    *args: Any,
    compute_dtype: torch.dtype | None = None,
    chunk: int | None = None,
    coupled: Coupled = "error",
    fn_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Eigenvalues (B, m), descending, and eigenvectors (B, m, m), in columns, of M = J'J at ``z``.

    Each column has the sign that makes its entry of largest magnitude positive. Arguments and
    errors are those of :func:`linearize`.
    """
    kwargs = checked_keywords(
        eigenvectors, fn, z, kwargs, fn_kwargs,
        compute_dtype=compute_dtype, chunk=chunk, coupled=coupled,
    )  # fmt: skip
    return _eigenvectors(linearize_checked(fn, z, args, kwargs, compute_dtype, chunk, coupled))


def _eigenvectors(linear: Linearization) -> tuple[Tensor, Tensor]:
    gram = linear.gram_matrix()
    refuse_infinite(gram, linear)
    values, vectors = torch.linalg.eigh(gram)
    vectors = vectors.flip(-1)
    largest = vectors.gather(-2, vectors.abs().argmax(-2, keepdim=True))
    return values.flip(-1).clamp_min(0), vectors * torch.where(largest < 0, -1.0, 1.0).to(vectors)


@run_eagerly
def eigenvector_heatmap(
    fn: Callable[..., Any],
    z: Tensor,
    *args: Any,
    compute_dtype: torch.dtype | None = None,
    chunk: int | None = None,
    coupled: Coupled = "error",
    fn_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Tensor:
    """Ramesh et al. 2018, Eq. 6: F = E V ∘ V, (m, m), the mean over the B latent codes ``z``.

    Column j is the mean square of the j-th leading eigenvector of M = J'J: close to one-hot at
    row i if that eigenvector is aligned with axis i on average. Arguments and errors are those of
    :func:`linearize`.

    Examples
    --------
    >>> stretch = torch.tensor([1.0, 3.0])  # the second axis leads
    >>> eigenvector_heatmap(lambda z: z * stretch, torch.zeros(5, 2)).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    kwargs = checked_keywords(
        eigenvector_heatmap, fn, z, kwargs, fn_kwargs,
        compute_dtype=compute_dtype, chunk=chunk, coupled=coupled,
    )  # fmt: skip
    linear = linearize_checked(fn, z, args, kwargs, compute_dtype, chunk, coupled)
    _, vectors = _eigenvectors(linear)
    return vectors.square().mean(0)


@run_eagerly
def trace_eigenpath(
    fn: Callable[..., Any],
    z: Tensor,
    *args: Any,
    ordinals: Sequence[int] = (1,),
    step_size: float = 1.5e-2,
    decay: float = 0.0,
    steps: int = 180,
    compute_dtype: torch.dtype | None = None,
    chunk: int | None = None,
    coupled: Coupled = "error",
    fn_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Tensor:
    """Follow leading eigenvectors of M through latent space (Ramesh et al. 2018, Algorithm 1).

    Parameters
    ----------
    fn, args, kwargs, compute_dtype, chunk, coupled, fn_kwargs
        As in :func:`linearize`.
    z
        Starting points of the paths, (B, *latent), with m numbers per code.
    ordinals
        Which eigenvectors to follow, from 1 for the leading one to m.
    step_size
        α > 0: z_i = z_{i−1} − α w_i.
    decay
        ρ in [0, 1): w_i = ρ w_{i−1} + (1 − ρ) v, for i >= 2.
    steps
        N >= 1.

    Returns
    -------
    Tensor
        The paths, (len(ordinals), B, N + 1, *latent), starting at ``z``. The first eigenvector
        has the sign that makes its entry of largest magnitude positive; after that a path never
        turns back.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    Examples
    --------
    >>> stretch = torch.tensor([3.0, 1.0])
    >>> paths = trace_eigenpath(lambda z: z * stretch, torch.zeros(1, 2), step_size=0.5, steps=2)
    >>> paths[0, 0].tolist()  # against the leading eigenvector, the first axis
    [[0.0, 0.0], [-0.5, 0.0], [-1.0, 0.0]]
    """
    kwargs = checked_keywords(
        trace_eigenpath, fn, z, kwargs, fn_kwargs,
        compute_dtype=compute_dtype, chunk=chunk, coupled=coupled,
    )  # fmt: skip
    ordinals = _check_path(z, ordinals, step_size, decay, steps)

    def vectors_at(z: Tensor) -> Tensor:
        linear = linearize_checked(fn, z, args, kwargs, compute_dtype, chunk, coupled)
        return _eigenvectors(linear)[1]

    # Paths are not batched together: only the caller knows which arguments, and which values that
    # fn closes over, belong to one sample each.
    return torch.stack(
        [path_along(vectors_at, z.detach(), i - 1, step_size, decay, steps) for i in ordinals]
    )


def path_along(
    vectors_at: Callable[[Tensor], Tensor],
    z: Tensor,
    column: int,
    step_size: float,
    decay: float,
    steps: int,
) -> Tensor:
    """The paths (B, N + 1, *latent) along one column of the vectors from ``vectors_at``."""
    position, path, direction = z, [z], None
    for _ in range(steps):
        direction = next_direction(vectors_at(position)[..., column].to(z.dtype), direction, decay)
        position = position - step_size * direction.reshape(z.shape)
        path.append(position)
    return torch.stack(path, 1)


def next_direction(vector: Tensor, previous: Tensor | None, decay: float = 0.0) -> Tensor:
    """Return w_i of Algorithm 1 for the eigenvectors v (B, m) at a point, (B, m).

    The sign of v is chosen so that the path does not turn back, and w_i = ρ w_{i−1} + (1 − ρ) v for
    the decay ρ. At the start, without a `previous` w_{i−1} (B, m), it is v.
    """
    if previous is None:
        return vector
    backward = (previous * vector).sum(-1, keepdim=True) < 0
    return decay * previous + (1 - decay) * torch.where(backward, -vector, vector)


def _check_path(z: Tensor, ordinals: Any, step_size: Any, decay: Any, steps: Any) -> list[int]:
    several = isinstance(ordinals, (list, tuple, range)) or hasattr(ordinals, "__len__")
    numbers = list(ordinals) if several else [ordinals]
    check(len(numbers) > 0, "ordinals", "at least one integer", numbers)
    for number in numbers:
        check_integer("ordinals", number, at_least=1, at_most=z.shape[1:].numel())
    check_number("step_size", step_size, above=0, finite=False)
    check_number("decay", decay, at_least=0, below=1)
    check_counts(steps=steps)
    return [int(number) for number in numbers]
