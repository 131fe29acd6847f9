"""Ramesh et al. 2018, Algorithm 3, on small matrices."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pydisent import parallel
from pydisent.jacobian._derivative import Derivative
from pydisent.jacobian._modes import can_keep_tensors

EPS = 1e-8  # Algorithm 2's guard against division by zero


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


_cached_constants = functools.lru_cache(16)(_constants)  # small, and the same at each update


@dataclass(frozen=True)
class Problem:
    """The inputs of Algorithm 3 besides the Jacobian."""

    probe: Tensor  # (B, m, k)
    mask: Tensor  # (m, k)
    signs: Tensor  # (m, k)
    iterations: int

    @classmethod
    def of(
        cls, derivative: Derivative, k: int, iterations: int, reweight: bool, probe: Tensor | None
    ) -> Problem:
        batch, size = derivative.latent_shape[0], derivative.latent_shape[1:].numel()
        dtype, device = torch.promote_types(derivative.dtype, torch.float32), derivative.device
        if probe is None:
            probe = parallel.draw(lambda n: random_signs((n, size, k), device), batch)
        constants = _cached_constants if can_keep_tensors() else _constants
        mask, signs = constants(size, k, bool(reweight), dtype, device)
        return cls(probe.detach().to(device, dtype), mask, signs, iterations)

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
    """Rademacher numbers from PyTorch's global generator for ``device``."""
    return torch.randint(0, 2, tuple(shape), device=device) * 2.0 - 1.0
