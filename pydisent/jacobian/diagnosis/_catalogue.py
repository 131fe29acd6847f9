"""The catalogue: layers used in generators, and other functions that PyTorch gets wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pydisent.jacobian.diagnosis._operation import floating, vector

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A function of some tensors, which calls one torch function."""

    func: Any  # that torch function
    operation: str
    call: Callable[..., Any]
    shapes: Sequence[Shape]
    prepare: Callable[[Tensor], Tensor] | None = None  # for the first operand

    def operands(self) -> list[Tensor]:
        """Operands from standard normal numbers in float64, the same each time."""
        generator = torch.Generator("cpu").manual_seed(0)
        drawn = [torch.randn(s, generator=generator, dtype=torch.float64) for s in self.shapes]
        return drawn if self.prepare is None else [self.prepare(drawn[0]), *drawn[1:]]

    def __call__(self, operands: Sequence[Tensor]) -> Tensor:
        return vector(floating(self.call(*operands)))


def cases() -> dict[str, Case]:
    """The entries by name."""
    found: dict[str, Case] = {}

    def add(
        name: str, func: Any, *shapes: Shape, call: Any = None, prepare: Any = None, **options: Any
    ) -> None:
        operation = getattr(func, "__name__", str(func)).strip("_")
        run = (call or func) if not options else lambda *x: (call or func)(*x, **options)
        found[name] = Case(func, operation, run, shapes, prepare)

    for group in (_norms, _activations, _linear_maps, _images, _attention, _functions, _linalg):
        group(add)
    return found


def _norms(add: Callable[..., None]) -> None:
    add("layer_norm", F.layer_norm, (3, 8), (8,), (8,),
        call=lambda x, w, b: F.layer_norm(x, (8,), w, b))  # fmt: skip
    add("instance_norm", F.instance_norm, (3, 4, 2, 3), (4,), (4,),
        call=lambda x, w, b: F.instance_norm(x, weight=w, bias=b))  # fmt: skip
    add("group_norm", F.group_norm, (3, 6, 5), (6,), (6,),
        call=lambda x, w, b: F.group_norm(x, 3, w, b))  # fmt: skip
    add("rms_norm", F.rms_norm, (3, 8), (8,), call=lambda x, w: F.rms_norm(x, (8,), w))
    mean, variance = torch.linspace(-1, 1, 4).double(), torch.linspace(0.5, 2, 4).double()
    add("batch_norm (training)", F.batch_norm, (6, 4), (4,), (4,),
        call=lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True))  # fmt: skip
    add("batch_norm (evaluation)", F.batch_norm, (6, 4), (4,), (4,),
        call=lambda x, w, b: F.batch_norm(x, mean, variance, w, b))  # fmt: skip
    add("local_response_norm", F.local_response_norm, (2, 5, 3), size=3)
    add("normalize", F.normalize, (3, 8))
    add("weight_norm", torch._weight_norm, (4, 5), (4, 1))


def _activations(add: Callable[..., None]) -> None:
    names = (
        "relu leaky_relu elu selu celu gelu silu mish softplus softsign logsigmoid hardswish "
        "hardsigmoid hardtanh glu rrelu tanhshrink"
    )
    for name in names.split():
        add(name, getattr(F, name), (3, 8))
    for name in ("sigmoid", "tanh", "sin", "exp", "erf", "sinc"):
        add(name, getattr(torch, name), (3, 8))
    add("gelu (tanh)", F.gelu, (3, 8), approximate="tanh")
    add("prelu", F.prelu, (3, 4, 3), (4,))
    add("softmax", F.softmax, (3, 8), dim=-1)
    add("log_softmax", F.log_softmax, (3, 8), dim=-1)


def _linear_maps(add: Callable[..., None]) -> None:
    add("linear", F.linear, (3, 5), (4, 5), (4,))
    add("bilinear", F.bilinear, (3, 5), (3, 4), (2, 5, 4), (2,))
    add("matmul", torch.matmul, (2, 3, 4), (4, 5))
    add("einsum", torch.einsum, (2, 3, 4), (3, 4),
        call=lambda x, w: torch.einsum("bij,kj,bkj->bik", x, w, x))  # fmt: skip
    add("conv1d", F.conv1d, (2, 3, 6), (4, 3, 3), (4,))
    add("conv2d", F.conv2d, (2, 3, 4, 5), (4, 3, 3, 2), (4,))
    add("conv3d", F.conv3d, (2, 2, 3, 3, 2), (3, 2, 2, 2, 2), (3,))
    add("conv_transpose2d", F.conv_transpose2d, (2, 3, 4, 5), (3, 4, 3, 2), (4,))
    add("conv_tbc", torch.conv_tbc, (5, 2, 3), (2, 3, 4), (4,))
    add("embedding", F.embedding, (3, 4),
        call=lambda w: F.embedding(torch.tensor([0, 2, 2]), w))  # fmt: skip
    add("embedding_bag", F.embedding_bag, (3, 4),
        call=lambda w: F.embedding_bag(torch.tensor([[0, 2], [1, 1]]), w))  # fmt: skip
    for name, gates in (("rnn_tanh_cell", 1), ("gru_cell", 3)):
        cell = getattr(torch, name)
        add(name, cell, (2, 4), (2, 3), (3 * gates, 4), (3 * gates, 3), (3 * gates,), (3 * gates,))
    add("lstm_cell", torch.lstm_cell, (2, 4), (2, 3), (2, 3), (12, 4), (12, 3),
        call=lambda x, h, c, a, b: torch.lstm_cell(x, (h, c), a, b))  # fmt: skip


