"""Functions of torch.nn.functional whose higher derivatives PyTorch gets wrong or lacks, rebuilt.

Every function here takes the arguments of the native one, returns its values to rounding, and is
composed of operations whose derivatives of every order are right: ``tests/jacobian/
test_torch_probes.py`` measures both against central differences. The gradient of ‖J q‖² through the
native layer norm, instance norm, determinant, linear solve or weight norm is silently wrong in at
least one mode of differentiation; through the others it raises. (Recurrent cells are right; they
are here as their parts are pushed faster than the whole.) Running statistics are read and not
written, unless `DecomposedFunctions` is told to.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pydisent.jacobian._call import bind
from pydisent.jacobian._checkpoint import keep_saved_tensors

_HALVES = (torch.float16, torch.bfloat16)


def _widen(x: Tensor) -> Tensor:
    """Half precision is summed in float32, as the native kernels do."""
    return x.float() if x.dtype in _HALVES else x


def _standardize(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(dims, keepdim=True) + eps)


def _scale_shift(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Apply a per-channel affine map; channels are axis 1."""
    shape = (1, -1) + (1,) * (x.dim() - 2)
    if weight is not None:
        x = x * weight.reshape(shape)
    if bias is not None:
        x = x + bias.reshape(shape)
    return x


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Layer normalization of ``input`` (..., *normalized_shape), as `torch.nn.functional`."""
    _check_tail("layer_norm", input, normalized_shape)
    x = _standardize(_widen(input), tuple(range(-len(normalized_shape), 0)), eps)
    if weight is not None:
        x = x * weight
    if bias is not None:
        x = x + bias
    return x.to(input.dtype)


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """Root-mean-square normalization of ``input`` (..., *normalized_shape)."""
    _check_tail("rms_norm", input, normalized_shape)
    x = _widen(input)
    dims = tuple(range(-len(normalized_shape), 0))
    guard = torch.finfo(x.dtype).eps if eps is None else eps
    x = x * torch.rsqrt((x * x).mean(dims, keepdim=True) + guard)
    return (x if weight is None else x * weight).to(input.dtype)


def _check_tail(name: str, input: Tensor, normalized_shape: Sequence[int]) -> None:
    tail = tuple(normalized_shape)
    if not tail or tuple(input.shape[-len(tail) :]) != tail:
        raise ValueError(
            f"{name}: normalized_shape {tail} must be the last axes of input, whose shape is "
            f"{tuple(input.shape)}"
        )


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Group normalization of ``input`` (B, C, ...), with C a multiple of ``num_groups``."""
    if input.dim() < 2 or input.shape[1] % num_groups:
        raise ValueError(
            f"group_norm: num_groups {num_groups} must divide the channels of input, whose shape "
            f"is {tuple(input.shape)}"
        )
    x = _widen(input).reshape(input.shape[0], num_groups, -1)
    x = _standardize(x, (-1,), eps).reshape(input.shape)
    return _scale_shift(x, weight, bias).to(input.dtype)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Instance normalization of ``input`` (B, C, ...); running statistics are not updated."""
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    x = _standardize(_widen(input), tuple(range(2, input.dim())), eps)
    return _scale_shift(x, weight, bias).to(input.dtype)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalization of ``input`` (B, C, ...) as an affine map of each sample.

    In training mode the batch's mean and variance are constants, detached from the graph: otherwise
    every output depends on every sample and the per-sample Jacobian is not defined. Running
    statistics are not updated.
    """
    x = _widen(input)
    if training:
        dims = (0, *range(2, x.dim()))
        fixed = x.detach()
        mean, variance = fixed.mean(dims), fixed.var(dims, correction=0)
    elif running_mean is None or running_var is None:
        raise ValueError(
            "batch_norm: running_mean and running_var must be given when training is False"
        )
    else:
        mean, variance = _widen(running_mean), _widen(running_var)
    x = _scale_shift(x, None, -mean)
    x = _scale_shift(x, torch.rsqrt(variance + eps), None)
    return _scale_shift(x, weight, bias).to(input.dtype)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention of ``query`` (..., L, E) to ``key`` (..., S, E) and ``value`` (..., S, Ev).

    A row that the mask closes to every key attends to nothing and gives zero, as the native one.
    """
    if is_causal and attn_mask is not None:
        raise ValueError(
            "scaled_dot_product_attention: attn_mask must be None when is_causal is True"
        )
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (_widen(query) * scale) @ _widen(key).mT
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    if attn_mask is None:
        weights = torch.softmax(scores, -1)
    else:
        closed = (scores.detach() == -torch.inf).all(-1, keepdim=True)
        weights = torch.softmax(scores.masked_fill(closed, 0.0), -1).masked_fill(closed, 0.0)
    if dropout_p > 0.0:
        weights = F.dropout(weights, dropout_p)
    return (weights @ _widen(value)).to(query.dtype)


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Multi-head attention of ``query`` (L, B, E), ``key`` and ``value`` (S, B, ·), or unbatched.

    Returns the output (L, B, E) and, if ``need_weights``, the weights (B, L, S), else None.
    """
    if query.shape[-1] != embed_dim_to_check or query.shape[-1] % num_heads:
        raise ValueError(
            f"multi_head_attention_forward: query's last axis is {query.shape[-1]}; it must be "
            f"embed_dim_to_check ({embed_dim_to_check}) and a multiple of num_heads ({num_heads})"
        )
    batched = query.dim() == 3
    if not batched:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, width = query.shape
    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None
    q, k, v = _project(query, key, value, in_proj_weight, in_proj_bias, separate)
    extra = 0
    if bias_k is not None and bias_v is not None:
        k = torch.cat([k, bias_k.expand(1, batch, -1)])
        v = torch.cat([v, bias_v.expand(1, batch, -1)])
        extra += 1
    q, k, v = (_split_heads(t, num_heads) for t in (q, k, v))
    if static_k is not None:
        k = static_k.reshape(batch, num_heads, *static_k.shape[1:])
    if static_v is not None:
        v = static_v.reshape(batch, num_heads, *static_v.shape[1:])
    if add_zero_attn:
        k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        extra += 1
    mask = _merge_masks(attn_mask, key_padding_mask, batch, num_heads, extra, q.dtype)
    p = dropout_p if training else 0.0
    weights = None
    if need_weights:
        scores = (q / math.sqrt(q.shape[-1])) @ k.mT
        weights = torch.softmax(scores if mask is None else scores + mask, -1)
        weights = F.dropout(weights, p) if p > 0.0 else weights
        out = weights @ v
        weights = weights.mean(1) if average_attn_weights else weights
    else:
        out = scaled_dot_product_attention(q, k, v, mask, p)
    out = F.linear(out.permute(2, 0, 1, 3).reshape(length, batch, width), out_proj_weight)
    out = out if out_proj_bias is None else out + out_proj_bias
    if not batched:
        return out.squeeze(1), None if weights is None else weights.squeeze(0)
    return out, weights


