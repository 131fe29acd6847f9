"""Contenders for the alignment penalty's gradient: others' implementations and pydisent's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import pydisent
from pydisent._precision import has_native_bf16

EPS = 1e-8


def _mask_and_signs(m: int, k: int, like: Tensor) -> tuple[Tensor, Tensor]:
    mask = like.new_ones(m, k).tril()
    signs = like.new_ones(m, k)
    signs.diagonal().fill_(-1)
    weights = torch.arange(k, 0, -1, dtype=like.dtype, device=like.device) * 2 / (k * (k + 1))
    return mask, signs * weights


def _algorithm(product: Callable[[Tensor], Tensor], probe: Tensor, iterations: int) -> Tensor:
    """Algorithms 2 and 3 of Ramesh et al. on (B, m, k), with all products in the graph."""
    mask, signs = _mask_and_signs(*probe.shape[1:], probe)
    vectors = mask * probe
    for _ in range(iterations):
        images = mask * product(vectors)
        vectors = images / (images.norm(dim=1, keepdim=True) + EPS)
    return (signs * vectors * vectors).sum((1, 2)).mean()


def listing_1(generator: Callable, z: Tensor, probe: Tensor, iterations: int) -> Tensor:
    """The paper's Listing 1, call for call: J v by double reverse mode, the batch tiled k times."""
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
    """Listing 1, optimised: the graph of J'v, a constant, is built once for all T products."""
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
    """Turn a product of (B k, m) rows into one of (B, m, k) vectors."""

    def on_vectors(vectors: Tensor) -> Tensor:
        batch, m, k = vectors.shape
        rows = vectors.transpose(1, 2).reshape(batch * k, m)
        return product(rows).reshape(batch, k, m).transpose(1, 2)

    return on_vectors


def torch_func(generator: Callable, z: Tensor, probe: Tensor, iterations: int) -> Tensor:
    """``torch.func``: unrolled jvp and vjp of the generator, the batch tiled k times."""
    tiled = z.detach().repeat_interleave(probe.shape[-1], 0)

    def jt_j_v(rows):
        _, jv = torch.func.jvp(generator, (tiled,), (rows,))
        _, pull = torch.func.vjp(generator, tiled)
        return pull(jv)[0]

    return _algorithm(_on_rows(jt_j_v), probe, iterations)


def fixed_directions(m: int) -> dict[str, int]:
    """A fixed rank, so that a CUDA graph can be captured: it need not be read from the GPU."""
    return {"rank": min(32, m)}


def ours(
    generator: Callable,
    z: Tensor,
    probe: Tensor,
    iterations: int,
    *,
    dtype: torch.dtype | None = None,
    fixed: bool = False,
    **options: Any,
) -> Tensor:
    """Our penalty, called like the others; optionally with a ``fixed`` number of directions."""
    m, k = probe.shape[1:]
    options |= fixed_directions(m) if fixed else {}
    return pydisent.alignment_penalty(
        generator, z, k=k, iterations=iterations, probe=probe, compute_dtype=dtype, **options
    )


METHODS: dict[str, Callable[..., Tensor]] = {
    "listing_1": listing_1,
    "listing_1_hoisted": listing_1_hoisted,
    "torch_func": torch_func,
    "gram_fp32": partial(ours, method="gram"),
    "gram_bf16": partial(ours, method="gram", dtype=torch.bfloat16),
    "matrix_free_fp32": partial(ours, method="matrix_free"),
    "matrix_free_bf16": partial(ours, method="matrix_free", dtype=torch.bfloat16),
}
# Updates run as CUDA graphs.
GRAPHED: dict[str, Callable[..., Tensor]] = {
    "gram_graph_fp32": partial(ours, method="gram", fixed=True),
    "gram_graph_bf16": partial(ours, method="gram", dtype=torch.bfloat16, fixed=True),
}
# Maximum error against the float64 gradient for a speed to be reported.
GATES = dict.fromkeys(METHODS | GRAPHED, 1e-3) | {
    "gram_graph_fp32": 1e-2,
    "gram_bf16": 2e-2,
    "gram_graph_bf16": 2e-2,
    "matrix_free_bf16": 5e-2,
}
NAMES = {
    "listing_1": "Listing 1 (double backward, batch tiled k times)",
    "listing_1_hoisted": "Listing 1, J'v made once for all products",
    "torch_func": "`torch.func.jvp` and `vjp`, unrolled",
    "gram_fp32": "**pydisent**, Gram route, fp32",
    "gram_bf16": "**pydisent**, Gram route, bf16 tangents",
    "gram_graph_fp32": "**pydisent**, Gram route, fp32, a CUDA graph",
    "gram_graph_bf16": "**pydisent**, Gram route, bf16 tangents, a CUDA graph",
    "matrix_free_fp32": "pydisent, matrix-free, fp32",
    "matrix_free_bf16": "pydisent, matrix-free, bf16 tangents",
}


def native(methods: dict[str, Any], device: str) -> dict[str, Any]:
    """Drop bf16 methods where bf16 is not native and would run in float32."""
    return {m: p for m, p in methods.items() if has_native_bf16(device) or "bf16" not in m}


COLOURS = dict(zip(NAMES, (
    "#000000", "#999999", "#D55E00", "#0072B2", "#56B4E9", "#E69F00", "#F0E442", "#009E73",
    "#CC79A7",
)))  # fmt: skip
"""Of the contenders' lines in pictures."""
