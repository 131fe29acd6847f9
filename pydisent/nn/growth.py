"""Layers with more units: old weights are copied, and what the layer did stays as it was."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

_CHANNELS = ("in_channels", "out_channels")
Norm = TypeVar("Norm", bound=nn.BatchNorm1d | nn.BatchNorm2d)
Layer = TypeVar("Layer", bound=nn.Linear | nn.Conv2d | nn.ConvTranspose2d)


def with_more_outputs(layer: Layer, count: int) -> Layer:
    """Return a copy of a layer with ``count`` more outputs behind its own, freshly initialised.

    Parameters
    ----------
    layer
        A linear layer or a convolution, without groups.
    count
        How many, >= 0.

    Raises
    ------
    ValueError, TypeError
        If ``count`` is negative, or the layer is of another kind.
    """
    return _grown(layer, 0, count)


def with_more_inputs(layer: Layer, count: int) -> Layer:
    """Return a copy of a layer with ``count`` more inputs behind its own, freshly initialised.

    Zeros for the new inputs give what the layer gave before.

    Raises
    ------
    ValueError, TypeError
        As for `with_more_outputs`.
    """
    return _grown(layer, count, 0)


def _grown(layer: Layer, inputs: int, outputs: int) -> Layer:
    if min(inputs, outputs) < 0:
        raise ValueError(f"count is {min(inputs, outputs)}; accepted: an integer >= 0")
    if not isinstance(layer, nn.Linear) and not (
        isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.groups == 1
    ):
        raise TypeError(
            f"layer is {layer}; accepted: Linear, or Conv2d and ConvTranspose2d without groups"
        )
    grown = copy.deepcopy(layer)
    names = ("in_features", "out_features") if isinstance(layer, nn.Linear) else _CHANNELS
    for name, more in zip(names, (inputs, outputs)):
        setattr(grown, name, getattr(layer, name) + more)
    sizes = list(layer.weight.shape)
    added = (inputs, outputs) if isinstance(layer, nn.ConvTranspose2d) else (outputs, inputs)
    sizes[:2] = sizes[0] + added[0], sizes[1] + added[1]
    grown.weight = nn.Parameter(layer.weight.new_empty(sizes))
    if layer.bias is not None:
        grown.bias = nn.Parameter(layer.bias.new_empty(len(layer.bias) + outputs))
    grown.reset_parameters()
    for name, parameter in layer.named_parameters():
        getattr(grown, name).requires_grad_(parameter.requires_grad)
    with torch.no_grad():
        grown.weight[tuple(slice(0, length) for length in layer.weight.shape)] = layer.weight
        if layer.bias is not None:
            grown.bias[: len(layer.bias)] = layer.bias  # type: ignore[index]
    if layer.weight.dim() == 4 and layer.weight.is_contiguous(memory_format=torch.channels_last):
        grown.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return grown


def with_more_features(norm: Norm, count: int) -> Norm:
    """Return a copy of a batch norm over ``count`` more features behind its own, as they begin.

    Raises
    ------
    ValueError
        If ``count`` is negative.
    """
    if count < 0:
        raise ValueError(f"count is {count}; accepted: an integer >= 0")
    grown = type(norm)(
        norm.num_features + count,
        norm.eps,
        norm.momentum,
        norm.affine,
        norm.track_running_stats,
    )
    targets = grown.state_dict()
    for name, value in norm.state_dict().items():
        targets[name][tuple(slice(0, length) for length in value.shape)] = value
    like = next((t for t in (norm.weight, norm.running_mean) if t is not None), None)
    return grown.train(norm.training) if like is None else grown.to(like).train(norm.training)  # type: ignore[return-value]


@torch.no_grad()
def fold_batch_norm(layer: Layer, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    """Let a layer do what it does followed by batch norm in eval mode.

    Parameters
    ----------
    layer
        A linear layer or convolution with bias; it is changed in place.
    norm
        With running statistics; over the layer's outputs.
    """
    assert layer.bias is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    outputs = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    layer.weight.mul_(_along(scale, outputs, layer.weight.dim()))
    layer.bias.sub_(norm.running_mean).mul_(scale)
    if norm.affine:
        layer.bias.add_(norm.bias)


def _along(x: Tensor, axis: int, dims: int) -> Tensor:
    return x.reshape([-1 if d == axis else 1 for d in range(dims)])