def _project(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    separate: Sequence[Tensor | None] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    if separate is None:
        if in_proj_weight is None:
            raise ValueError("multi_head_attention_forward: in_proj_weight must be given")
        separate = in_proj_weight.chunk(3)
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(x, w, b)  # type: ignore[arg-type]
        for x, w, b in zip((query, key, value), separate, biases)
    )
    return q, k, v


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(S, B, E) -> (B, heads, S, E / heads)."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).permute(1, 2, 0, 3)


def _merge_masks(
    attn_mask: Tensor | None,
    key_padding_mask: Tensor | None,
    batch: int,
    heads: int,
    extra: int,
    dtype: torch.dtype,
) -> Tensor | None:
    """Sum the two masks as an additive one; the ``extra`` appended keys are open to all."""

    def additive(mask: Tensor) -> Tensor:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -torch.inf)
        return F.pad(mask, (0, extra))

    merged = None
    if attn_mask is not None:
        merged = additive(attn_mask)
        if merged.dim() == 3:
            merged = merged.reshape(batch, heads, *merged.shape[1:])
    if key_padding_mask is not None:
        padding = additive(key_padding_mask)[:, None, None, :]
        merged = padding if merged is None else merged + padding
    return merged


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """Gated linear unit: the first half of ``input`` times the sigmoid of the second."""
    value, gate = input.chunk(2, dim)
    return value * torch.sigmoid(gate)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6) / 6."""
    out = torch.clamp(input + 3.0, 0.0, 6.0) / 6.0
    return input.copy_(out) if inplace else out


def rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """Randomized leaky ReLU: slopes are uniform in [lower, upper], or their mean in evaluation."""
    if training:
        slope: Any = torch.empty_like(input.detach()).uniform_(lower, upper)
    else:
        slope = (lower + upper) / 2
    out = torch.where(input > 0, input, input * slope)
    return input.copy_(out) if inplace else out


def cdist(
    x1: Tensor,
    x2: Tensor,
    p: float = 2.0,
    compute_mode: str = "use_mm_for_euclid_dist_if_necessary",
) -> Tensor:
    """Distances (..., P, R) between the rows of ``x1`` (..., P, M) and of ``x2`` (..., R, M)."""
    return _vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p)


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """Distances (N (N - 1) / 2,) between the rows of ``input`` (N, M)."""
    rows, columns = torch.triu_indices(len(input), len(input), 1, device=input.device)
    return _vector_norm(input[rows] - input[columns], p)


def _vector_norm(x: Tensor, p: float) -> Tensor:
    """p-norm over the last axis, with the native derivative of zero at a zero vector."""
    if math.isinf(p):
        return x.abs().amax(-1)
    if p == 0:
        return (x != 0).sum(-1).to(x.dtype)
    if p == 1:
        return x.abs().sum(-1)
    sums = (x * x if p == 2 else x.abs().pow(p)).sum(-1)
    zero = sums == 0
    return sums.masked_fill(zero, 1.0).pow(1.0 / p).masked_fill(zero, 0.0)


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """Weight normalization g v / ‖v‖; one norm an index of axis ``dim``, one in all if it is -1."""
    dims = tuple(range(v.dim())) if dim == -1 else tuple(d for d in range(v.dim()) if d != dim)
    x = _widen(v)
    norms = (x * x).sum(dims, keepdim=True).sqrt()
    return (x * (_widen(g) / norms)).to(v.dtype)


def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """Log of the running sum of exponentials along ``dim``, in memory quadratic in its length."""
    if input.dim() == 0:
        return input.clone()
    x = input.movedim(dim, -1)
    later = torch.ones(2 * (x.shape[-1],), dtype=torch.bool, device=x.device).triu(1)
    if not x.is_complex():
        sums = x.unsqueeze(-2).masked_fill(later, -torch.inf).logsumexp(-1)
        return sums.movedim(-1, dim)
    top = x.detach().real.cummax(-1).values
    terms = torch.exp(x.unsqueeze(-2) - top.unsqueeze(-1)).masked_fill(later, 0)
    sums = (terms.sum(-1).log() + top).movedim(-1, dim)
    return _on_branch(sums, lambda: torch.logcumsumexp(input, dim))


def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """Return the complex number abs exp(i angle), where ``abs`` may be negative, too."""
    return torch.complex(abs * torch.cos(angle), abs * torch.sin(angle))


def linspace(
    start: Tensor | float, end: Tensor | float, steps: int, *, dtype: Any = None, **kwargs: Any
) -> Tensor:
    """``steps`` evenly spaced numbers from ``start`` to ``end``."""
    with torch.no_grad():
        numbers = torch.linspace(start, end, steps, dtype=dtype, **kwargs)
    share = torch.linspace(0, 1, steps, dtype=numbers.dtype, device=numbers.device)
    ends = [t.to(numbers.dtype) if isinstance(t, Tensor) else t for t in (start, end)]
    return ends[0] * (1 - share) + ends[1] * share


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Cosine of the angle between ``x1`` and ``x2`` along ``dim``."""
    a, b = (t.movedim(dim, -1) for t in torch.broadcast_tensors(x1, x2))
    norms = [_vector_norm(t, 2.0).clamp_min(eps).unsqueeze(-1) for t in (a, b)]
    return (a / norms[0] * (b / norms[1])).sum(-1)


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of counts ``target``; Stirling's term above 1 alone."""
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        large = target.detach() > 1
        count = torch.where(large, target, torch.full_like(target, 2.0))
        term = count * count.log() - count + 0.5 * (2 * math.pi * count).log()
        loss = loss + torch.where(large, term, torch.zeros_like(term))
    return _reduced(loss, size_average, reduce, reduction)


