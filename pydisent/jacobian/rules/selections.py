"""Rules for operations that select elements: tangents are selected at the same places."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pydisent.jacobian._call import Call, NoRuleError
from pydisent.jacobian._diagonal import like_tangent
from pydisent.jacobian._step import Step
from pydisent.jacobian.rules._base import RULES, rule

# Position of the dimension argument of each function, and its default.
_DIMENSION = {
    "sort": (1, -1),
    "topk": (2, -1),
    "kthvalue": (2, -1),
    "mode": (1, -1),
    "max": (1, None),
    "min": (1, None),
    "median": (1, None),
    "nanmedian": (1, None),
    "cummax": (1, None),
    "cummin": (1, None),
}


@rule(*_DIMENSION)
def _picked(call: Call) -> Step:
    """Values selected along a dimension, returned with their indices."""
    source = call.args[0]
    dim = call.argument(_DIMENSION[call.name][0], "dim", _DIMENSION[call.name][1])
    if isinstance(call.out, Tensor) and dim is None:
        return _extremes(call, None)
    if isinstance(call.out, Tensor) or source.dim() == 0 or not isinstance(dim, int):
        raise NoRuleError
    indices = call.out[1]
    dim = dim % source.dim() - source.dim()
    reduced = indices.dim() < source.dim()
    places = indices.unsqueeze(dim) if reduced else indices

    def push(captured, tangents):
        picked = tangents[0].gather(dim, captured[0].expand(len(tangents[0]), *captured[0].shape))
        return picked.squeeze(dim) if reduced else picked

    return Step([source], [places], push, by_rows=dim != -source.dim())


@rule("amax", "amin")
def _extreme(call: Call) -> Step:
    return _extremes(call, call.argument(1, "dim", ()))


def _extremes(call: Call, dims: Any) -> Step:
    """The largest or smallest values; elements that tie share the tangent equally."""
    source = call.args[0]
    if call.name not in ("amax", "amin", "max", "min") or source.dim() == 0:
        raise NoRuleError
    if dims is None and call.out.dim() > 0:  # elementwise, of two tensors
        raise NoRuleError
    dims = (dims,) if isinstance(dims, int) else tuple(dims or range(source.dim()))
    dims = tuple(dim % source.dim() - source.dim() for dim in dims)
    out = getattr(source.detach(), "amin" if "min" in call.name else "amax")(dims, keepdim=True)
    shares = (source.detach() == out).to(source.dtype)
    shares = shares / shares.sum(dims, keepdim=True)
    keep = call.out.dim() == source.dim()

    def push(captured, tangents):
        return (like_tangent(captured[0], tangents[0]) * tangents[0]).sum(dims, keepdim=keep)

    return Step([source], [shares], push, by_rows=-source.dim() not in dims)


def _max_pool(call: Call) -> Step:
    source, spatial = call.args[0], int(call.name[-2])
    if call.kwargs.pop("return_indices", False) or not isinstance(call.out, Tensor):
        raise NoRuleError
    rest = call.args[1 : 2 if "adaptive" in call.name else 6]
    function = getattr(F, call.name)
    with torch.no_grad():
        _, indices = function(source, *rest, **call.kwargs, return_indices=True)

    def push(captured, tangents):
        places = captured[0].flatten(-spatial)
        flat = tangents[0].flatten(-spatial)
        picked = flat.gather(-1, places.expand(*flat.shape[:-1], -1))
        return picked.unflatten(-1, captured[0].shape[-spatial:])

    return Step([source], [indices], push, by_rows=source.dim() == spatial + 2)


for _pool in (1, 2, 3):
    RULES[f"max_pool{_pool}d"] = RULES[f"adaptive_max_pool{_pool}d"] = _max_pool
