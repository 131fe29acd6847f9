"""Layers whose derivatives are probed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from _probe_case import case, module_case, positive
from torch import nn
from torch.nn.utils import parametrizations


def _activations():
    for build in [
        nn.ELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardtanh, nn.Hardswish, nn.LeakyReLU,
        nn.LogSigmoid, nn.ReLU, nn.ReLU6, nn.SELU, nn.CELU, nn.GELU, nn.Sigmoid, nn.SiLU, nn.Mish,
        nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.GLU, nn.Identity,
    ]:  # fmt: skip
        module_case(build.__name__, build, (3, 8))
    module_case("GELU-tanh", lambda: nn.GELU(approximate="tanh"), (3, 8))
    module_case("PReLU", lambda: nn.PReLU(4), (3, 4, 3))
    module_case("RReLU-eval", lambda: nn.RReLU().eval(), (3, 8))
    module_case("Threshold", lambda: nn.Threshold(0.1, -1.0), (3, 8))
    module_case("Softplus-beta", lambda: nn.Softplus(beta=2.0, threshold=3.0), (3, 8))
    for build in [nn.Softmax, nn.LogSoftmax, nn.Softmin]:
        module_case(build.__name__, lambda build=build: build(dim=-1), (3, 8))
    module_case("Softmax2d", nn.Softmax2d, (2, 4, 2, 3))


def _norms():
    for name, shape, build in [
        ("LayerNorm", (3, 5, 8), lambda: nn.LayerNorm(8)),
        ("LayerNorm-2", (3, 5, 8), lambda: nn.LayerNorm((5, 8))),
        ("LayerNorm-plain", (3, 8), lambda: nn.LayerNorm(8, elementwise_affine=False)),
        ("RMSNorm", (3, 5, 8), lambda: nn.RMSNorm(8, eps=1e-6)),
        ("GroupNorm", (3, 6, 5), lambda: nn.GroupNorm(3, 6)),
        ("GroupNorm-2d", (3, 6, 2, 3), lambda: nn.GroupNorm(2, 6)),
        ("GroupNorm-1", (3, 6, 2, 3), lambda: nn.GroupNorm(1, 6)),
        ("InstanceNorm1d", (3, 4, 6), lambda: nn.InstanceNorm1d(4, affine=True)),
        ("InstanceNorm2d", (3, 4, 2, 3), lambda: nn.InstanceNorm2d(4, affine=True)),
        ("InstanceNorm2d-plain", (3, 4, 2, 3), lambda: nn.InstanceNorm2d(4)),
        ("InstanceNorm3d", (2, 3, 2, 2, 3), lambda: nn.InstanceNorm3d(3, affine=True)),
        ("BatchNorm1d-eval", (5, 4), lambda: nn.BatchNorm1d(4).eval()),
        ("BatchNorm2d-eval", (3, 4, 2, 3), lambda: nn.BatchNorm2d(4).eval()),
        ("LocalResponseNorm", (2, 5, 3), lambda: nn.LocalResponseNorm(3)),
    ]:
        module_case(name, build, shape)
    mean, variance = torch.linspace(-1, 1, 4).double(), torch.linspace(0.5, 2, 4).double()
    case("InstanceNorm-running", lambda x, w, b: F.instance_norm(
        x, mean, variance, w, b, use_input_stats=False), (3, 4, 6), (4,), (4,))  # fmt: skip
    case("batch_norm-training", lambda x, w, b: F.batch_norm(
        x, None, None, w, b, training=True), (5, 4), (4,), (4,))  # fmt: skip
    case("normalize", lambda x: F.normalize(x, dim=-1), (3, 8))
    case("cosine_similarity", lambda x, y: F.cosine_similarity(x, y, dim=-1), (3, 8), (3, 8))
    case("pairwise_distance", lambda x, y: F.pairwise_distance(x, y), (3, 8), (3, 8))
    case("cdist-2", lambda x, y: torch.cdist(x, y), (3, 4), (5, 4))
    case("cdist-1", lambda x, y: torch.cdist(x, y, p=1.0), (3, 4), (5, 4))
    case("cdist-3", lambda x, y: torch.cdist(x, y, p=3.0), (3, 4), (5, 4))
    case("cdist-2-mm", lambda x, y: torch.cdist(
        x, y, compute_mode="use_mm_for_euclid_dist"), (3, 4), (5, 4))  # fmt: skip
    case("pdist", lambda x: F.pdist(x), (4, 3))
    case("norm-2", lambda x: x.norm(dim=-1), (3, 8))
    case("norm-3", lambda x: x.norm(p=3, dim=-1), (3, 8))
    case("norm-1", lambda x: x.norm(p=1, dim=-1), (3, 8))
    case("norm-inf", lambda x: x.norm(p=float("inf"), dim=-1), (3, 8))
    case("linalg.vector_norm", lambda x: torch.linalg.vector_norm(x, 2.5, dim=-1), (3, 8))
    case("linalg.norm-fro", lambda x: torch.linalg.norm(x, dim=(-2, -1)), (3, 4, 2))
    case("renorm", lambda x: torch.renorm(x, 2, 0, 1.5), (3, 8))
    case("var", lambda x: x.var(dim=-1), (3, 8))
    case("std", lambda x: x.std(dim=-1), (3, 8))
    case("var_mean", lambda x: torch.cat(torch.var_mean(x, dim=-1)), (3, 8))
    case("std_mean", lambda x: torch.cat(torch.std_mean(x, dim=0, correction=0)), (3, 8))


def _pools_and_resizing():
    for d, tail in [(1, (6,)), (2, (4, 6)), (3, (4, 4, 2))]:
        for kind in ["max_pool", "avg_pool"]:
            pool = getattr(F, f"{kind}{d}d")
            case(f"{kind}{d}d", lambda x, pool=pool: pool(x, 2), (2, 3, *tail))
        for kind in ["adaptive_avg_pool", "adaptive_max_pool"]:
            pool = getattr(F, f"{kind}{d}d")
            case(f"{kind}{d}d", lambda x, pool=pool: pool(x, 2), (2, 3, *tail))
        case(f"interpolate-nearest{d}d", lambda x: F.interpolate(x, scale_factor=2), (2, 3, *tail))
    case("max_pool2d-overlap", lambda x: F.max_pool2d(x, 3, 2, 1), (2, 3, 5, 6))
    case("max_pool2d-indices", lambda x: F.max_pool2d(x, 2, return_indices=True)[0], (2, 3, 4, 6))
    case("max_unpool2d", lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
         (2, 3, 4, 6))  # fmt: skip
    case("lp_pool2d", lambda x: F.lp_pool2d(x, 2.0, 2), (2, 3, 4, 6), prepare=positive)
    for mode, tail in [("linear", (5,)), ("bilinear", (4, 3)), ("bicubic", (4, 3)),
                       ("trilinear", (2, 3, 2))]:  # fmt: skip
        for corners in [False, True]:
            case(f"interpolate-{mode}-{corners}", lambda x, m=mode, c=corners: F.interpolate(
                x, scale_factor=2, mode=m, align_corners=c), (2, 3, *tail))  # fmt: skip
    case("interpolate-nearest-exact", lambda x: F.interpolate(
        x, size=(5, 7), mode="nearest-exact"), (2, 3, 4, 3))  # fmt: skip
    case("interpolate-area", lambda x: F.interpolate(x, size=(2, 2), mode="area"), (2, 3, 4, 6))
    case("interpolate-antialias", lambda x: F.interpolate(
        x, size=(2, 2), mode="bilinear", antialias=True), (2, 3, 4, 6))  # fmt: skip
    case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), (2, 8, 3, 2))
    case("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), (2, 2, 4, 2))
    case("channel_shuffle", lambda x: F.channel_shuffle(x, 2), (2, 4, 3, 2))
    for mode in ["constant", "reflect", "replicate", "circular"]:
        case(f"pad-{mode}", lambda x, m=mode: F.pad(x, (1, 2, 1, 0), mode=m), (2, 3, 4, 3))
    case("unfold", lambda x: F.unfold(x, 2), (2, 3, 4, 3))
    case("fold", lambda x: F.fold(x, (4, 3), 2), (2, 12, 6))


def _sampling():
    case("grid_sample-image", lambda x, g: F.grid_sample(
        x, g, align_corners=False), (2, 3, 4, 5), (2, 3, 3, 2))  # fmt: skip
    case("grid_sample-grid", lambda g, x: F.grid_sample(
        x, 0.6 * torch.tanh(g), align_corners=False), (2, 3, 3, 2), (2, 3, 4, 4))  # fmt: skip
    case("grid_sample-border-corners", lambda g, x: F.grid_sample(
        x, g, padding_mode="border", align_corners=True), (2, 3, 3, 2), (2, 3, 4, 5))  # fmt: skip
    for mode, padding, tail in [
        ("bilinear", "reflection", (4, 5)), ("bicubic", "zeros", (4, 5)),
        ("bicubic", "border", (4, 5)), ("bicubic", "reflection", (4, 5)),
        ("bilinear", "zeros", (3, 4, 2)), ("bilinear", "border", (3, 4, 2)),
        ("bilinear", "reflection", (3, 4, 2)),
    ]:  # fmt: skip
        d = len(tail)
        case(f"grid_sample-{mode}-{padding}-{d}d", lambda g, x, m=mode, p=padding: F.grid_sample(
            x, g, m, p, align_corners=False), (2, *(2,) * d, d), (2, 2, *tail))  # fmt: skip
    for mode, tail in [("bicubic", (4, 5)), ("nearest", (4, 5)), ("bilinear", (3, 4, 2)),
                       ("nearest", (3, 4, 2))]:  # fmt: skip
        d = len(tail)
        case(f"grid_sample-{mode}-image-{d}d", lambda x, g, m=mode: F.grid_sample(
            x, g, m, align_corners=True), (2, 2, *tail), (2, *(2,) * d, d))  # fmt: skip
    case("grid_sample-nearest-grid", lambda g, x: g[..., 0] * F.grid_sample(
        x, g, "nearest", align_corners=False)[:, 0], (2, 3, 3, 2), (2, 1, 4, 5))  # fmt: skip
    case("affine_grid", lambda t: F.affine_grid(t, (2, 1, 3, 3), align_corners=False), (2, 2, 3))


def _linear_maps():
    case("linear", F.linear, (3, 5), (4, 5), (4,))
    case("linear-weight-from-input", lambda w, x: F.linear(x, w), (4, 5), (3, 5))
    case("bilinear", F.bilinear, (3, 5), (3, 4), (2, 5, 4), (2,))
    case("bilinear-both", lambda x, w: F.bilinear(x, x, w), (3, 5), (2, 5, 5))
    for d, tail in [(1, (6,)), (2, (4, 5)), (3, (3, 3, 2))]:
        kernel = (3, 2, 2)[:d]
        case(f"conv{d}d", getattr(F, f"conv{d}d"), (2, 3, *tail), (4, 3, *kernel), (4,))
        case(f"conv_transpose{d}d", getattr(F, f"conv_transpose{d}d"), (2, 3, *tail),
             (3, 4, *kernel), (4,))  # fmt: skip
    case("conv2d-grouped-dilated", lambda x, w: F.conv2d(
        x, w, stride=2, padding=2, dilation=2, groups=2), (2, 4, 6, 6), (4, 2, 3, 3))  # fmt: skip
    case("conv2d-depthwise", lambda x, w: F.conv2d(x, w, padding=1, groups=4), (2, 4, 4, 4),
         (4, 1, 3, 3))  # fmt: skip
    case("conv2d-same", lambda x, w: F.conv2d(x, w, padding="same"), (2, 2, 4, 4), (3, 2, 2, 3))
    case("conv2d-weight-from-input", lambda w, x: F.conv2d(x, w, padding=1), (3, 2, 3, 3),
         (2, 2, 4, 4))  # fmt: skip
    case("conv2d-both", lambda x: F.conv2d(x, x[:, :, :2, :2]), (2, 2, 4, 4))
    case("conv_transpose2d-grouped", lambda x, w, b: F.conv_transpose2d(
        x, w, b, stride=2, padding=1, output_padding=1, groups=2, dilation=1),
        (2, 4, 3, 3), (4, 2, 3, 3), (4,))  # fmt: skip
    case("conv_transpose2d-weight-from-input", lambda w, x: F.conv_transpose2d(x, w, stride=2),
         (2, 3, 3, 3), (2, 2, 3, 3))  # fmt: skip
    case("conv_tbc", lambda x, w, b: torch.conv_tbc(x, w, b), (5, 2, 3), (2, 3, 4), (4,))
    case("matmul", torch.matmul, (2, 3, 4), (4, 5))
    case("matmul-self", lambda x: x @ x.mT, (2, 3, 4))
    case("bmm", torch.bmm, (2, 3, 4), (2, 4, 5))
    case("baddbmm", lambda x, y, b: torch.baddbmm(b, x, y), (2, 3, 4), (2, 4, 5), (2, 3, 5))
    case("addmm", lambda x, y, b: torch.addmm(b, x, y), (3, 4), (4, 5), (5,))
    case("einsum", lambda x, w: torch.einsum("bij,kj,bkj->bik", x, w, x), (2, 3, 4), (3, 4))
    case("outer", lambda x, y: torch.outer(x, y * x), (4,), (4,))
    case("kron", lambda x, y: torch.kron(x, y), (2, 3), (3, 2))
    case("addcmul", lambda x, y: torch.addcmul(x, x, y, value=0.3), (3, 4), (3, 4))
    case("addcdiv", lambda x, y: torch.addcdiv(y, y, x), (3, 4), (3, 4), prepare=positive)
    case("lerp", lambda x, y, w: torch.lerp(x, y, w * x), (3, 4), (3, 4), (3, 4))
    module_case("weight_norm", lambda: parametrizations.weight_norm(nn.Linear(5, 4)), (3, 5))
    module_case("weight_norm-conv", lambda: parametrizations.weight_norm(
        nn.Conv2d(2, 3, 2)), (2, 2, 3, 3))  # fmt: skip
    module_case("spectral_norm", lambda: parametrizations.spectral_norm(
        nn.Linear(5, 4)).eval(), (3, 5))  # fmt: skip
    module_case("orthogonal", lambda: parametrizations.orthogonal(nn.Linear(4, 4)), (3, 4))
    case("weight-from-input-weight_norm", lambda v, g, x: F.linear(
        x, torch._weight_norm(v, g, 0)), (4, 5), (4, 1), (3, 5))  # fmt: skip


def _attention():
    sdpa = F.scaled_dot_product_attention
    heads = (2, 2, 4, 3)
    case("sdpa-query", sdpa, heads, heads, heads)
    case("sdpa-self", lambda x, w: sdpa(x, x @ w, x), heads, (3, 3))
    case("sdpa-self-requires-8", lambda x, w: sdpa(x, x @ w, x), (2, 2, 8, 8), (8, 8))
    case("sdpa-causal", lambda x, w: sdpa(x, x @ w, x, is_causal=True), heads, (3, 3))
    case("sdpa-mask", lambda x, w, m: sdpa(x, x @ w, x, attn_mask=m), heads, (3, 3), (4, 4))
    case("sdpa-3d", lambda x, w: sdpa(x, x @ w, x), (2, 4, 3), (3, 3))
    for weights in [False, True]:
        module_case(f"MultiheadAttention-{weights}", lambda: nn.MultiheadAttention(
            6, 2, batch_first=True), (2, 4, 6),
            lambda run, x, w=weights: run(x, x, x, need_weights=w)[0])  # fmt: skip
    for first in [False, True]:
        module_case(f"TransformerEncoderLayer-{first}", lambda f=first: nn.TransformerEncoderLayer(
            6, 2, 8, dropout=0.0, batch_first=True, norm_first=f, activation="gelu"),
            (2, 3, 6))  # fmt: skip
        module_case(f"TransformerEncoderLayer-eval-{first}", lambda f=first:
            nn.TransformerEncoderLayer(6, 2, 8, batch_first=True, norm_first=f).eval(),
            (2, 3, 6))  # fmt: skip
    module_case("TransformerDecoderLayer", lambda: nn.TransformerDecoderLayer(
        6, 2, 8, dropout=0.0, batch_first=True), (2, 3, 6), lambda run, x: run(x, x))  # fmt: skip


def _recurrence():
    for build in [nn.RNNCell, nn.GRUCell]:
        module_case(build.__name__, lambda b=build: b(4, 3), (2, 4),
                    lambda run, x: run(x, run(x)))  # fmt: skip
    module_case("LSTMCell", lambda: nn.LSTMCell(4, 3), (2, 4),
                lambda run, x: torch.cat(run(x, run(x)), 1))  # fmt: skip
    for build in [nn.RNN, nn.GRU, nn.LSTM]:
        module_case(build.__name__, lambda b=build: b(4, 3, num_layers=2, batch_first=True),
                    (2, 3, 4), lambda run, x: run(x)[0])  # fmt: skip
    module_case("GRU-bidirectional", lambda: nn.GRU(4, 3, bidirectional=True), (3, 2, 4),
                lambda run, x: run(x)[0])  # fmt: skip
    module_case("LSTM-projection", lambda: nn.LSTM(4, 3, proj_size=2), (3, 2, 4),
                lambda run, x: run(x)[0])  # fmt: skip


for _build in [
    _activations,
    _norms,
    _pools_and_resizing,
    _sampling,
    _linear_maps,
    _attention,
    _recurrence,
]:
    _build()