def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """Convolution of ``input`` (T, B, C) with ``weight`` (K, C, D) along time."""
    out = F.conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad)
    return out.permute(2, 0, 1)


# In the order of the numbers that torch.grid_sampler takes.
_GRID_MODES = ("bilinear", "nearest", "bicubic")
_GRID_PADDINGS = ("zeros", "border", "reflection")


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Sample ``input`` (B, C, [D,] H, W) at ``grid`` (B, *out, 2 or 3), x first, in [-1, 1]."""
    _check_grid(input, grid, mode, padding_mode)
    sizes = input.shape[2:]
    places = reversed(_widen(grid).unbind(-1))
    axes = [_taps(x, n, mode, padding_mode, bool(align_corners)) for x, n in zip(places, sizes)]
    pixels, out = _widen(input).flatten(2), None
    for taps in itertools.product(*axes):
        index, weight = taps[0]
        for size, (position, share) in zip(sizes[1:], taps[1:]):
            index, weight = index * size + position, weight * share
        index = index.flatten(1).unsqueeze(1).expand(-1, pixels.shape[1], -1)
        term = pixels.gather(2, index).unflatten(2, grid.shape[1:-1]) * weight.unsqueeze(1)
        out = term if out is None else out + term
    assert out is not None
    return out.to(torch.promote_types(input.dtype, grid.dtype))


def _check_grid(input: Tensor, grid: Tensor, mode: str, padding_mode: str) -> None:
    if input.dim() not in (4, 5) or 0 in input.shape[2:]:
        raise ValueError(
            "grid_sample: input must have shape (B, C, H, W) or (B, C, D, H, W) with pixels in it, "
            f"got {tuple(input.shape)}"
        )
    if grid.dim() != input.dim() or (grid.shape[0], grid.shape[-1]) != (
        input.shape[0],
        input.dim() - 2,
    ):
        raise ValueError(
            f"grid_sample: grid must have {input.dim()} axes, the first of {input.shape[0]} and "
            f"the last of {input.dim() - 2} as input has, got {tuple(grid.shape)}"
        )
    modes = _GRID_MODES[: 3 if input.dim() == 4 else 2]
    if mode not in modes:
        raise ValueError(
            f"grid_sample: mode must be one of {modes} for an input of {input.dim()} axes, "
            f"got {mode!r}"
        )
    if padding_mode not in _GRID_PADDINGS:
        raise ValueError(
            f"grid_sample: padding_mode must be one of {_GRID_PADDINGS}, got {padding_mode!r}"
        )
    same = input.dtype == grid.dtype or torch.is_autocast_enabled(input.device.type)
    if not (same and input.is_floating_point() and grid.is_floating_point()):
        raise ValueError(
            "grid_sample: grid must have the floating-point dtype of input, got "
            f"{grid.dtype} and {input.dtype}"
        )


def _taps(
    x: Tensor, size: int, mode: str, padding_mode: str, corners: bool
) -> list[tuple[Tensor, Tensor]]:
    """Indices and weights of the pixels along one axis that a coordinate reads."""
    place = (x + 1) / 2 * (size - 1) if corners else ((x + 1) * size - 1) / 2
    if mode != "bicubic":  # whose pixels are padded one by one
        place = _pad_place(place, size, padding_mode, corners)
    if mode == "nearest":
        first = place.round()
        weights = [1 + (first - first.detach())]  # a derivative of zero rather than none
    else:
        first = place.detach().floor()
        weights = _linear(place - first) if mode == "bilinear" else _cubic(place - first)
    taps = []
    for i, weight in enumerate(weights, -1 if mode == "bicubic" else 0):
        pixel = first.detach() + i
        if mode == "bicubic":
            pixel = _pad_place(pixel, size, padding_mode, corners)
        inside = (pixel >= 0) & (pixel < size)  # false for NaN
        taps.append((pixel.where(inside, 0.0).long(), weight.where(inside, 0.0)))
    return taps


def _pad_place(place: Tensor, size: int, padding_mode: str, corners: bool) -> Tensor:
    """Bring a place in units of pixels into the image, unless padding is by zeros."""
    if padding_mode == "zeros":
        return place
    if padding_mode == "reflection":
        low, span = (0.0, size - 1) if corners else (-0.5, size)
        # From ``low`` on, the pattern goes up for ``span`` and down again. One pixel has no span.
        along = torch.fmod((place - low).abs(), 2 * max(span, 1))
        place = torch.where(along < span, along, 2 * span - along) + low
    # Unlike clamp's, the derivative at the border itself is zero, as the native one; NaN goes to 0.
    return place.where(place < size - 1, size - 1.0).where(place > 0, 0.0)


def _linear(t: Tensor) -> list[Tensor]:
    return [1 - t, t]


def _cubic(t: Tensor) -> list[Tensor]:
    """Weights of cubic convolution with A = -3/4 for four pixels, ``t`` past the second."""
    a = -0.75

    def near(t: Tensor) -> Tensor:
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t: Tensor) -> Tensor:
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """Solution of A X = B (or of X A = B), through the inverse: its derivatives are right."""
    inverse = torch.linalg.inv(A)
    if B.dim() == 1 or (B.dim() == A.dim() - 1 and B.shape == A.shape[:-1]):
        row_or_column = inverse if left else inverse.mT
        return (row_or_column @ B.unsqueeze(-1)).squeeze(-1)
    return inverse @ B if left else B @ inverse


def solve_ex(
    A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False
) -> tuple[Tensor, Tensor]:
    """As :func:`solve`, and what LAPACK says of each matrix."""
    with torch.no_grad():
        info = torch.linalg.solve_ex(A, B, left=left, check_errors=check_errors)[1]
    named: Any = torch.return_types
    return named.linalg_solve_ex((solve(A, B, left=left), info))


def tensorsolve(A: Tensor, B: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    """Solution X of tensordot(A, X, X.dim()) = B."""
    if dims is not None:
        A = A.movedim(tuple(dims), tuple(range(A.dim() - len(dims), A.dim())))
    shape = A.shape[B.dim() :]
    square = A.reshape(B.numel(), shape.numel())
    return solve(square, B.reshape(-1)).reshape(shape)


def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first n columns of the product of the reflections I − τ v v' in ``A`` (..., m, n)."""
    rows, columns = A.shape[-2:]
    below = torch.ones(rows, columns, dtype=torch.bool, device=A.device).tril(-1)
    eye = torch.eye(rows, columns, dtype=A.dtype, device=A.device)
    vectors = A.masked_fill(~below, 0) + eye
    product = eye.expand(*A.shape)
    for i in reversed(range(tau.shape[-1])):
        v = vectors[..., i : i + 1]
        product = product - tau[..., i, None, None] * (v @ (v.mH @ product))
    return product


