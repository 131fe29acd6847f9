"""Rules for convolutions, with K and B merged into one batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pydisent.jacobian._call import Call, NoRuleError
from pydisent.jacobian._step import Pull, Step
from pydisent.jacobian.rules._base import RULES, as_rows, on_image_rows, on_rows
from pydisent.jacobian.rules.products import linear_map, multilinear
from pydisent.jacobian.upsampling import double, gradients, is_doubling, is_projection


def _convolution(call: Call) -> Step:
    source, weight = call.argument(0, "input"), call.argument(1, "weight")
    bias = call.argument(2, "bias")
    rest, named = (
        call.args[3:],
        {k: v for k, v in call.kwargs.items() if k not in ("input", "weight", "bias")},
    )
    function = call.func
    if call.is_traced(bias):
        raise NoRuleError
    if call.is_traced(weight):
        call.args, call.kwargs = (source, weight, None, *rest), named
        batched = source.dim() == weight.dim()
        return _convolution_by_traced(call, source, weight) if batched else multilinear(call)
    if source.dim() == weight.dim() - 1:  # no batch: K takes its place
        return Step([source], [weight], lambda c, t: function(t[0], c[0], None, *rest, **named))
    if call.name == "conv_transpose2d" and is_projection(source, *rest, **named):
        channels, *kernel = weight.shape[1:]
        return Step(
            [source],
            [weight],
            lambda c, t: linear_map(t[0].flatten(2), c[0].flatten(1).mT).unflatten(
                2, (channels, *kernel)
            ),
            by_rows=True,
        )
    doubles = call.name == "conv_transpose2d" and is_doubling(source, weight, *rest, **named)
    on = on_image_rows if source.dim() == 4 else on_rows

    def push(captured, tangents):
        (weight,) = captured
        if doubles:
            return on(lambda r: double(r, weight), tangents[0])
        return on(lambda r: function(r, weight, None, *rest, **named), tangents[0])

    back = gradients if doubles else _gradients(call, source.dim() - 2)
    return Step([source], [weight], push, by_rows=True, pull=back and _pull(back))


def _pull(gradients: Callable) -> Pull:
    """``gradients(rows, weight, cotangent, needed)`` as the ``pull`` of a step."""

    def pull(captured, tangents, cotangent, needed):
        rows, image = [as_rows(x) for x in (tangents[0], cotangent)]
        by_rows, by_weight = gradients(rows, captured[0], image, (needed[1], needed[0]))
        return by_weight, None if by_rows is None else by_rows.unflatten(0, tangents[0].shape[:2])

    return pull


def _gradients(call: Call, dim: int) -> Callable | None:
    """PyTorch's gradients of a convolution, or None if its padding is given by name."""
    transposed = "transpose" in call.name
    names = ["stride", "padding", *(["output_padding", "groups", "dilation"] if transposed
             else ["dilation", "groups"])]  # fmt: skip
    given = {name: call.argument(3 + i, name) for i, name in enumerate(names)}
    if isinstance(given["padding"], str):
        return None
    defaults = {"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0, "groups": 1}
    numbers = defaults | {name: value for name, value in given.items() if value is not None}
    groups = numbers.pop("groups")
    lists = {n: [v] * dim if isinstance(v, int) else list(v) for n, v in numbers.items()}
    settings = (
        *(lists[name] for name in ("stride", "padding", "dilation")),
        transposed,
        lists["output_padding"],
        groups,
    )

    def gradients(rows, weight, cotangent, needed):
        return torch.ops.aten.convolution_backward(
            cotangent, rows, weight, None, *settings, [*needed, False]
        )[:2]

    return gradients


def _convolution_by_traced(call: Call, source: Tensor, weight: Tensor) -> Step:
    """A convolution with a moving (modulated) weight: K weights are K times the channels."""
    function, rest, named = call.func, call.args[3:], call.kwargs
    groups = call.argument(6, "groups", 1)
    transposed = "transpose" in call.name

    def along_the_weight(x: Tensor, tangent: Tensor) -> Tensor:
        count = len(tangent)
        if transposed:  # (K, in, out/g, ...) as (in, K out/g, ...)
            stacked = tangent.movedim(0, 1).flatten(1, 2)
        else:  # (K, g out/g, in/g, ...) as (g K out/g, in/g, ...)
            stacked = tangent.unflatten(1, (groups, -1)).movedim(0, 1).flatten(0, 2)
        out = function(x, stacked, None, *rest, **named)
        return out.unflatten(1, (groups, count, -1)).movedim(2, 0).flatten(2, 3)

    if not call.is_traced(source):
        return Step([weight], [source], lambda c, t: along_the_weight(c[0], t[0]))

    def push(captured, tangents):
        w, x = captured
        by_source = on_rows(lambda r: function(r, w, None, *rest, **named), tangents[0])
        return by_source + along_the_weight(x, tangents[1])

    return Step([source, weight], [weight, source], push)


for _conv in (
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
):
    RULES[_conv] = _convolution
