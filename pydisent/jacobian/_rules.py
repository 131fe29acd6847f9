"""Tangent rules: how each torch operation maps tangents, with K of them in front.

A tangent of a value of shape ``s`` has shape ``(K, *s)``. Linear maps with a batch dimension act on
K·B rows at once; elementwise functions multiply by a derivative computed once and shared by the K
tangents; multilinear ones use the product rule. An operation that is not here is differentiated
by ``torch.func.jvp`` on that operation alone. Every rule is made of operations whose own first
derivative PyTorch has right, so that one reverse pass through a rule gives the gradient of a Jacobian
penalty: norms are composed of primitives for this reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from pydisent.jacobian._function import restore_random_state, save_random_state
from pydisent.jacobian._trace import Call, NoRuleError, Rule, Step, differentiable
from pydisent.ops import activation_tangent, activation_tangent_

RULES: dict[str, Rule] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for name in names:
            RULES[name] = rule
        return rule

    return register


# -- tools ---------------------------------------------------------------------------------------


def _over_tangents(function: Callable, tangents: Sequence[Tensor]) -> Any:
    """Apply ``function`` to each of the K tangents: by vmap, or one by one where vmap cannot."""
    try:
        return torch.vmap(function, randomness="same")(*tangents)
    except (RuntimeError, NotImplementedError, ValueError):
        results = [function(*(t[i] for t in tangents)) for i in range(tangents[0].shape[0])]
        return pytree.tree_map(lambda *leaves: torch.stack(leaves), *results)


def _rows(function: Callable[[Tensor], Tensor], tangent: Tensor) -> Tensor:
    """Apply a batched function to K·B rows at once."""
    count, batch = tangent.shape[:2]
    return function(tangent.flatten(0, 1)).unflatten(0, (count, batch))


def _image_rows(function: Callable[[Tensor], Tensor], tangent: Tensor) -> Tensor:
    """As ``_rows``, with 2-d images channels last: oneDNN and cuDNN are fastest on these."""
    count, batch = tangent.shape[:2]
    rows = tangent.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return function(rows).unflatten(0, (count, batch))


def _align(tangent: Tensor, primal_dim: int, out_dim: int) -> Tensor:
    """Put ones behind K so that a broadcast with a value of ``out_dim`` dimensions is right."""
    if primal_dim == out_dim:
        return tangent
    ones = (1,) * (out_dim - primal_dim)
    return tangent.reshape(tangent.shape[0], *ones, *tangent.shape[1:])


def _split(call: Call) -> tuple[list[Any], Any, list[Tensor]]:
    leaves, spec = pytree.tree_flatten((call.args, call.kwargs))
    return leaves, spec, [leaf for leaf in leaves if call.is_traced(leaf)]


# -- the general rule ----------------------------------------------------------------------------


def general(call: Call) -> Step:
    """Any operation, by ``torch.func.jvp`` on it alone, else by reverse mode twice."""
    leaves, spec, _ = _split(call)
    places = [i for i, leaf in enumerate(leaves) if differentiable(leaf)]
    traced = [i for i in places if call.is_traced(leaves[i])]
    constants = [i for i in places if i not in traced]
    order = traced + constants
    func = call.func

    def apply(captured: Sequence[Tensor], primals: Sequence[Tensor]) -> tuple[Tensor, ...]:
        filled = list(leaves)
        for place, value in zip(traced, primals):
            filled[place] = value
        for place, value in zip(constants, captured[len(traced) :]):
            filled[place] = value
        args, kwargs = pytree.tree_unflatten(filled, spec)
        return tuple(o for o in pytree.tree_leaves(func(*args, **kwargs)) if differentiable(o))

    def push(captured, tangents):
        primals = tuple(captured[: len(traced)])
        tangents = [t.to(p.dtype) for t, p in zip(tangents, primals)]

        def one(*directions):
            return torch.func.jvp(lambda *p: apply(captured, p), primals, directions)[1]

        return _over_tangents(one, tangents)

    step = Step([leaves[i] for i in traced], [leaves[i] for i in order], push)
    if not _has_forward_mode(apply, step):
        step.push = _reverse_twice(apply, len(traced))
    return step


def _has_forward_mode(apply: Callable, step: Step) -> bool:
    """Whether forward mode is there and right: <u, J v> = <J'u, v> for random u and v.

    Some operations have only a reverse formula; a custom operator may have a jvp of silent zeros.
    """
    captured = [tensor.detach() for tensor in step.captured]
    primals = tuple(captured[: len(step.inputs)])
    generator = torch.Generator().manual_seed(0)
    after = save_random_state(primals[0])
    v = tuple(torch.randn(p.shape, generator=generator).to(p) for p in primals)
    try:
        moved = torch.func.jvp(lambda *p: apply(captured, p), primals, v)[1]
    except (RuntimeError, NotImplementedError):
        return False
    finally:
        restore_random_state(after, primals[0])
    inputs = [p.requires_grad_() for p in (p.detach() for p in primals)]
    outputs = [o for o in apply([*inputs, *captured[len(inputs) :]], inputs) if o.requires_grad]
    restore_random_state(after, primals[0])
    if not outputs:
        return True
    u = [torch.randn(o.shape, generator=generator).to(o) for o in moved]
    pulled = torch.autograd.grad(
        outputs, inputs, u[: len(outputs)], allow_unused=True, materialize_grads=True
    )
    forward = sum(float((a.conj() * b).real.sum()) for a, b in zip(u, moved))
    reverse = sum(float((a.conj() * b).real.sum()) for a, b in zip(pulled, v))
    return abs(forward - reverse) <= 1e-2 * (abs(forward) + abs(reverse)) + 1e-9


def _reverse_twice(apply: Callable, count: int):
    """J t as the derivative of J' v in v: reverse mode alone, one tangent at a time."""

    def push(captured, tangents):
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            primals = [
                p if p.requires_grad else p.detach().requires_grad_() for p in captured[:count]
            ]
            outputs = apply(captured, primals)
            probes = [torch.zeros_like(o, requires_grad=True) for o in outputs]
            pulled = torch.autograd.grad(
                outputs,
                primals,
                probes,
                create_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            rows = [
                torch.autograd.grad(
                    pulled,
                    probes,
                    [t[i] for t in tangents],
                    create_graph=keep,
                    retain_graph=True,
                    materialize_grads=True,
                )
                for i in range(tangents[0].shape[0])
            ]
        return tuple(torch.stack(column) for column in zip(*rows))

    return push


# -- jointly linear operations: constants add nothing --------------------------------------------


def _jointly_linear(call: Call) -> Step:
    """Views, reshapes, reductions, concatenations: apply the operation itself to the tangents."""
    leaves, spec, traced = _split(call)
    places = [i for i, leaf in enumerate(leaves) if call.is_traced(leaf)]
    zeroed = [
        torch.zeros_like(leaf) if differentiable(leaf) and i not in places else leaf
        for i, leaf in enumerate(leaves)
    ]
    func = call.func

    def apply(*tangents):
        filled = list(zeroed)
        for place, tangent in zip(places, tangents):
            filled[place] = tangent
        args, kwargs = pytree.tree_unflatten(filled, spec)
        return func(*args, **kwargs)

    def push(captured, tangents):
        return pytree.tree_leaves(_over_tangents(apply, tangents))

    return Step(traced, [], push)


for _linear in (
    "view reshape flatten unflatten squeeze unsqueeze permute transpose swapaxes swapdims movedim moveaxis "
    "t adjoint getattr expand expand_as broadcast_to repeat tile repeat_interleave view_as reshape_as "
    "contiguous clone __getitem__ select narrow index_select gather take take_along_dim masked_select "
    "chunk split split_with_sizes tensor_split hsplit vsplit dsplit unbind diagonal diag diag_embed "
    "tril triu flip fliplr flipud rot90 roll sum nansum mean cumsum trace neg negative __neg__ positive "
    "__pos__ stack hstack vstack dstack column_stack row_stack atleast_1d atleast_2d atleast_3d unfold "
    "fold im2col col2im set_item masked_fill index_fill index_add index_copy scatter scatter_add "
    "slice_scatter select_scatter diagonal_scatter ravel real imag "
    "conj resolve_conj resolve_neg view_as_real view_as_complex fft ifft rfft irfft fft2 ifft2 rfft2 irfft2 fftn "
    "ifftn rfftn irfftn fftshift ifftshift diff unsafe_chunk unsafe_split squeeze_copy"
).split():
    RULES[_linear] = _jointly_linear


@_rule("masked_fill", "index_fill", "scatter", "set_item")
def _fill(call: Call) -> Step:
    """A number that is written into a value does not move."""
    *args, value = call.args
    if isinstance(value, (int, float)) and len(call.args) > 2:
        call.args = (*args, 0)
    if "value" in call.kwargs and not isinstance(call.kwargs["value"], Tensor):
        call.kwargs = {**call.kwargs, "value": 0}
    return _jointly_linear(call)


@_rule("view", "reshape", "flatten", "unsqueeze", "squeeze", "unflatten")
def _reshape(call: Call) -> Step:
    """The batch stays in front, as in most networks: no vmap is needed to put K before it."""
    shape = call.out.shape
    if call.args[0].is_complex() or not isinstance(call.out, Tensor):
        raise NoRuleError
    return Step([call.args[0]], [], lambda _, t: t[0].reshape(t[0].shape[0], *shape))


@_rule(
    "to",
    "float",
    "double",
    "half",
    "bfloat16",
    "type",
    "type_as",
    "contiguous",
    "clone",
    "cuda",
    "cpu",
)
def _convert(call: Call) -> Step:
    """A change of dtype is none for the tangents: they have the dtype of the computation."""
    source = call.args[0]
    if not call.is_traced(source) or source.is_complex() != call.out.is_complex():
        raise NoRuleError
    if call.out is source:
        return Step([], [], lambda _, t: [], outputs=[])
    device = call.out.device
    return Step([source], [], lambda _, t: t[0].to(device))


@_rule("cat", "concat", "concatenate")
def _concatenate(call: Call) -> Step:
    tensors = list(call.argument(0, "tensors"))
    dim = call.argument(1, "dim", 0)
    if not isinstance(dim, int):
        raise NoRuleError
    dim = dim % call.out.dim() + 1
    traced = [tensor for tensor in tensors if call.is_traced(tensor)]
    flags = [call.is_traced(tensor) for tensor in tensors]
    shapes = [tensor.shape for tensor in tensors]

    def push(_, tangents):
        queue = iter(tangents)
        first = tangents[0]
        parts = [
            next(queue) if flag else first.new_zeros(()).expand(first.shape[0], *shape)
            for flag, shape in zip(flags, shapes)
        ]
        return torch.cat(parts, dim)

    return Step(traced, [], push)


def _operands(call: Call) -> tuple[Any, Any]:
    left, right = call.args[0], call.argument(1, "other")
    if call.name in (
        "rsub",
        "__rsub__",
        "__radd__",
        "__rmul__",
        "__rtruediv__",
        "__rdiv__",
        "__rmatmul__",
    ):
        left, right = right, left
    return left, right


def _binary_sum(call: Call, left: Any, right: Any, scales: tuple[float, float]) -> Step:
    pairs = [(v, s) for v, s in zip((left, right), scales) if call.is_traced(v)]
    shape, dims = call.out.shape, [value.dim() for value, _ in pairs]
    factors = [scale for _, scale in pairs]

    def push(_, tangents):
        parts = [
            _align(t, d, len(shape)) if f == 1 else _align(t, d, len(shape)) * f
            for t, d, f in zip(tangents, dims, factors)
        ]
        total = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        return total.expand(total.shape[0], *shape)

    return Step([value for value, _ in pairs], [], push)


@_rule("add", "__add__", "__radd__")
def _add(call: Call) -> Step:
    left, right = _operands(call)
    return _binary_sum(call, left, right, (1, call.kwargs.get("alpha", 1)))


@_rule("sub", "__sub__", "__rsub__", "rsub", "subtract")
def _subtract(call: Call) -> Step:
    left, right = _operands(call)
    alpha = call.kwargs.get("alpha", 1)
    return _binary_sum(call, left, right, (1, -alpha))


@_rule("where")
def _where(call: Call) -> Step:
    if len(call.args) != 3 or not all(isinstance(a, (Tensor, int, float)) for a in call.args):
        raise NoRuleError
    if call.args[0].dtype == torch.bool:
        condition, chosen, other = call.args
    else:  # Tensor.where(self, condition, other)
        chosen, condition, other = call.args
    if not isinstance(condition, Tensor) or condition.dtype != torch.bool:
        raise NoRuleError
    shape = call.out.shape
    flags = [call.is_traced(value) for value in (chosen, other)]
    traced = [value for value in (chosen, other) if call.is_traced(value)]
    dims = [value.dim() for value in traced]

    def push(_, tangents):
        queue = iter(_align(t, d, len(shape)) for t, d in zip(tangents, dims))
        zero = tangents[0].new_zeros(())
        parts = [next(queue) if flag else zero for flag in flags]
        result = torch.where(condition, *parts)
        return result.expand(tangents[0].shape[0], *shape)

    return Step(traced, [], push)


# -- multilinear operations: the product rule ----------------------------------------------------


def _multilinear(call: Call) -> Step:
    """Linear in each argument on its own: the sum over arguments, one replaced at a time."""
    leaves, spec, traced = _split(call)
    places = [i for i, leaf in enumerate(leaves) if call.is_traced(leaf)]
    constants = [i for i, leaf in enumerate(leaves) if differentiable(leaf)]
    if len(places) == 1:
        constants.remove(places[0])
    func = call.func

    def push(captured, tangents):
        base = list(leaves)
        for place, value in zip(constants, captured):
            base[place] = value

        def one(place, tangent):
            filled = list(base)
            filled[place] = tangent
            args, kwargs = pytree.tree_unflatten(filled, spec)
            return func(*args, **kwargs)

        terms = [
            _over_tangents(lambda t, place=place: one(place, t), [tangent])
            for place, tangent in zip(places, tangents)
        ]
        return sum(terms[1:], terms[0])

    return Step(traced, [leaves[i] for i in constants], push)


for _product in (
    "mm bmm mv dot vdot inner outer ger kron tensordot einsum chain_matmul cross vecdot linalg_multi_dot"
).split():
    RULES[_product] = _multilinear


@_rule("mul", "__mul__", "__rmul__", "multiply")
def _multiply(call: Call) -> Step:
    left, right = _operands(call)
    shape = call.out.shape
    values = [left, right]
    traced = [value for value in values if call.is_traced(value)]
    dims = [value.dim() for value in traced]
    if len(traced) == 1:
        factor = right if traced[0] is left else left
        if isinstance(factor, Tensor) and differentiable(factor):
            return Step(
                traced,
                [factor],
                lambda c, t: _align(t[0], dims[0], len(shape)) * c[0].to(t[0].dtype),
            )
        return Step(traced, [], lambda _, t: _align(t[0], dims[0], len(shape)) * factor)

    def push(captured, tangents):
        first, second = (_align(t, d, len(shape)) for t, d in zip(tangents, dims))
        return first * captured[1] + second * captured[0]

    return Step(traced, traced, push)


@_rule("div", "__truediv__", "__rtruediv__", "__div__", "__rdiv__", "divide", "true_divide")
def _divide(call: Call) -> Step:
    if call.kwargs.get("rounding_mode") is not None:
        raise NoRuleError
    left, right = _operands(call)
    dim = call.out.dim()
    if not call.is_traced(right):
        inside = left.dim()
        if differentiable(right):
            return Step([left], [right], lambda c, t: _align(t[0], inside, dim) / c[0])
        return Step([left], [], lambda _, t: _align(t[0], inside, dim) / right)
    inputs = [value for value in (left, right) if call.is_traced(value)]
    dims = [value.dim() for value in inputs]

    def push(captured, tangents):
        divisor, quotient = captured
        parts = [_align(t, d, dim) for t, d in zip(tangents, dims)]
        change = -quotient * parts[-1] / divisor
        return change if len(parts) == 1 else parts[0] / divisor + change

    return Step(inputs, [right, call.out], push)


@_rule("matmul", "__matmul__", "__rmatmul__")
def _matmul(call: Call) -> Step:
    left, right = _operands(call)
    if call.is_traced(left) and not call.is_traced(right) and left.dim() >= 2 and right.dim() == 2:
        return Step([left], [right], lambda c, t: t[0] @ c[0])
    call.args, call.kwargs, call.func = (left, right), {}, torch.matmul
    return _multilinear(call)


@_rule("linear")
def _linear_map(call: Call) -> Step:
    source, weight = call.argument(0, "input"), call.argument(1, "weight")
    bias = call.argument(2, "bias")
    if call.is_traced(bias):
        raise NoRuleError
    if call.is_traced(weight):
        call.args, call.kwargs = (source, weight), {}
        return _multilinear(call)
    return Step([source], [weight], lambda c, t: F.linear(t[0], c[0]))


@_rule("bilinear")
def _bilinear(call: Call) -> Step:
    if call.is_traced(call.argument(3, "bias")):
        raise NoRuleError
    call.args, call.kwargs = (
        tuple(call.argument(i, n) for i, n in enumerate(("input1", "input2", "weight"))),
        {},
    )
    return _multilinear(call)


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
        return _multilinear(call)
    apply = lambda weight: lambda rows: function(rows, weight, None, *rest, **named)  # noqa: E731
    if source.dim() == weight.dim() - 1:  # no batch: the K tangents are one
        return Step([source], [weight], lambda c, t: apply(c[0])(t[0]))
    rows = _image_rows if source.dim() == 4 else _rows
    return Step([source], [weight], lambda c, t: rows(apply(c[0]), t[0]))


for _conv in (
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
):
    RULES[_conv] = _convolution


# -- linear operations on images: K and B are one batch -------------------------------------------


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
    return Step([source], [], lambda _, t: _rows(lambda r: function(r, *rest, **named), t[0]))


for _spatial in (
    "interpolate upsample upsample_nearest upsample_bilinear pixel_shuffle pixel_unshuffle channel_shuffle "
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"
).split():
    RULES[_spatial] = _resample


@_rule("pad")
def _pad(call: Call) -> Step:
    source, pad = call.args[0], call.argument(1, "pad")
    mode = call.argument(2, "mode", "constant")
    if mode == "constant":  # whatever the border's value is, it does not move
        return Step([source], [], lambda _, t: F.pad(t[0], pad))
    return Step([source], [], lambda _, t: _rows(lambda r: F.pad(r, pad, mode), t[0]))


# -- elementwise functions -----------------------------------------------------------------------


def _images_last(h: Tensor) -> Tensor:
    return h.contiguous(memory_format=torch.channels_last) if h.dim() == 4 else h


def _activation(call: Call, kind: str, tensors: dict[str, Tensor], **constants: float) -> Step:
    """An activation whose derivative the ``tangent`` kernels know."""
    source = call.args[0]
    if any(call.is_traced(value) for value in tensors.values()):
        raise NoRuleError
    names = list(tensors)

    def push_with(function):
        def push(captured, tangents):
            extra = dict(zip(names, captured[1:]))
            return function(_images_last(captured[0]), tangents[0], kind, **extra, **constants)

        return push

    return Step(
        [source],
        [source, *tensors.values()],
        push_with(activation_tangent),
        keep=True,
        overwrites=push_with(activation_tangent_),
    )


for _kind in ("relu", "tanh", "sigmoid", "silu"):
    RULES[_kind] = lambda call, kind=_kind: _activation(call, kind, {})
RULES["translated_prelu"] = lambda call: _activation(
    call, "translated_prelu", {"leak": call.args[1], "threshold": call.args[2]}
)
RULES["prelu"] = lambda call: _activation(call, "prelu", {"leak": call.argument(1, "weight")})
RULES["leaky_relu"] = lambda call: _activation(
    call, "leaky_relu", {}, negative_slope=call.argument(1, "negative_slope", 0.01)
)
RULES["softplus"] = lambda call: _activation(
    call,
    "softplus",
    {},
    beta=call.argument(1, "beta", 1.0),
    softplus_threshold=call.argument(2, "threshold", 20.0),
)


def _elementwise(call: Call) -> Step:
    """f(x) with numbers for the rest: multiply by f'(x), computed once for all tangents."""
    leaves, spec, traced = _split(call)
    if len(traced) != 1 or traced[0] is not call.args[0] or call.out.shape != traced[0].shape:
        raise NoRuleError
    if any(isinstance(leaf, Tensor) and leaf is not traced[0] for leaf in leaves):
        raise NoRuleError
    source, rest, named, function = traced[0], call.args[1:], call.kwargs, call.func
    derivative = torch.func.jvp(
        lambda x: function(x, *rest, **named), (source,), (torch.ones_like(source),)
    )[1]
    return Step([source], [derivative], lambda c, t: t[0] * c[0].to(t[0].dtype))


for _function in (
    "exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal square pow __pow__ __rpow__ float_power abs absolute "
    "sin cos tan asin acos atan sinh cosh asinh acosh atanh arcsin arccos arctan arcsinh arccosh arctanh sinc "
    "erf erfc erfinv expit logit lgamma digamma i0 i1 i0e i1e xlogy clamp clip clamp_min clamp_max nan_to_num "
    "deg2rad rad2deg gelu elu selu celu mish hardtanh relu6 hardswish logsigmoid log_sigmoid softsign "
    "tanhshrink softshrink hardshrink threshold frac fmod remainder __mod__"
).split():
    RULES[_function] = _elementwise


@_rule("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
def _dropout(call: Call) -> Step:
    """Affine in x for the mask that was drawn, which is found by drawing it again."""
    source, rest, named, function = call.args[0], call.args[1:], call.kwargs, call.func
    after = save_random_state(source)

    def redraw(value: Tensor) -> Tensor:
        restore_random_state(call.random_state, source)
        return function(value, *rest, **named)

    with torch.no_grad():
        factor = redraw(torch.ones_like(source)) - redraw(torch.zeros_like(source))
    restore_random_state(after, source)
    return Step([source], [factor], lambda c, t: t[0] * c[0])


@_rule("rrelu")
def _rrelu(call: Call) -> Step:
    source, out = call.args[0], call.out
    slope = torch.where(source >= 0, torch.ones_like(source), (out / source).detach())
    return Step([source], [slope.detach()], lambda c, t: t[0] * c[0])


# -- softmax and the norms -----------------------------------------------------------------------


@_rule("softmax", "softmin", "log_softmax")
def _softmax(call: Call) -> Step:
    source, dim = call.args[0], call.argument(1, "dim")
    if not isinstance(dim, int):
        raise NoRuleError
    dim = dim % source.dim() - source.dim()
    if call.name == "log_softmax":
        return Step(
            [source], [call.out], lambda c, t: t[0] - (c[0].exp() * t[0]).sum(dim, keepdim=True)
        )
    sign = -1 if call.name == "softmin" else 1

    def push(captured, tangents):
        weights, tangent = captured[0], sign * tangents[0]
        return weights * (tangent - (weights * tangent).sum(dim, keepdim=True))

    return Step([source], [call.out], push)


def _norm_tangent(
    x: Tensor, tangent: Tensor, dims: tuple[int, ...], eps: float, centred: bool = True
) -> Tensor:
    """The tangent of (x − mean) / sqrt(var + eps) over ``dims`` (negative), of primitives only."""
    if centred:
        x = x - x.mean(dims, keepdim=True)
        tangent = tangent - tangent.mean(dims, keepdim=True)
    inverse = (x.square().mean(dims, keepdim=True) + eps).rsqrt()
    x_hat = x * inverse
    return inverse * (tangent - x_hat * (x_hat * tangent).mean(dims, keepdim=True))


def _affine(call: Call, weight: Any, bias: Any) -> list[Tensor]:
    if call.is_traced(weight) or call.is_traced(bias):
        raise NoRuleError
    return [] if weight is None else [weight]


@_rule("layer_norm", "rms_norm")
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

    return Step([source], [source, *affine], push)


def _grouped_norm(call: Call, groups: int, weight: Any, bias: Any, eps: float) -> Step:
    source = call.args[0]
    affine = _affine(call, weight, bias)
    batch, channels = source.shape[:2]
    spatial = (1,) * (source.dim() - 2)

    def push(captured, tangents):
        x = captured[0].reshape(batch, groups, -1)
        tangent = tangents[0]
        result = _norm_tangent(x, tangent.reshape(tangent.shape[0], *x.shape), (-1,), eps)
        result = result.reshape(tangent.shape)
        return result * captured[1].reshape(channels, *spatial) if affine else result

    return Step([source], [source, *affine], push)


@_rule("group_norm")
def _group_norm(call: Call) -> Step:
    groups = call.argument(1, "num_groups")
    weight, bias = call.argument(2, "weight"), call.argument(3, "bias")
    return _grouped_norm(call, groups, weight, bias, call.argument(4, "eps", 1e-5))


def _running_norm_arguments(call: Call) -> tuple[Any, Any, Any, Any, float]:
    """Running variance, weight, bias, "use the input's statistics" and eps.

    torch.batch_norm and torch.instance_norm order these otherwise than torch.nn.functional.
    """
    flag = "training" if call.name == "batch_norm" else "use_input_stats"
    default = call.name == "instance_norm"
    if call.func in (torch.batch_norm, torch.instance_norm):
        weight, bias, variance = call.args[1], call.args[2], call.args[4]
    else:
        variance = call.argument(2, "running_var")
        weight, bias = call.argument(3, "weight"), call.argument(4, "bias")
    return variance, weight, bias, call.argument(5, flag, default), call.argument(7, "eps", 1e-5)


@_rule("instance_norm")
def _instance_norm(call: Call) -> Step:
    source = call.args[0]
    variance, weight, bias, uses_input, eps = _running_norm_arguments(call)
    if source.dim() < 3:
        raise NoRuleError
    if uses_input:
        return _grouped_norm(call, source.shape[1], weight, bias, eps)
    return _fixed_norm(call, variance, weight, bias, eps)


@_rule("batch_norm")
def _batch_norm(call: Call) -> Step:
    """In training the batch's statistics are held constant: else no sample has its own Jacobian."""
    source = call.args[0]
    variance, weight, bias, training, eps = _running_norm_arguments(call)
    if training or variance is None:
        dims = [d for d in range(source.dim()) if d != 1]
        variance = source.detach().var(dims, unbiased=False)
    return _fixed_norm(call, variance, weight, bias, eps)


def _fixed_norm(call: Call, variance: Tensor, weight: Any, bias: Any, eps: float) -> Step:
    source = call.args[0]
    affine = _affine(call, weight, bias)
    shape = (source.shape[1], *(1,) * (source.dim() - 2))
    inverse = (variance.detach() + eps).rsqrt()

    def push(captured, tangents):
        scale = captured[0] * captured[1] if affine else captured[0]
        return tangents[0] * scale.reshape(shape)

    return Step([source], [inverse, *affine], push)
