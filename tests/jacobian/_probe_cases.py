"""The operations a generator may be made of, each as a function of (input, *parameters)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations


@dataclass(frozen=True)
class Case:
    function: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...]
    prepare: Callable[[list[Tensor]], list[Tensor]] | None = None

    def operands(self, seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        drawn = [torch.randn(s, generator=generator, dtype=torch.float64) for s in self.shapes]
        drawn = [drawn[0], *(0.5 * p for p in drawn[1:])]
        return self.prepare(drawn) if self.prepare else drawn


CASES: dict[str, Case] = {}


def case(name, function, *shapes, prepare=None):
    assert name not in CASES
    CASES[name] = Case(function, shapes, prepare)


def module_case(name, build, x_shape, call=None):
    """Add a module, whose parameters become the case's, so that their gradients are probed."""
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    module = build().double()
    torch.random.set_rng_state(state)
    names = [n for n, _ in module.named_parameters()]
    values = [p.detach().clone() for _, p in module.named_parameters()]
    call = call or (lambda run, x: run(x))

    def function(x, *parameters):
        given = dict(zip(names, parameters))
        return call(lambda *a, **k: torch.func.functional_call(module, given, a, k), x)

    CASES[name] = Case(function, (x_shape,), lambda drawn: [drawn[0], *values])


def positive(drawn):
    return [drawn[0].abs() + 0.5, *drawn[1:]]


def unit(drawn):
    return [0.9 * torch.tanh(drawn[0]), *drawn[1:]]


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


def _elementwise():
    for name in ["exp", "expm1", "sin", "cos", "sinh", "cosh", "tanh", "sigmoid", "atan",
                 "asinh", "erf", "erfc", "sinc", "square", "abs", "neg", "exp2", "i0",
                 "special.ndtr", "special.erfcx", "special.log_ndtr", "frac", "special.i1e",
                 "positive", "special.i0e", "special.i1", "relu"]:  # fmt: skip
        function = torch
        for part in name.split("."):
            function = getattr(function, part)
        case(name, function, (3, 5))
    for name in ["log", "log1p", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "lgamma",
                 "digamma", "special.entr", "special.xlog1py"]:  # fmt: skip
        function = torch
        for part in name.split("."):
            function = getattr(function, part)
        call = (lambda x, f=function: f(x, x)) if name.endswith("xlog1py") else function
        case(name, call, (3, 5), prepare=positive)
    for name in ["asin", "acos", "atanh", "erfinv", "tan"]:
        case(name, getattr(torch, name), (3, 5), prepare=unit)
    case("logit", lambda x: torch.logit(0.5 + 0.4 * x), (3, 5), prepare=unit)
    case("pow-3", lambda x: x**3, (3, 5))
    case("pow-1.5", lambda x: x**1.5, (3, 5), prepare=positive)
    case("pow-tensor", torch.pow, (3, 5), (3, 5), prepare=positive)
    case("pow-scalar-base", lambda x: 2.0**x, (3, 5))
    case("mul", torch.mul, (3, 5), (5,))
    case("div", lambda x, y: y / x, (3, 5), (5,), prepare=positive)
    case("atan2", torch.atan2, (3, 5), (3, 5))
    case("hypot", torch.hypot, (3, 5), (3, 5))
    case("xlogy", lambda x, y: torch.xlogy(y, x), (3, 5), (3, 5), prepare=positive)
    case("logaddexp", torch.logaddexp, (3, 5), (3, 5))
    case("maximum", torch.maximum, (3, 5), (3, 5))
    case("minimum", torch.minimum, (3, 5), (3, 5))
    case("clamp", lambda x: x.clamp(-0.5, 0.7), (3, 5))
    case("clamp-tensor", lambda x, y: torch.clamp(x, min=y), (3, 5), (3, 5))
    case("where", lambda x, a: torch.where(x > 0, x * x, x * a), (3, 5), (5,))
    case("remainder", lambda x, y: torch.remainder(x, y), (3, 5), (3, 5))
    case("fmod", lambda x, y: torch.fmod(x, y), (3, 5), (3, 5))
    case("copysign", lambda x, y: torch.copysign(x, y), (3, 5), (3, 5))
    case("nan_to_num", lambda x: torch.nan_to_num(x**3), (3, 5))
    case("prelu-functional", lambda x, a: torch.prelu(x, a), (3, 4), (4,))
    case("binary_cross_entropy_with_logits", lambda x, y: F.binary_cross_entropy_with_logits(
        x, y, reduction="none"), (3, 4), (3, 4))  # fmt: skip
    case("mse_loss", lambda x, y: F.mse_loss(x, y, reduction="none"), (3, 4), (3, 4))
    case("huber_loss", lambda x, y: F.huber_loss(x, y, reduction="none"), (3, 4), (3, 4))
    case("smooth_l1_loss", lambda x, y: F.smooth_l1_loss(x, y, reduction="none"), (3, 4), (3, 4))


