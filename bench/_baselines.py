"""Other ways to the alignment penalty's gradient, as people write them: what pydisent is measured against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

EPS = 1e-8


def _mask_and_signs(m: int, k: int, like: Tensor) -> tuple[Tensor, Tensor]:
    mask = torch.ones(m, k, dtype=like.dtype).tril()
    signs = torch.ones(m, k, dtype=like.dtype)
    signs.diagonal().fill_(-1)
    weights = torch.arange(k, 0, -1, dtype=like.dtype) * 2 / (k * (k + 1))
    return mask, signs * weights


def _algorithm(product: Callable[[Tensor], Tensor], probe: Tensor, iterations: int) -> Tensor:
    """Algorithms 2 and 3 of Ramesh et al. on (B, m, k), with the products in the graph."""
    mask, signs = _mask_and_signs(*probe.shape[1:], probe)
    vectors = mask * probe
    for _ in range(iterations):
        images = mask * product(vectors)
        vectors = images / (images.norm(dim=1, keepdim=True) + EPS)
    return (signs * vectors * vectors).sum((1, 2)).mean()


def listing_1(generator: Callable, z: Tensor, probe: Tensor, iterations: int) -> Tensor:
    """The paper's Listing 1: J v by reverse mode twice, the batch tiled k times."""
    batch, m, k = probe.shape
    tiled = z.detach().repeat_interleave(k, 0).requires_grad_()
    images = generator(tiled)
    dummy = torch.ones_like(images, requires_grad=True)
    (pulled,) = torch.autograd.grad(images, tiled, dummy, create_graph=True)

    def product(vectors: Tensor) -> Tensor:
        rows = vectors.transpose(1, 2).reshape(batch * k, m)
        (pushed,) = torch.autograd.grad(pulled, dummy, rows, create_graph=True)
        (back,) = torch.autograd.grad(images, tiled, pushed, create_graph=True)
        return back.reshape(batch, k, m).transpose(1, 2)

    return _algorithm(product, probe, iterations)


def torch_func(generator: Callable, z: Tensor, probe: Tensor, iterations: int) -> Tensor:
    """``torch.func``: jvp and vjp of the generator, the batch tiled k times, unrolled."""
    batch, m, k = probe.shape
    tiled = z.detach().repeat_interleave(k, 0)

    def product(vectors: Tensor) -> Tensor:
        rows = vectors.transpose(1, 2).reshape(batch * k, m)
        _, pushed = torch.func.jvp(generator, (tiled,), (rows,))
        _, pull = torch.func.vjp(generator, tiled)
        return pull(pushed)[0].reshape(batch, k, m).transpose(1, 2)

    return _algorithm(product, probe, iterations)
