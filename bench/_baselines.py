"""Other ways to the alignment penalty's gradient, which pydisent is measured against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

EPS = 1e-8


def _mask_and_signs(m: int, k: int, like: Tensor) -> tuple[Tensor, Tensor]:
    mask = like.new_ones(m, k).tril()
    signs = like.new_ones(m, k)
    signs.diagonal().fill_(-1)
    weights = torch.arange(k, 0, -1, dtype=like.dtype, device=like.device) * 2 / (k * (k + 1))
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
    """The paper's Listing 1, call for call: J v by reverse mode twice, the batch tiled k times."""
    images, tiled = _tiled(generator, z, probe.shape[-1])

    def forward_gradients(ys, xs, d_xs):
        v = torch.ones_like(ys, requires_grad=True)
        (g,) = torch.autograd.grad(ys, xs, v, create_graph=True)
        return torch.autograd.grad(g, v, d_xs, create_graph=True)[0]

    def jt_j_v(ys, xs, vs):
        jv = forward_gradients(ys, xs, vs)
        return torch.autograd.grad(ys, xs, jv, create_graph=True)[0]

    return _algorithm(_on_rows(lambda rows: jt_j_v(images, tiled, rows)), probe, iterations)


def listing_1_hoisted(generator: Callable, z: Tensor, probe: Tensor, iterations: int) -> Tensor:
    """Listing 1 by a careful hand: J'v, which does not change, is made once for all T products."""
    images, tiled = _tiled(generator, z, probe.shape[-1])
    v = torch.ones_like(images, requires_grad=True)
    (g,) = torch.autograd.grad(images, tiled, v, create_graph=True)

    def jt_j_v(rows):
        (jv,) = torch.autograd.grad(g, v, rows, create_graph=True)
        return torch.autograd.grad(images, tiled, jv, create_graph=True)[0]

    return _algorithm(_on_rows(jt_j_v), probe, iterations)


def _tiled(generator: Callable, z: Tensor, k: int) -> tuple[Tensor, Tensor]:
    tiled = z.detach().repeat_interleave(k, 0).requires_grad_()
    return generator(tiled), tiled


def _on_rows(product: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A product of (B k, m) rows as one of (B, m, k) vectors."""

    def on_vectors(vectors: Tensor) -> Tensor:
        batch, m, k = vectors.shape
        rows = vectors.transpose(1, 2).reshape(batch * k, m)
        return product(rows).reshape(batch, k, m).transpose(1, 2)

    return on_vectors


def torch_func(generator: Callable, z: Tensor, probe: Tensor, iterations: int) -> Tensor:
    """``torch.func``: jvp and vjp of the generator, the batch tiled k times, unrolled."""
    tiled = z.detach().repeat_interleave(probe.shape[-1], 0)

    def jt_j_v(rows):
        _, jv = torch.func.jvp(generator, (tiled,), (rows,))
        _, pull = torch.func.vjp(generator, tiled)
        return pull(jv)[0]

    return _algorithm(_on_rows(jt_j_v), probe, iterations)
