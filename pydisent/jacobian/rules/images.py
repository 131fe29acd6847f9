"""Rules for linear operations on images, with K and B merged into one batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from pydisent.jacobian._call import Call, NoRuleError
from pydisent.jacobian._step import Step
from pydisent.jacobian.rules._base import COVERED, RULES, on_rows, rule


def _resample(call: Call) -> Step:
    source = call.args[0]
    rest, named, function = call.args[1:], call.kwargs, call.func
    if not call.is_traced(source) or source.dim() < 3 or not isinstance(call.out, Tensor):
        raise NoRuleError
    if any(call.is_traced(leaf) for leaf in pytree.tree_leaves((rest, named))):
        raise NoRuleError
    if call.name in ("pixel_shuffle", "pixel_unshuffle", "channel_shuffle") and source.dim() < 4:
        raise NoRuleError
    if "pool" in call.name and source.dim() != int(call.name[-2]) + 2:
        raise NoRuleError
    return Step(
        [source],
        [],
        lambda _, t: on_rows(lambda r: function(r, *rest, **named), t[0]),
        by_rows=True,
    )


for _spatial in (
    "interpolate upsample upsample_nearest upsample_bilinear pixel_shuffle pixel_unshuffle "
    "channel_shuffle avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d"
).split():
    RULES[_spatial] = _resample


@rule("affine_grid", "affine_grid_generator")
def _affine_grid(call: Call) -> Step:
    """Linear in the matrices, with a grid for each."""
    source, size, rest = call.args[0], call.argument(1, "size"), call.args[2:]
    named = {name: value for name, value in call.kwargs.items() if name != "size"}
    function, one = call.func, [int(length) for length in size][1:]

    def push(_, tangents):
        return on_rows(lambda r: function(r, [len(r), *one], *rest, **named), tangents[0])

    return Step([source], [], push, by_rows=True)


@rule("grid_sample")
def _grid_sample(call: Call) -> Step:
    """Linear in the images. The K tangents share a sample's grid: they are further channels."""
    source, grid, *rest = call.args
    named, count = call.kwargs, source.shape[1]

    def push(captured, tangents):
        channels = tangents[0].transpose(0, 1).flatten(1, 2)
        sampled = F.grid_sample(channels, captured[0], *rest, **named)
        return sampled.unflatten(1, (-1, count)).transpose(0, 1)

    return Step([source], [grid], push, by_rows=True)


# A grid that depends on z, and second derivatives, take elementary operations.
COVERED["grid_sample"] = lambda call: not call.is_traced(call.argument(1, "grid"))


@rule("pad")
def _pad(call: Call) -> Step:
    source, pad = call.args[0], call.argument(1, "pad")
    mode = call.argument(2, "mode", "constant")
    if mode == "constant":  # the border's value has no tangent
        by_rows = len(pad) < 2 * source.dim()
        return Step([source], [], lambda _, t: F.pad(t[0], pad), by_rows=by_rows)
    if len(pad) > 2 * (source.dim() - 2):  # leaves no batch dimension in front
        raise NoRuleError
    return Step(
        [source], [], lambda _, t: on_rows(lambda r: F.pad(r, pad, mode), t[0]), by_rows=True
    )
