"""Growing layers: old weights are copied, and old outputs are unchanged."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from pydisent._checks import check, check_integer

Norm = TypeVar("Norm", bound=nn.BatchNorm1d | nn.BatchNorm2d)
Layer = TypeVar("Layer", bound=nn.Linear | nn.Conv2d | nn.ConvTranspose2d)


def with_more_outputs(layer: Layer, count: int) -> Layer:
    """Return a copy of a layer with ``count`` more outputs appended, freshly initialised.

    Parameters
    ----------
    layer
        A linear layer or a convolution, without groups.
    count
        Number of new outputs, >= 0.

    Raises
    ------
    ValueError, TypeError
        If ``count`` is not an integer >= 0, or the layer is of another kind or parametrized.
    """
    check_integer("count", count, at_least=0)
    return _grown(layer, 0, count)


def with_more_inputs(layer: Layer, count: int) -> Layer:
    """Return a copy of a layer with ``count`` more inputs appended, freshly initialised.

    If the new inputs are zero, the outputs equal the old layer's.

    Raises
    ------
    ValueError, TypeError
        As for `with_more_outputs`.
    """
    check_integer("count", count, at_least=0)
    return _grown(layer, count, 0)


def check_plain(layer: nn.Module, name: str = "layer") -> None:
    """Raise TypeError unless the layer's weight and bias are parameters with values.

    Under weight or spectral norm they are computed at each use, and what is written to them is
    lost.
    """
    for part in ("weight", "bias"):
        found = vars(layer)["_parameters"].get(part, layer)
        if found is layer or isinstance(found, nn.parameter.UninitializedParameter):
            raise TypeError(
                f"{name} must have a plain parameter {part}, without weight norm, spectral norm or "
                f"another parametrization, got {layer}"
            )


def _grown(layer: Layer, inputs: int, outputs: int) -> Layer:
    if not isinstance(layer, nn.Linear) and not (
        isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.groups == 1
    ):
        raise TypeError(
            f"layer must be Linear, or Conv2d or ConvTranspose2d without groups, got {layer}"
        )
    check_plain(layer)
    grown = copy.deepcopy(layer)
    units = "features" if isinstance(layer, nn.Linear) else "channels"
    for name, more in ((f"in_{units}", inputs), (f"out_{units}", outputs)):
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
    """Return a copy of a batch norm with ``count`` more features appended, at initial values.

    Raises
    ------
    ValueError, TypeError
        If ``count`` is not an integer >= 0, or the norm is of another kind.
    """
    check_integer("count", count, at_least=0)
    if not isinstance(norm, _NormBase):
        raise TypeError(f"norm must be a batch norm, got {norm}")
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
    for name, parameter in norm.named_parameters():
        getattr(grown, name).requires_grad_(parameter.requires_grad)
    return grown.train(norm.training) if like is None else grown.to(like).train(norm.training)  # type: ignore[return-value]


@torch.no_grad()
def fold_batch_norm(layer: Layer, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    """Fold a batch norm in eval mode into the layer before it.

    Parameters
    ----------
    layer
        A linear layer or convolution with bias, modified in place.
    norm
        The norm of the layer's outputs, with running statistics.

    Raises
    ------
    ValueError, TypeError
        If the layer has no bias, is parametrized or is a transposed convolution with groups; or the
        norm has no running statistics, or not one feature per output.
    """
    check_plain(layer)
    outputs = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    if layer.bias is None:
        raise ValueError(f"layer must have a bias, got {layer}")
    if outputs and layer.groups != 1:
        raise TypeError(f"layer must be without groups if transposed, got {layer}")
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(f"norm must have running statistics, got {norm}")
    check(norm.num_features == len(layer.bias), "norm", f"of {len(layer.bias)} features", norm)
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    layer.weight.mul_(_along(scale, outputs, layer.weight.dim()))
    layer.bias.sub_(norm.running_mean).mul_(scale)
    if norm.affine:
        layer.bias.add_(norm.bias)


def _along(x: Tensor, axis: int, dims: int) -> Tensor:
    return x.reshape([-1 if d == axis else 1 for d in range(dims)])