def slogdet(A: Tensor) -> Any:
    """Sign and log of the absolute value of the determinant of ``A`` (..., n, n)."""
    _check_square("slogdet", A)
    pivots, parity = _pivots(A)
    if A.is_complex():
        signs = pivots / pivots.abs().masked_fill(pivots == 0, 1.0)
    else:  # of which the sign has no derivative
        signs = pivots.detach().sgn()
    named: Any = torch.return_types
    return named.linalg_slogdet((parity * signs.prod(-1), pivots.abs().log().sum(-1)))


def logdet(A: Tensor) -> Tensor:
    """Log of the determinant of ``A`` (..., n, n), NaN where that is negative."""
    _check_square("logdet", A)
    sign, log = slogdet(A)
    return sign.log() + log if A.is_complex() else log.masked_fill(sign < 0, torch.nan)


_EXPANDED = 8


def det(A: Tensor) -> Tensor:
    """Determinant of ``A`` (..., n, n), with its derivatives where ``A`` is singular too.

    Past 8 rows, `torch.linalg.inv` may raise where the rank is below n - 8.
    """
    _check_square("det", A)
    head_size = max(A.shape[-1] - _EXPANDED, 0)
    parity: Any = 1
    if head_size:
        order = _independent_first(A)
        parity, A = _factors(order)[2], A @ order
    rows, lower, row_parity = _factors(A)
    # ``lower`` is constant, so this is linear in A, and triangular there: expanded by minors its
    # determinant is as exact as the product of pivots, and divides by none of them.
    upper = torch.linalg.solve_triangular(lower, rows.mT @ A, upper=False, unitriangular=True)
    (head, right), (below, tail) = (
        half.tensor_split([head_size], -1) for half in upper.tensor_split([head_size], -2)
    )
    parity = parity * row_parity
    if head_size:
        pivots, head_parity = _pivots(head)
        parity = parity * head_parity * pivots.prod(-1)
        tail = tail - below @ torch.linalg.inv(head) @ right
    return parity * _expand_by_minors(tail)