def _reductions_and_views():
    case("sum", lambda x: (x * x).sum(1), (3, 4))
    case("mean", lambda x: (x * x).mean(1), (3, 4))
    case("prod", lambda x: x.prod(1), (3, 4))
    case("cumsum", lambda x: (x * x).cumsum(1), (3, 4))
    case("cumprod", lambda x: x.cumprod(1), (3, 4))
    case("logcumsumexp", lambda x: x.logcumsumexp(1), (3, 4))
    case("cummax", lambda x: (x * x).cummax(1)[0], (3, 4))
    case("logsumexp", lambda x: x.logsumexp(1), (3, 4))
    case("max", lambda x: (x * x).max(1)[0], (3, 4))
    case("amax", lambda x: (x * x).amax(1), (3, 4))
    case("aminmax", lambda x: sum(torch.aminmax(x * x, dim=1)), (3, 4))
    case("median", lambda x: (x * x).median(1)[0], (3, 5))
    case("quantile", lambda x: (x * x).quantile(0.3, dim=1), (3, 5))
    case("sort", lambda x: (x * x).sort(1)[0], (3, 4))
    case("topk", lambda x: (x * x).topk(2, 1)[0], (3, 4))
    case("kthvalue", lambda x: (x * x).kthvalue(2, 1)[0], (3, 4))
    case("gather", lambda x: (x * x).gather(1, x.argsort(1)[:, :2]), (3, 4))
    case("scatter", lambda x: torch.zeros_like(x).scatter(1, x.argsort(1), x * x), (3, 4))
    case("scatter_add", lambda x: x.scatter_add(1, x.argsort(1), x * x), (3, 4))
    case("index_select", lambda x: (x * x).index_select(1, torch.tensor([2, 0, 2])), (3, 4))
    case("index", lambda x: (x * x)[:, [0, 2, 2]], (3, 4))
    case("index_add", lambda x: x.index_add(1, torch.tensor([0, 1]), x[:, 2:] ** 2), (3, 4))
    case("index_put", lambda x: x.index_put((torch.tensor([0]),), x[1] ** 2), (3, 4))
    case("masked_fill", lambda x: (x * x).masked_fill(x < 0, 0.0), (3, 4))
    case("take_along_dim", lambda x: torch.take_along_dim(x * x, x.argsort(1), 1), (3, 4))
    case("cat-stack-split", lambda x: torch.stack((x * x).split(2, 1)), (3, 4))
    case("chunk-unbind", lambda x: torch.cat([a * b for a, b in zip(
        x.chunk(2, 1)[0].unbind(0), x.chunk(2, 1)[1].unbind(0))]), (3, 4))  # fmt: skip
    case("roll-flip-rot", lambda x: (x * x).roll(1, 1).flip(0).rot90(1, (0, 1)), (3, 4))
    case("tril-diag", lambda x: torch.diag_embed((x * x).tril().sum(1)), (3, 4))
    case("repeat-expand-tile", lambda x: (x * x).repeat(2, 1).unsqueeze(0).expand(2, 6, 4), (3, 4))
    case("repeat_interleave", lambda x: (x * x).repeat_interleave(2, 1), (3, 4))
    case("unfold-tensor", lambda x: (x * x).unfold(1, 2, 1), (3, 4))
    case("as_strided", lambda x: (x * x).as_strided((2, 3), (1, 4)), (3, 4))
    case("meshgrid", lambda x: torch.stack(torch.meshgrid(
        x[0], x[1] ** 2, indexing="ij")).prod(0), (2, 3))  # fmt: skip
    case("cross", lambda x, y: torch.linalg.cross(x * x, y), (4, 3), (4, 3))
    case("cartesian-trapezoid", lambda x: torch.trapezoid(x * x), (3, 4))
    case("inplace", lambda x: _inplace(x), (3, 4))
    case("embedding", lambda w: F.embedding(torch.tensor([0, 2, 2]), w * w), (3, 4))
    case("embedding_bag", lambda w: F.embedding_bag(torch.tensor([[0, 2], [1, 1]]), w * w), (3, 4))
    case("fft", lambda x: torch.fft.irfft(torch.fft.rfft(x * x) * 2.0, n=4), (3, 4))
    case("fft2-abs", lambda x: torch.fft.fft2(x).abs(), (3, 4))
    case("complex-view", lambda x: torch.view_as_real(torch.view_as_complex(x) ** 2), (3, 2))
    case("polar", lambda x: torch.view_as_real(torch.polar(x.abs() + 1, x)), (3, 4))
    case("checkpoint", lambda x: torch.utils.checkpoint.checkpoint(
        lambda y: y.tanh() * y, x, use_reentrant=False), (3, 4))  # fmt: skip


