"""Elementwise functions, reductions, views and linear algebra whose derivatives are probed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from _probe_case import case, positive, unit


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


for _build in [_elementwise, _reductions_and_views, _linalg]:
    _build()