def _check_square(name: str, A: Tensor) -> None:
    if A.dim() < 2 or A.shape[-1] != A.shape[-2]:
        raise ValueError(f"{name}: A must have shape (..., n, n), got {tuple(A.shape)}")


def _pivots(A: Tensor) -> tuple[Tensor, Tensor]:
    """Diagonal of U in A = PLU, and the sign of P."""
    packed, swaps, _ = torch.linalg.lu_factor_ex(A)
    return packed.diagonal(dim1=-2, dim2=-1), _parity(swaps).to(A.dtype)


def _factors(A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """P and L in A = PLU, held constant, and the sign of P."""
    packed, swaps, _ = torch.linalg.lu_factor_ex(A.detach())
    P, L, _ = torch.lu_unpack(packed, swaps)
    return P, L, _parity(swaps).to(A.dtype)


def _independent_first(A: Tensor) -> Tensor:
    """Permutation matrix that puts the columns of ``A`` last that depend on the others."""
    packed, swaps, _ = torch.linalg.lu_factor_ex(A.detach().mT)
    places = packed.diagonal(dim1=-2, dim2=-1).abs().argsort(-1, descending=True)
    return torch.lu_unpack(packed, swaps)[0].take_along_dim(places.unsqueeze(-2), -1)


def _parity(swaps: Tensor) -> Tensor:
    rows = torch.arange(1, swaps.shape[-1] + 1, device=swaps.device)
    return 1 - 2 * ((swaps != rows).sum(-1) % 2)


def _expand_by_minors(A: Tensor) -> Tensor:
    """Determinant of ``A`` (..., k, k) in k 2^(k - 1) products."""
    minors = A.new_ones(*A.shape[:-2], 1)
    for row, table in zip(A.unbind(-2), _minors(A.shape[-1])):
        columns, rest = torch.tensor(table, device=A.device).unbind(-1)
        signs = [(-1) ** i for i in reversed(range(columns.shape[1]))]
        terms = row[..., columns] * minors[..., rest]
        minors = (terms * torch.tensor(signs, dtype=A.dtype, device=A.device)).sum(-1)
    return minors.squeeze(-1)


@functools.cache
def _minors(k: int) -> list[list[list[tuple[int, int]]]]:
    """For every row and set of as many columns: each column, and the place of the set without it.

    Sets of a size are in lexicographic order.
    """
    tables: list[list[list[tuple[int, int]]]] = []
    smaller: dict[tuple[int, ...], int] = {(): 0}
    for size in range(1, k + 1):
        sets = list(itertools.combinations(range(k), size))
        tables.append(
            [[(column, smaller[s[:i] + s[i + 1 :]]) for i, column in enumerate(s)] for s in sets]
        )
        smaller = {s: i for i, s in enumerate(sets)}
    return tables


def native_layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Layer normalization, the mean, and one over the standard deviation."""
    dims = tuple(range(-len(normalized_shape), 0))
    x = _widen(input)
    centred = x - x.mean(dims, keepdim=True)
    rstd = torch.rsqrt((centred * centred).mean(dims, keepdim=True) + eps)
    out = layer_norm(input, normalized_shape, weight, bias, eps)
    return out, x.mean(dims, keepdim=True), rstd


def native_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalization as :func:`batch_norm`, the mean, and one over the standard deviation."""
    out = batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    with torch.no_grad():
        _, mean, rstd = torch.native_batch_norm(
            input, weight, bias, None if training else running_mean,
            None if training else running_var, training, momentum, eps,
        )  # fmt: skip
    return out, mean, rstd


def batch_norm_legit(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`native_batch_norm`, with running statistics or without an argument for them."""
    mean, variance, training, momentum, eps = rest if len(rest) == 5 else (None, None, *rest)
    return native_batch_norm(input, weight, bias, mean, variance, training, momentum, eps)


def batch_norm_with_update(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
) -> tuple[Tensor, ...]:
    """As :func:`native_batch_norm` in training mode, and an empty tensor."""
    results = native_batch_norm(input, weight, bias, running_mean, running_var, True, momentum, eps)
    return *results, input.new_empty(0)


def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """``input`` with ``src`` at ``index`` of ``dim``; PyTorch's vmap of it loses gradients."""
    index = index % input.shape[dim]
    return torch.slice_scatter(input, src.unsqueeze(dim), dim, index, index + 1)


def normal(
    mean: Tensor | float,
    std: Tensor | float = 1.0,
    size: Sequence[int] | None = None,
    *,
    generator: torch.Generator | None = None,
    **kwargs: Any,
) -> Tensor:
    """Draw from N(mean, std²) as mean + std ε: PyTorch takes the draw as a constant."""
    if not (isinstance(mean, Tensor) or isinstance(std, Tensor)):
        return torch.normal(mean, std, size, generator=generator, **kwargs)  # type: ignore[arg-type]
    like = mean if isinstance(mean, Tensor) else std
    assert isinstance(like, Tensor)
    shape = torch.broadcast_shapes(*(t.shape for t in (mean, std) if isinstance(t, Tensor)))
    noise = like.detach().new_empty(shape).normal_(generator=generator)
    return mean + std * noise


def lstm_cell(
    input: Tensor,
    hx: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Hidden and cell state of a long short-term memory after one more input."""
    hidden, cell = hx
    gates = F.linear(input, w_ih, b_ih) + F.linear(hidden, w_hh, b_hh)
    entry, forget, new, exit_ = gates.chunk(4, -1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(entry) * torch.tanh(new)
    return torch.sigmoid(exit_) * torch.tanh(cell), cell


def gru_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """Hidden state of a gated recurrent unit after one more input."""
    inputs = F.linear(input, w_ih, b_ih).chunk(3, -1)
    hidden = F.linear(hx, w_hh, b_hh).chunk(3, -1)
    reset, update = (torch.sigmoid(inputs[i] + hidden[i]) for i in (0, 1))
    new = torch.tanh(inputs[2] + reset * hidden[2])
    return new + update * (hx - new)


def safe_softmax(self: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """Softmax, and zero where all of a row is −∞."""
    x = self if dtype is None else self.to(dtype)
    closed = (x.detach() == -torch.inf).all(dim, keepdim=True)
    return torch.softmax(x.masked_fill(closed, 0.0), dim).masked_fill(closed, 0.0)


def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """Log of the sum of two exponentials, with derivatives of zero where both are zero."""
    a, b = torch.broadcast_tensors(input, other)
    closed = (a.detach() == -torch.inf) & (b.detach() == -torch.inf)
    both = torch.stack([a.masked_fill(closed, 0.0), b.masked_fill(closed, 0.0)])
    if not both.is_complex():
        return both.logsumexp(0).masked_fill(closed, -torch.inf)
    top = both.detach().real.amax(0)
    sums = torch.exp(both - top).sum(0).log() + top
    return _on_branch(sums, lambda: torch.logaddexp(input, other))


def _on_branch(logs: Tensor, native: Callable[[], Tensor]) -> Tensor:
    """Complex logarithms on the branch that a native kernel is on."""
    with torch.no_grad():
        turns = ((native() - logs).imag / (2 * math.pi)).round().nan_to_num()
    return logs + torch.complex(torch.zeros_like(turns), 2 * math.pi * turns)


def linear_cross_entropy(
    input: Tensor, linear_weight: Tensor, target: Tensor, *, options: Any = None, **kwargs: Any
) -> Tensor:
    """Cross-entropy of a linear layer, not in chunks: their second derivative is wrong."""
    return F.linear_cross_entropy(input, linear_weight, target, **kwargs)


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Hinge loss of scores ``input`` (N, C) or (C,) for the classes ``target`` (N,) or ()."""
    scores, labels = torch.atleast_2d(input), torch.atleast_1d(target)
    gaps = (margin - scores.gather(1, labels[:, None]) + scores).clamp_min(0)
    gaps = gaps if p == 1 else gaps * gaps
    gaps = gaps if weight is None else gaps * weight[labels][:, None]
    losses = gaps.scatter(1, labels[:, None], 0.0).sum(1) / scores.shape[1]
    reduced = _reduced(losses, size_average, reduce, reduction)
    return reduced.reshape(target.shape) if reduced.dim() else reduced


def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Hinge loss of scores (N, C) or (C,) for several classes; those before the first −1 count."""
    scores, labels = torch.atleast_2d(input), torch.atleast_2d(target)
    valid = (labels >= 0).cumprod(1).bool()
    chosen = torch.zeros_like(labels, dtype=torch.bool)
    chosen.scatter_reduce_(1, labels.clamp_min(0), valid, "amax")
    gaps = (1 - scores.gather(1, labels.clamp_min(0))[:, :, None] + scores[:, None, :]).clamp_min(0)
    counted = valid[:, :, None] & ~chosen[:, None, :]
    losses = gaps.masked_fill(~counted, 0.0).sum((1, 2)) / scores.shape[1]
    reduced = _reduced(losses, size_average, reduce, reduction)
    return reduced.reshape(input.shape[:-1]) if reduced.dim() else reduced


def _reduced(
    losses: Tensor, size_average: bool | None, reduce: bool | None, reduction: str
) -> Tensor:
    if size_average is not None or reduce is not None:  # torch's former way to say it
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
    return {"none": losses, "mean": losses.mean(), "sum": losses.sum()}[reduction]


def _from_torch_instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:
    return instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


def _from_torch_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:
    return batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _from_torch_layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return layer_norm(input, normalized_shape, weight, bias, eps)


def _from_torch_group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    return group_norm(input, num_groups, weight, bias, eps)


def _from_torch_grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    mode, padding = _GRID_MODES[interpolation_mode], _GRID_PADDINGS[padding_mode]
    return grid_sample(input, grid, mode, padding, align_corners)


DECOMPOSITIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    F.layer_norm: layer_norm,
    torch.layer_norm: _from_torch_layer_norm,
    F.rms_norm: rms_norm,
    torch.rms_norm: rms_norm,
    F.group_norm: group_norm,
    torch.group_norm: _from_torch_group_norm,
    F.instance_norm: instance_norm,
    torch.instance_norm: _from_torch_instance_norm,
    F.batch_norm: batch_norm,
    torch.batch_norm: _from_torch_batch_norm,
    F.scaled_dot_product_attention: scaled_dot_product_attention,
    F.multi_head_attention_forward: multi_head_attention_forward,
    F.glu: glu,
    torch._C._nn.glu: glu,
    F.hardsigmoid: hardsigmoid,
    torch._C._nn.hardsigmoid: hardsigmoid,
    F.rrelu: rrelu,
    torch.rrelu: rrelu,
    torch.cdist: cdist,
    torch.pdist: pdist,
    torch._weight_norm: weight_norm,
    torch.polar: polar,
    torch.lstm_cell: lstm_cell,
    torch.gru_cell: gru_cell,
    F.cosine_similarity: cosine_similarity,
    torch.cosine_similarity: cosine_similarity,
    torch.linspace: linspace,
    F.poisson_nll_loss: poisson_nll_loss,
    torch.logaddexp: logaddexp,
    Tensor.logaddexp: logaddexp,
    torch.logcumsumexp: logcumsumexp,
    Tensor.logcumsumexp: logcumsumexp,
    torch.conv_tbc: conv_tbc,
    torch.native_layer_norm: native_layer_norm,
    torch.native_batch_norm: native_batch_norm,
    torch._native_batch_norm_legit: batch_norm_legit,
    torch.ops.aten._batch_norm_with_update: batch_norm_with_update,
    torch.ops.aten._batch_norm_with_update.default: batch_norm_with_update,
    torch.select_scatter: select_scatter,
    Tensor.select_scatter: select_scatter,
    torch.normal: normal,
    torch.ops.aten._safe_softmax: safe_softmax,
    torch.ops.aten._safe_softmax.default: safe_softmax,
    F.multi_margin_loss: multi_margin_loss,
    F.multilabel_margin_loss: multilabel_margin_loss,
    F.grid_sample: grid_sample,
    torch.grid_sampler: _from_torch_grid_sampler,
    torch.grid_sampler_2d: _from_torch_grid_sampler,
    torch.grid_sampler_3d: _from_torch_grid_sampler,
    torch.linalg.solve: solve,
    torch.linalg.solve_ex: solve_ex,
    torch.linalg.tensorsolve: tensorsolve,
    torch.linalg.householder_product: householder_product,
    torch.orgqr: householder_product,
    Tensor.orgqr: householder_product,
    torch.linalg.slogdet: slogdet,
    torch.slogdet: slogdet,
    Tensor.slogdet: slogdet,
    torch.logdet: logdet,
    Tensor.logdet: logdet,
    torch.linalg.det: det,
    torch.det: det,
    Tensor.det: det,
}
"""Native function -> the function here that takes the same arguments."""


if hasattr(F, "linear_cross_entropy"):
    DECOMPOSITIONS[F.linear_cross_entropy] = linear_cross_entropy


class DecomposedFunctions(TorchFunctionMode):
    """While active, native calls in `DECOMPOSITIONS` run their decompositions instead.

    PyTorch's fused fast paths of attention and transformer layers switch themselves off while any
    such mode is active. Scripted functions call the native kernels from C++, out of this mode's
    reach: `RefuseWrongDerivatives` finds those.

    Parameters
    ----------
    write_statistics
        Let batch and instance norms update their running statistics as native calls would; for
        the one call of a function that stands for all others.
    """

    def __init__(self, *, write_statistics: bool = False) -> None:
        super().__init__()
        self._write_statistics = write_statistics

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        keep_saved_tensors()
        if self._write_statistics and func in KEEP_STATISTICS:
            with torch.no_grad():
                func(*args, **kwargs)
        if func not in DECOMPOSITIONS:
            return func(*args, **kwargs)
        args, kwargs = bind(func, args, kwargs)
        return DECOMPOSITIONS[func](*args, **kwargs)


KEEP_STATISTICS = (
    F.batch_norm,
    torch.batch_norm,
    torch.native_batch_norm,
    torch._native_batch_norm_legit,
    torch.ops.aten._batch_norm_with_update.default,
    F.instance_norm,
    torch.instance_norm,
)


_REFUSED = {
    "native_layer_norm": "layer_norm",
    "_scaled_dot_product_flash_attention": "scaled_dot_product_attention",
    "_scaled_dot_product_flash_attention_for_cpu": "scaled_dot_product_attention",
    "_scaled_dot_product_efficient_attention": "scaled_dot_product_attention",
    "_scaled_dot_product_cudnn_attention": "scaled_dot_product_attention",
    "_weight_norm_interface": "weight_norm",
    "_linalg_det": "det",
    "_linalg_slogdet": "slogdet",
    "_linalg_solve_ex": "solve",
}

NATIVE_WRONG = {
    "".join(part.capitalize() for part in name.split("_")) + "Backward": public
    for name, public in _REFUSED.items()
} | {name + "BatchNormBackward": "batch_norm" for name in ("Native", "Cudnn", "Miopen")}
"""What the nodes of the autograd graph begin with whose higher derivatives are wrong, and why."""


class RefuseWrongDerivatives(TorchDispatchMode):
    """While active, running a native kernel whose higher derivatives are wrong raises RuntimeError.

    Run a function once under this mode and `DecomposedFunctions` to learn whether anything, such as
    a scripted function, still reaches such a kernel.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        public = _REFUSED.get(name)
        if "batch_norm" in name and _argument(func, "training", args):
            public = "instance_norm or batch_norm in training mode"
        if public is not None and torch.is_grad_enabled():
            raise RuntimeError(
                f"fn reaches PyTorch's native kernel {func} from compiled or scripted code; its "
                f"higher derivatives are wrong or missing. Call {public} from Python instead, or "
                f"build it from elementary operations"
            )
        return func(*args, **(kwargs or {}))


def _argument(func: Any, name: str, args: Sequence[Any]) -> Any:
    """Return the positional argument of an operator that its schema calls ``name``, or None."""
    names = [argument.name for argument in func._schema.arguments[: len(args)]]
    return args[names.index(name)] if name in names else None