def _images(add: Callable[..., None]) -> None:
    for mode in ("nearest", "bilinear", "bicubic"):
        add(f"interpolate ({mode})", F.interpolate, (2, 3, 4, 3), scale_factor=2, mode=mode)
    add("pixel_shuffle", F.pixel_shuffle, (2, 8, 3, 2), upscale_factor=2)
    for mode in ("reflect", "replicate"):
        add(f"pad ({mode})", F.pad, (2, 3, 4, 3), pad=(1, 2, 1, 0), mode=mode)
    add("avg_pool2d", F.avg_pool2d, (2, 3, 4, 6), kernel_size=2)
    add("max_pool2d", F.max_pool2d, (2, 3, 4, 6), kernel_size=2)
    add("adaptive_avg_pool2d", F.adaptive_avg_pool2d, (2, 3, 4, 6), output_size=2)
    add("unfold", F.unfold, (2, 3, 4, 3), kernel_size=2)
    for mode in ("bilinear", "bicubic"):
        add(f"grid_sample ({mode})", F.grid_sample, (2, 3, 4, 5), (2, 3, 3, 2),
            mode=mode, align_corners=False)  # fmt: skip
    add("affine_grid", F.affine_grid, (2, 2, 3), size=(2, 1, 3, 3), align_corners=False)


def _attention(add: Callable[..., None]) -> None:
    heads = (2, 2, 4, 3)
    sdpa = F.scaled_dot_product_attention
    add("scaled_dot_product_attention", sdpa, heads, heads, heads)
    add("scaled_dot_product_attention (causal)", sdpa, heads, heads, heads, is_causal=True)
    add("scaled_dot_product_attention (mask)", sdpa, heads, heads, heads, (4, 4))
    add("multi_head_attention_forward", F.multi_head_attention_forward,
        (4, 2, 6), (18, 6), (18,), (6, 6), (6,), call=_heads)  # fmt: skip


def _heads(x: Tensor, into: Tensor, bias: Tensor, out: Tensor, shift: Tensor) -> Any:
    return F.multi_head_attention_forward(
        x, x, x, 6, 2, into, bias, None, None, False, 0.0, out, shift, need_weights=False
    )[0]


def _functions(add: Callable[..., None]) -> None:
    add("cosine_similarity", F.cosine_similarity, (3, 8), (3, 8))
    add("pairwise_distance", F.pairwise_distance, (3, 8), (3, 8))
    for p in (1.0, 2.0):
        add(f"cdist ({p:.0f})", torch.cdist, (3, 4), (5, 4), p=p)
    add("pdist", F.pdist, (4, 3))
    add("var", torch.var, (3, 8), dim=-1)
    add("std", torch.std, (3, 8), dim=-1)
    add("norm", torch.linalg.vector_norm, (3, 8), dim=-1)
    add("logsumexp", torch.logsumexp, (3, 4), dim=1)
    add("logcumsumexp", torch.logcumsumexp, (3, 4), dim=1)
    add("logaddexp", torch.logaddexp, (3, 5), (3, 5))
    add("cumprod", torch.cumprod, (3, 4), dim=1)
    add("sort", torch.sort, (3, 5), dim=1)
    add("huber_loss", F.huber_loss, (3, 4), (3, 4), reduction="none")
    add("abs of fft2", torch.fft.fft2, (3, 4), call=lambda x: torch.fft.fft2(x).abs())


def _linalg(add: Callable[..., None]) -> None:
    square = (2, 3, 3)

    def definite(x: Tensor) -> Tensor:
        return x @ x.mT + 2 * torch.eye(3, dtype=x.dtype)

    linalg = torch.linalg
    add("linalg.det", linalg.det, square)
    add("linalg.slogdet", linalg.slogdet, square, call=lambda x: linalg.slogdet(x)[1])
    add("logdet", torch.logdet, square, prepare=definite)
    add("linalg.inv", linalg.inv, square)
    add("linalg.solve", linalg.solve, square, (2, 3, 2))
    add("linalg.solve_triangular", linalg.solve_triangular, square, (2, 3, 2),
        prepare=definite, upper=False)  # fmt: skip
    add("linalg.cholesky", linalg.cholesky, square,
        call=lambda x: linalg.cholesky(x + x.mT), prepare=definite)  # fmt: skip
    add("cholesky_solve", torch.cholesky_solve, (2, 2), (2, 2, 2),
        call=lambda b, x: torch.cholesky_solve(b, _lower(x)))  # fmt: skip
    add("cholesky_inverse", torch.cholesky_inverse, square,
        call=lambda x: torch.cholesky_inverse(_lower(x)))  # fmt: skip
    add("linalg.householder_product", linalg.householder_product, (4, 2), (2,))
    add("linalg.matrix_exp", linalg.matrix_exp, square)
    add("linalg.svdvals", linalg.svdvals, square)
    add("linalg.eigh", linalg.eigh, square, call=lambda x: linalg.eigh(x + x.mT)[1].square())
    add("linalg.qr", linalg.qr, square, call=lambda x: linalg.qr(x)[1])
    add("linalg.lstsq", linalg.lstsq, (2, 4, 3), (2, 4, 1), call=lambda a, b: linalg.lstsq(a, b)[0])
    add("linalg.pinv", linalg.pinv, (2, 4, 3))


def _lower(x: Tensor) -> Tensor:
    """A Cholesky factor."""
    return x.tril() + 2 * torch.eye(x.shape[-1], dtype=x.dtype)
