"""What the leading right-singular vectors of a generator's Jacobian do across latent space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pydisent.jacobian.linearization import linearize


def eigenvectors(
    fn: Callable[..., Any], z: Tensor, *args: Any, chunk: int | None = None, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """Eigenvalues (B, m), descending, and eigenvectors (B, m, m), in columns, of M = J'J at ``z``.

    A column's sign is that which makes its largest entry in magnitude positive. Arguments and
    errors are those of :func:`linearize`.
    """
    gram = linearize(fn, z, *args, chunk=chunk, **kwargs).gram_matrix()
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
    """
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
        Where the paths begin, (B, m).
    ordinals
        Which eigenvectors to follow, from 1 for the leading one to m; all paths advance together.
    step_size
        α > 0: z_i = z_{i−1} − α w_i.
    decay
        ρ in [0, 1): w_i = ρ w_{i−1} + (1 − ρ) v, for i >= 2.
    steps
        N >= 1.

    Returns
    -------
    Tensor
        The paths, (len(ordinals), B, N + 1, m), starting with ``z``. The first eigenvector has the
        sign that makes its largest entry positive; after that a path never turns back.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.
    """
    ordinals = _check_path(z, ordinals, step_size, decay, steps)
    batch, size = z.shape
    chosen = torch.tensor(ordinals, device=z.device).repeat_interleave(batch) - 1
    position = z.detach().repeat(len(ordinals), 1)
    args, kwargs = _repeated((args, kwargs), batch, len(ordinals))
    path, direction = [position], None
    for _ in range(steps):
        _, vectors = eigenvectors(fn, position, *args, chunk=chunk, **kwargs)
        index = chosen[:, None, None].expand(-1, size, 1)
        vector = vectors.gather(-1, index).squeeze(-1).to(z.dtype)
        if direction is not None:
            backward = (direction * vector).sum(-1, keepdim=True) < 0
            vector = torch.where(backward, -vector, vector)
            vector = decay * direction + (1 - decay) * vector
        direction = vector
        position = position - step_size * vector
        path.append(position)
    return torch.stack(path, 1).unflatten(0, (len(ordinals), batch))


def _repeated(tree: Any, batch: int, times: int) -> Any:
    """Arguments that have the batch in front, once for each ordinal."""

    def repeat(value: Any) -> Any:
        if isinstance(value, Tensor) and value.dim() and value.shape[0] == batch:
            return value.repeat(times, *(1,) * (value.dim() - 1))
        return value

    return pytree.tree_map(repeat, tree)


def _check_path(z: Any, ordinals: Any, step_size: Any, decay: Any, steps: Any) -> list[int]:
    if not isinstance(z, Tensor) or not z.is_floating_point():
        raise TypeError(f"z must be a floating-point tensor (B, m), got {z!r:.60}")
    if z.dim() != 2 or 0 in z.shape:
        raise ValueError(f"z must have shape (B, m) with B, m >= 1, got {tuple(z.shape)}")
    ordinals = [ordinals] if isinstance(ordinals, int) else list(ordinals)
    size = z.shape[1]
    if not ordinals or not all(isinstance(o, int) and 1 <= o <= size for o in ordinals):
        raise ValueError(f"ordinals must be whole numbers from 1 to m = {size}, got {ordinals}")
    if not step_size > 0:
        raise ValueError(f"step_size must be above 0, got {step_size}")
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), got {decay}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a whole number of at least 1, got {steps!r}")
    return ordinals