def _inplace(x):
    h = x * 1.0
    h[:, :2] = (x * x)[:, 2:]
    h += x.tanh()
    h.mul_(x)
    return h.relu_()


def _linalg():
    def symmetric(x):
        return x @ x.mT + 2 * torch.eye(x.shape[-1], dtype=x.dtype)

    square = (2, 3, 3)
    case("linalg.inv", lambda x: torch.linalg.inv(symmetric(x)), square)
    case("linalg.det", lambda x: torch.linalg.det(x), square)
    case("linalg.slogdet", lambda x: torch.linalg.slogdet(x)[1], square)
    case("logdet", lambda x: torch.logdet(symmetric(x)), square)
    case("linalg.cholesky", lambda x: torch.linalg.cholesky(symmetric(x)), square)
    case("linalg.solve", lambda x, b: torch.linalg.solve(symmetric(x), b), square, (2, 3, 1))
    case("linalg.solve_triangular", lambda x, b: torch.linalg.solve_triangular(
        symmetric(x), b, upper=False), square, (2, 3, 1))  # fmt: skip
    case("linalg.matrix_exp", lambda x: torch.linalg.matrix_exp(0.3 * x), square)
    case("linalg.svdvals", lambda x: torch.linalg.svdvals(x), square)
    case("linalg.eigvalsh", lambda x: torch.linalg.eigvalsh(symmetric(x)), square)
    case("linalg.qr", lambda x: torch.linalg.qr(x)[1], square)
    case("linalg.eigh", lambda x: torch.linalg.eigh(symmetric(x))[1].square(), square)
    case("linalg.matrix_power", lambda x: torch.linalg.matrix_power(x, 3), square)
    case("linalg.lstsq", lambda x, b: torch.linalg.lstsq(x, b)[0], (2, 4, 3), (2, 4, 1))
    case("linalg.pinv", lambda x: torch.linalg.pinv(x), (2, 4, 3))
    case("trace", lambda x: torch.einsum("bii->b", x @ x), square)


for _build in [_activations, _norms, _pools_and_resizing, _linear_maps, _attention, _recurrence,
               _elementwise, _reductions_and_views, _linalg]:  # fmt: skip
    _build()
