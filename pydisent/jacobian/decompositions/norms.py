"""Normalization layers, composed of primitives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pydisent.jacobian.decompositions._registry import (
    decomposes,
    differentiate_statistics,
    operators_of,
    widen,
)


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


@decomposes(F.layer_norm)
def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Layer normalization of ``input`` (..., *normalized_shape), as in `torch.nn.functional`."""
    _check_tail("layer_norm", input, normalized_shape)
    x = _standardize(widen(input), tuple(range(-len(normalized_shape), 0)), eps)
    if weight is not None:
        x = x * weight
    if bias is not None:
        x = x + bias
    return x.to(input.dtype)


@decomposes(torch.layer_norm)
def _torch_layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return layer_norm(input, normalized_shape, weight, bias, eps)


@decomposes(torch.native_layer_norm)
def native_layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Layer normalization, the mean, and one over the standard deviation."""
    dims = tuple(range(-len(normalized_shape), 0))
    x = widen(input)
    centred = x - x.mean(dims, keepdim=True)
    rstd = torch.rsqrt((centred * centred).mean(dims, keepdim=True) + eps)
    out = layer_norm(input, normalized_shape, weight, bias, eps)
    return out, x.mean(dims, keepdim=True), rstd


@decomposes(F.rms_norm, torch.rms_norm)
def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """Root-mean-square normalization of ``input`` (..., *normalized_shape)."""
    _check_tail("rms_norm", input, normalized_shape)
    x = widen(input)
    dims = tuple(range(-len(normalized_shape), 0))
    guard = torch.finfo(x.dtype).eps if eps is None else eps
    x = x * torch.rsqrt((x * x).mean(dims, keepdim=True) + guard)
    return (x if weight is None else x * weight).to(input.dtype)


def _check_tail(name: str, input: Tensor, normalized_shape: Sequence[int]) -> None:
    tail = tuple(normalized_shape)
    if not tail or tuple(input.shape[-len(tail) :]) != tail:
        raise ValueError(
            f"normalized_shape of {name} must be the last axes of input {tuple(input.shape)}, "
            f"got {tail}"
        )


@decomposes(F.group_norm)
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
            f"num_groups must divide the channels of input {tuple(input.shape)}, got {num_groups}"
        )
    x = widen(input).reshape(input.shape[0], num_groups, -1)
    x = _standardize(x, (-1,), eps).reshape(input.shape)
    return _scale_shift(x, weight, bias).to(input.dtype)


@decomposes(torch.group_norm)
def _torch_group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    return group_norm(input, num_groups, weight, bias, eps)


@decomposes(F.instance_norm)
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
    x = _standardize(widen(input), tuple(range(2, input.dim())), eps)
    return _scale_shift(x, weight, bias).to(input.dtype)


@decomposes(torch.instance_norm)
def _torch_instance_norm(
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


@decomposes(F.batch_norm)
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
    every output depends on every sample and the per-sample Jacobian is not defined (but see
    `CorrectedFunctions`). Those of a batch of one are differentiated: they belong to that sample,
    or, if (B, C, ...) was reshaped to (1, B·C, ...), to each. Running statistics are not updated.
    """
    x = widen(input)
    if training:
        dims = (0, *range(2, x.dim()))
        apart = x.shape[0] == 1  # statistics of one row, such as (1, B·C, ...) for instance norm
        fixed = x if apart or differentiate_statistics.get() else x.detach()
        mean, variance = fixed.mean(dims), fixed.var(dims, correction=0)
    elif running_mean is None or running_var is None:
        raise ValueError(
            "running_mean and running_var must be tensors when training is False, got None"
        )
    else:
        mean, variance = widen(running_mean), widen(running_var)
    x = _scale_shift(x, None, -mean)
    x = _scale_shift(x, torch.rsqrt(variance + eps), None)
    return _scale_shift(x, weight, bias).to(input.dtype)


@decomposes(torch.batch_norm)
def _torch_batch_norm(
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


@decomposes(torch.native_batch_norm)
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


@decomposes(torch._native_batch_norm_legit)
def batch_norm_legit(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`native_batch_norm`, with or without running statistics as arguments."""
    mean, variance, training, momentum, eps = rest if len(rest) == 5 else (None, None, *rest)
    return native_batch_norm(input, weight, bias, mean, variance, training, momentum, eps)


@decomposes(torch.ops.aten._batch_norm_with_update)
def batch_norm_with_update(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
) -> tuple[Tensor, ...]:
    """As :func:`native_batch_norm` in training mode, with an additional empty tensor."""
    results = native_batch_norm(input, weight, bias, running_mean, running_var, True, momentum, eps)
    return *results, input.new_empty(0)


@decomposes(torch._weight_norm)
def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """Weight normalization g v / ‖v‖; one norm per index of axis ``dim``, or one norm for -1."""
    dims = tuple(range(v.dim())) if dim == -1 else tuple(d for d in range(v.dim()) if d != dim)
    x = widen(v)
    norms = (x * x).sum(dims, keepdim=True).sqrt()
    return (x * (widen(g) / norms)).to(v.dtype)


_WITH_STATISTICS = (
    torch.batch_norm,
    torch.native_batch_norm,
    torch._native_batch_norm_legit,
    torch.ops.aten._batch_norm_with_update,
    torch.instance_norm,
)
KEEP_STATISTICS = frozenset(
    [F.batch_norm, F.instance_norm, *_WITH_STATISTICS]
    + [operator for native in _WITH_STATISTICS for operator in operators_of(native)]
)
"""Functions that update running statistics."""
