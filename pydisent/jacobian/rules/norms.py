"""Rules for softmax and norms, composed of operations that PyTorch differentiates correctly."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pydisent.jacobian._call import Call, NoRuleError
from pydisent.jacobian._step import Bend, Step
from pydisent.jacobian.rules._base import (
    rule,
)


@rule("softmax", "softmin", "log_softmax")
def _softmax(call: Call) -> Step:
    source, dim = call.args[0], call.argument(1, "dim")
    if not isinstance(dim, int) or source.dim() == 0 or source.is_complex():
        raise NoRuleError
    dim = dim % source.dim() - source.dim()
    if call.name == "log_softmax":

        def spread(read, a, b):
            return -_covariance(read[0].exp(), a[0], b[0], dim).expand_as(a[0])

        return Step(
            [source],
            [call.out],
            lambda c, t: t[0] - (c[0].exp() * t[0]).sum(dim, keepdim=True),
            by_rows=dim != -source.dim(),
            bend=Bend([call.out], spread),
        )
    sign = -1 if call.name == "softmin" else 1

    def push(captured, tangents):
        weights, tangent = captured[0], sign * tangents[0]
        return weights * (tangent - (weights * tangent).sum(dim, keepdim=True))

    def bent(read, a, b):
        a, b = (t - (read[0] * t).sum(dim, keepdim=True) for t in (a[0], b[0]))
        product = a * b
        return read[0] * (product - (read[0] * product).sum(dim, keepdim=True))

    return Step(
        [source], [call.out], push, by_rows=dim != -source.dim(), bend=Bend([call.out], bent)
    )


def _covariance(weights: Tensor, a: Tensor, b: Tensor, dims: Any) -> Tensor:
    """Σ w (a − ⟨a⟩) (b − ⟨b⟩) under weights whose sum is one."""
    a, b = (t - (weights * t).sum(dims, keepdim=True) for t in (a, b))
    return (weights * a * b).sum(dims, keepdim=True)


def _norm_tangent(
    x: Tensor, tangent: Tensor, dims: tuple[int, ...], eps: float, centred: bool = True
) -> Tensor:
    """The tangent of (x − mean) / sqrt(var + eps) over negative ``dims``, from primitives only."""
    if centred:
        x = x - x.mean(dims, keepdim=True)
        tangent = tangent - tangent.mean(dims, keepdim=True)
    inverse = (x.square().mean(dims, keepdim=True) + eps).rsqrt()
    x_hat = x * inverse
    return inverse * (tangent - x_hat * (x_hat * tangent).mean(dims, keepdim=True))


def _norm_bend(
    x: Tensor, a: Tensor, b: Tensor, dims: tuple[int, ...], eps: float, centred: bool = True
) -> Tensor:
    """The second derivative of the same along a and b."""
    if centred:
        x, a, b = (t - t.mean(dims, keepdim=True) for t in (x, a, b))
    inverse = (x.square().mean(dims, keepdim=True) + eps).rsqrt()
    x, a, b = (t * inverse for t in (x, a, b))
    along_a, along_b = ((x * t).mean(dims, keepdim=True) for t in (a, b))
    both = (a * b).mean(dims, keepdim=True)
    return x * (3 * along_a * along_b - both) - a * along_b - b * along_a


def _affine(call: Call, weight: Any, bias: Any) -> list[Tensor]:
    if call.is_traced(weight) or call.is_traced(bias):
        raise NoRuleError
    return [] if weight is None else [weight]


@rule("layer_norm", "rms_norm")
def _last_dims_norm(call: Call) -> Step:
    source, shape = call.args[0], call.argument(1, "normalized_shape")
    centred = call.name == "layer_norm"
    weight = call.argument(2, "weight")
    affine = _affine(call, weight, call.argument(3, "bias") if centred else None)
    eps = call.argument(4, "eps", 1e-5) if centred else call.argument(3, "eps")
    eps = torch.finfo(source.dtype).eps if eps is None else eps
    dims = tuple(range(-len(shape), 0))

    def push(captured, tangents):
        result = _norm_tangent(captured[0], tangents[0], dims, eps, centred)
        return result * captured[1] if len(captured) > 1 else result

    def bent(read, a, b):
        result = _norm_bend(read[0], a[0], b[0], dims, eps, centred)
        return result * read[1] if len(read) > 1 else result

    captured = [source, *affine]
    by_rows = len(dims) < source.dim()
    return Step([source], captured, push, by_rows=by_rows, bend=Bend(captured, bent))


def _grouped_norm(call: Call, groups: int, weight: Any, bias: Any, eps: float) -> Step:
    source = call.args[0]
    affine = _affine(call, weight, bias)
    batch, channels = source.shape[:2]
    spatial = (1,) * (source.dim() - 2)

    def grouped(derivative, captured, *tangents):
        x = captured[0].reshape(batch, groups, -1)
        shape = tangents[0].shape
        result = derivative(x, *(t.reshape(len(t), *x.shape) for t in tangents), (-1,), eps)
        result = result.reshape(shape)
        return result * captured[1].reshape(channels, *spatial) if affine else result

    def push(captured, tangents):
        return grouped(_norm_tangent, captured, tangents[0])

    def bent(read, a, b):
        return grouped(_norm_bend, read, a[0], b[0])

    captured = [source, *affine]
    return Step([source], captured, push, by_rows=True, bend=Bend(captured, bent))


@rule("group_norm")
def _group_norm(call: Call) -> Step:
    groups = call.argument(1, "num_groups")
    weight, bias = call.argument(2, "weight"), call.argument(3, "bias")
    return _grouped_norm(call, groups, weight, bias, call.argument(4, "eps", 1e-5))


@rule("instance_norm")
def _instance_norm(call: Call) -> Step:
    source = call.args[0]
    if call.func is not F.instance_norm:  # the argument order of torch's own is another
        weight, bias, variance = call.args[1], call.args[2], call.args[4]
    else:
        variance = call.argument(2, "running_var")
        weight, bias = call.argument(3, "weight"), call.argument(4, "bias")
    eps = call.argument(7, "eps", 1e-5)
    if source.dim() < 3:
        raise NoRuleError
    if call.argument(5, "use_input_stats", True):
        return _grouped_norm(call, source.shape[1], weight, bias, eps)
    affine = _affine(call, weight, bias)
    shape = (source.shape[1], *(1,) * (source.dim() - 2))
    inverse = (variance.detach() + eps).rsqrt()

    def push(captured, tangents):
        scale = captured[0] * captured[1] if affine else captured[0]
        return tangents[0] * scale.reshape(shape)

    return Step([source], [inverse, *affine], push, by_rows=True)


@rule("normalize")
def _normalize(call: Call) -> Step:
    """A vector over its length, or over ``eps`` if that is larger."""
    source, p = call.args[0], call.argument(1, "p", 2.0)
    dim, eps = call.argument(2, "dim", 1), call.argument(3, "eps", 1e-12)
    if p != 2 or not isinstance(dim, int) or eps <= 0 or source.dim() == 0 or source.is_complex():
        raise NoRuleError
    dim = dim % source.dim() - source.dim()

    def push(captured, tangents):
        x, tangent = captured[0], tangents[0]
        squares = x.square().sum(dim, keepdim=True)
        large = squares > eps * eps
        inverse = torch.where(large, squares, 1.0).rsqrt()
        along = x * inverse
        turned = inverse * (tangent - along * (along * tangent).sum(dim, keepdim=True))
        return torch.where(large, turned, tangent / eps)

    return Step([source], [source], push, by_rows=dim != -source.dim())


@rule("logsumexp")
def _logsumexp(call: Call) -> Step:
    source, dims = call.args[0], call.argument(1, "dim")
    if source.dim() == 0 or not source.is_floating_point():
        raise NoRuleError
    dims = _dimensions(dims, source)
    keep = call.out.dim() == source.dim()
    kept = torch.Size(1 if i - source.dim() in dims else n for i, n in enumerate(source.shape))

    def push(captured, tangents):
        x, total = captured
        weights = (x - total.reshape(kept)).exp()
        return (weights * tangents[0]).sum(dims, keepdim=keep)

    def bent(read, a, b):
        x, total = read
        weights = (x - total.reshape(kept)).exp()
        result = _covariance(weights, a[0], b[0], dims)
        return result if keep else result.squeeze(dims)

    captured = [source, call.out]
    by_rows = -source.dim() not in dims
    return Step([source], captured, push, by_rows=by_rows, bend=Bend(captured, bent))


@rule("var", "std")
def _spread(call: Call) -> Step:
    """Variance, and its root, whose derivative at zero is defined as zero, as in PyTorch."""
    source, rest, named = call.args[0], list(call.args[1:]), dict(call.kwargs)
    dims = None if rest and isinstance(rest[0], bool) else rest.pop(0) if rest else None
    dims = named.pop("dim", dims)
    correction = named.pop("unbiased", rest.pop(0) if rest else True)
    correction = named.pop("correction", correction)
    named.pop("keepdim", None)
    if named or source.dim() == 0 or source.is_complex() or correction is None:
        raise NoRuleError
    dims = _dimensions(dims, source)
    count = math.prod(source.shape[dim] for dim in dims) - correction
    if count <= 0:
        raise NoRuleError
    root, keep = call.name == "std", call.out.dim() == source.dim()

    def push(captured, tangents):
        x = captured[0] - captured[0].mean(dims, keepdim=True)
        if root:
            variance = x.square().sum(dims, keepdim=True) / count
            zero = variance == 0
            x = x * torch.where(zero, 0.0, torch.where(zero, 1.0, variance).rsqrt()) / 2
        return (x * tangents[0]).sum(dims, keepdim=keep) * (2 / count)

    return Step([source], [source], push, by_rows=-source.dim() not in dims)


def _dimensions(dims: Any, source: Tensor) -> tuple[int, ...]:
    """One dimension, several, or none for all of them, counted from the end."""
    dims = (dims,) if isinstance(dims, int) else tuple(dims or range(source.dim()))
    return tuple(dim % source.dim() - source.dim() for dim in dims)


@rule("norm", "linalg_norm", "linalg_vector_norm")
def _euclidean_norm(call: Call) -> Step:
    """‖x‖ along some dimensions, whose derivative at zero is defined as zero, as in PyTorch."""
    source, p = call.args[0], call.argument(1, "p" if call.name == "norm" else "ord", None)
    dims = call.argument(2, "dim")
    names = {"p", "ord", "dim", "keepdim", "dtype"}
    if p not in (None, 2, "fro") or call.kwargs.keys() - names or call.argument(4, "dtype"):
        raise NoRuleError
    if source.is_complex() or source.dim() == 0:
        raise NoRuleError
    if call.name == "linalg_norm" and p == 2 and not isinstance(dims, int):
        raise NoRuleError  # the spectral norm of matrices
    dims = _dimensions(dims, source)
    keep = call.out.dim() == source.dim()

    def push(captured, tangents):
        x, squares = captured[0], captured[0].square().sum(dims, keepdim=True)
        zero = squares == 0
        inverse = torch.where(zero, 0.0, torch.where(zero, 1.0, squares).rsqrt())
        return (x * inverse * tangents[0]).sum(dims, keepdim=keep)

    return Step([source], [source], push, by_rows=-source.dim() not in dims)
