"""What the leading right-singular vectors of a generator's Jacobian do across latent space."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pydisent.jacobian._finite import refuse_infinite
from pydisent.jacobian.linearization import check_codes, check_keywords, linearize, whole_number

_OF_LINEARIZE = frozenset(inspect.signature(linearize).parameters)


def eigenvectors(
    fn: Callable[..., Any], z: Tensor, *args: Any, chunk: int | None = None, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """Eigenvalues (B, m), descending, and eigenvectors (B, m, m), in columns, of M = J'J at ``z``.

    A column's sign is that which makes its largest entry in magnitude positive. Arguments and
    errors are those of :func:`linearize`.
    """
    _check_keywords(fn, kwargs, eigenvectors)
    linear = linearize(fn, z, *args, chunk=chunk, **kwargs)
    gram = linear.gram_matrix()
    refuse_infinite(gram, linear)
    values, vectors = torch.linalg.eigh(gram)
    vectors = vectors.flip(-1)
    largest = vectors.gather(-2, vectors.abs().argmax(-2, keepdim=True))
    return values.flip(-1).clamp_min(0), vectors * torch.where(largest < 0, -1.0, 1.0).to(vectors)


def eigenvector_heatmap(
    fn: Callable[..., Any], z: Tensor, *args: Any, chunk: int | None = None, **kwargs: Any
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
    _check_keywords(fn, kwargs, eigenvector_heatmap)
    _, vectors = eigenvectors(fn, z, *args, chunk=chunk, **kwargs)
    return vectors.square().mean(0)


def trace_eigenpath(
    fn: Callable[..., Any],
    z: Tensor,
    *args: Any,
    ordinals: Sequence[int] = (1,),
    step_size: float = 1.5e-2,
    decay: float = 0.0,
    steps: int = 180,
    chunk: int | None = None,
    **kwargs: Any,
) -> Tensor:
    """Follow leading eigenvectors of M through latent space (Ramesh et al. 2018, Algorithm 1).

    Parameters
    ----------
    fn, args, kwargs, chunk
        As of :func:`linearize`.
    z
        Where the paths begin, (B, *latent), with m numbers a code.
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
        The paths, (len(ordinals), B, N + 1, *latent), starting with ``z``. The first eigenvector
        has the sign that makes its largest entry positive; after that a path never turns back.

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
    _check_keywords(fn, kwargs, trace_eigenpath)
    ordinals = _check_path(z, ordinals, step_size, decay, steps)
    paths = [
        _trace_one(fn, z.detach(), args, kwargs, ordinal, step_size, decay, steps, chunk)
        for ordinal in ordinals
    ]
    return torch.stack(paths)


def _check_keywords(
    fn: Callable[..., Any], kwargs: dict[str, Any], own: Callable[..., Any]
) -> None:
    """As `check_keywords`, where ``linearize`` takes some of them."""
    others = {name: value for name, value in kwargs.items() if name not in _OF_LINEARIZE}
    check_keywords(fn, others, own, linearize)


def _trace_one(fn, z, args, kwargs, ordinal, step_size, decay, steps, chunk) -> Tensor:
    """One ordinal's paths, (B, N + 1, *latent)."""
    # Each has calls of its own, as only the caller knows which arguments, and what of that which
    # fn closes over, belong to one sample each.
    position, path, direction = z, [z], None
    for _ in range(steps):
        _, vectors = eigenvectors(fn, position, *args, chunk=chunk, **kwargs)
        vector = vectors[..., ordinal - 1].to(z.dtype)
        if direction is not None:
            backward = (direction * vector).sum(-1, keepdim=True) < 0
            vector = torch.where(backward, -vector, vector)
            vector = decay * direction + (1 - decay) * vector
        direction = vector
        position = position - step_size * vector.reshape(z.shape)
        path.append(position)
    return torch.stack(path, 1)


def _check_path(z: Any, ordinals: Any, step_size: Any, decay: Any, steps: Any) -> list[int]:
    check_codes(z)
    if isinstance(ordinals, (list, tuple, range)) or hasattr(ordinals, "__len__"):
        numbers = [whole_number("ordinals", ordinal) for ordinal in ordinals]
    else:
        numbers = [whole_number("ordinals", ordinals)]
    size = z.shape[1:].numel()
    if not numbers or not all(1 <= number <= size for number in numbers):
        raise ValueError(f"ordinals must be whole numbers from 1 to m = {size}, got {numbers}")
    if not step_size > 0:
        raise ValueError(f"step_size must be above 0, got {step_size}")
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), got {decay}")
    if whole_number("steps", steps) < 1:
        raise ValueError(f"steps must be a whole number of at least 1, got {steps!r}")
    return numbers
