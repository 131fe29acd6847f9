"""Activation tangents against central differences of torch.nn.functional, and layouts."""

import pytest
import torch
import torch.nn.functional as F

from pydisent.ops import activation_tangent, activation_tangent_
from pydisent.reference.tangent import KINDS, translated_prelu

LEAK = torch.tensor([0.2, 0.7, -0.4], dtype=torch.float64)
THRESHOLD = torch.tensor([0.3, -0.5, 0.0], dtype=torch.float64)

#: What PyTorch computes, and the op's arguments that go with it.
ACTIVATIONS = {
    "relu": (F.relu, {}),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), {"negative_slope": 0.2}),
    "prelu": (lambda x: F.prelu(x, LEAK.to(x.dtype)), {"leak": LEAK}),
    "translated_prelu": (
        lambda x: F.prelu(x - per_channel(THRESHOLD), LEAK) + per_channel(THRESHOLD),
        {"leak": LEAK, "threshold": THRESHOLD},
    ),
    "tanh": (torch.tanh, {}),
    "sigmoid": (torch.sigmoid, {}),
    "silu": (F.silu, {}),
    "softplus": (
        lambda x: F.softplus(x, 1.5, 2.0),
        {"beta": 1.5, "softplus_threshold": 2.0},
    ),
}


def per_channel(x):
    return x[:, None, None]


def away_from_kinks(h):
    """Move points off 0, the thresholds, and softplus' switch (a jump of its derivative)."""
    kinks = torch.tensor([0.0, 0.3, -0.5, 2.0 / 1.5], dtype=h.dtype)
    for kink in kinks:
        h = torch.where((h - kink).abs() < 1e-3, h + 5e-3, h)
    return h


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_derivative_equals_central_differences(kind, impl):
    activation, keywords = ACTIVATIONS[kind]
    torch.manual_seed(0)
    h = away_from_kinks(2 * torch.randn(4, 3, 5, 7, dtype=torch.float64))
    tangents = torch.randn(2, *h.shape, dtype=torch.float64)
    step = 1e-6
    derivative = (activation(h + step) - activation(h - step)) / (2 * step)
    got = activation_tangent(h, tangents, kind, impl=impl, **keywords)
    torch.testing.assert_close(got, derivative * tangents, rtol=1e-6, atol=1e-8)
    turned = activation_tangent(h, tangents, kind, impl=impl, turn=True, **keywords)
    torch.testing.assert_close(turned, derivative**2 * tangents, rtol=1e-6, atol=1e-8)


def test_every_kind_has_an_oracle():
    assert set(ACTIVATIONS) == set(KINDS)


@pytest.mark.parametrize("kind", ["tanh", "sigmoid", "silu", "softplus"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_derivatives_keep_their_digits(kind, dtype):
    """Far out the derivative is about exp(-|h|) (exp(-2|h|) for tanh): no cancellation."""
    h = torch.linspace(-30, -20, 11, dtype=dtype)[None]
    got = activation_tangent(h, torch.ones(1, *h.shape, dtype=dtype), kind)[0, 0].double()
    x = h[0].double()
    expected = {
        "tanh": 4 * torch.exp(2 * x) / (1 + torch.exp(2 * x)) ** 2,
        "sigmoid": torch.exp(x) / (1 + torch.exp(x)) ** 2,
        "silu": torch.exp(x) * (1 + x + torch.exp(x)) / (1 + torch.exp(x)) ** 2,
        "softplus": torch.exp(x) / (1 + torch.exp(x)),
    }[kind]
    torch.testing.assert_close(got, expected, rtol=64 * torch.finfo(dtype).eps, atol=0)


def layouts(x):
    """Views of the same values: (name, tensor)."""
    yield "contiguous", x.contiguous()
    last = x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    yield "channels_last", last
    yield "transposed", x.transpose(1, 4).contiguous().transpose(1, 4)
    yield "count_last", x.permute(1, 2, 3, 4, 0).contiguous().permute(4, 0, 1, 2, 3)
    yield "gaps", torch.cat([x, x], dim=4)[..., : x.shape[4]]
    yield "padded_count", torch.stack([x, x], dim=1)[:, 0]


@pytest.mark.parametrize("kind", ["prelu", "translated_prelu", "tanh"])
@pytest.mark.parametrize("channels_last_h", [False, True])
def test_layouts_agree_and_are_kept(kind, channels_last_h):
    torch.manual_seed(0)
    keywords = ACTIVATIONS[kind][1]
    h = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    if channels_last_h:
        h = h.contiguous(memory_format=torch.channels_last)
    h.requires_grad_()
    base = torch.randn(3, 2, 3, 4, 5, dtype=torch.float64)
    cotangent = torch.randn_like(base)
    expected = None
    for name, tangents in layouts(base):
        tangents = tangents.detach().requires_grad_()
        out = activation_tangent(h, tangents, kind, **keywords)
        assert out.stride() == torch.empty_like(tangents).stride(), name
        grads = torch.autograd.grad(out, [h, tangents], cotangent)
        results = [out.detach(), *grads]
        expected = expected or results
        for got, want in zip(results, expected):
            torch.testing.assert_close(got, want, msg=name)
        with torch.no_grad():
            written = tangents.detach().clone()
            if name == "gaps":
                written = torch.cat([written, written], dim=4)[..., : base.shape[4]]
            activation_tangent_(h, written, kind, **keywords)
        assert torch.equal(written, out), name


@pytest.mark.parametrize("kind", ["silu", "prelu"])
def test_gradient_to_the_tangents_alone(kind):
    """With a constant primal the adjoint is the op itself, which is self-adjoint."""
    keywords = ACTIVATIONS[kind][1]
    h = torch.randn(2, 3, 5, dtype=torch.float64)
    tangents = torch.randn(4, *h.shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda t: activation_tangent(h, t, kind, turn=True, **keywords), (tangents,)
    )
    assert torch.autograd.gradgradcheck(
        lambda t: activation_tangent(h, t, kind, **keywords), (tangents,)
    )


@pytest.mark.parametrize("count", [1, 3])
def test_leak_gradient_sums_over_all_but_channels(count):
    torch.manual_seed(0)
    h = torch.randn(4, 3, 50, 30, dtype=torch.float64)
    tangents = torch.randn(count, *h.shape, dtype=torch.float64)
    cotangent = torch.randn_like(tangents)
    for leak in (LEAK.clone(), LEAK[:1].clone(), LEAK[0].clone()):
        leak.requires_grad_()
        out = activation_tangent(h, tangents, "prelu", leak=leak)
        (grad,) = torch.autograd.grad(out, leak, cotangent)
        assert grad.shape == leak.shape
        products = (cotangent * tangents * (h <= 0)).sum(dim=(0, 1, 3, 4))
        expected = products if leak.numel() == 3 else products.sum().reshape(leak.shape)
        torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize(
    ("h_dtype", "dtype"),
    [
        (torch.float32, torch.bfloat16),
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float16),
        (torch.float16, torch.float64),
    ],
)
@pytest.mark.parametrize("kind", ["silu", "prelu"])
def test_mixed_dtypes_round_once(kind, h_dtype, dtype):
    torch.manual_seed(0)
    keywords = {k: v.to(h_dtype).requires_grad_() for k, v in ACTIVATIONS[kind][1].items()}
    h = torch.randn(2, 3, 9).to(h_dtype).requires_grad_()
    tangents = torch.randn(4, 2, 3, 9).to(dtype).requires_grad_()
    out = activation_tangent(h, tangents, kind, **keywords)
    exact = activation_tangent(
        h.double(), tangents.double(), kind, **{k: v.double() for k, v in keywords.items()}
    )
    compute = torch.promote_types(torch.promote_types(h_dtype, dtype), torch.float32)
    tolerance = 4 * torch.finfo(compute).eps + torch.finfo(dtype).eps
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), exact, rtol=tolerance, atol=tolerance)
    inputs = [h, tangents, *keywords.values()]
    for x, grad in zip(inputs, torch.autograd.grad(out.double().sum(), inputs)):
        assert grad.dtype == x.dtype


def test_translated_prelu_meets_itself_at_the_threshold():
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    a, c = LEAK.clone(), THRESHOLD.clone()
    c_wide = c[None, :, None]
    by_prelu = F.prelu(x - c_wide, a) + c_wide
    torch.testing.assert_close(translated_prelu(x, a, c), by_prelu)
    inputs = [t.requires_grad_() for t in (x, a, c)]
    assert torch.autograd.gradcheck(translated_prelu, inputs)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kind": "gelu"}, ValueError, "kind must be one of 'relu', .*, got 'gelu'"),
        ({"tangents": torch.ones(2, 3)}, ValueError, r"tangents must have shape .*got \(2, 3\)"),
        ({"tangents": torch.ones(1, 2, 3).int()}, TypeError, "tangents must .*got torch.int32"),
        ({"kind": "prelu"}, ValueError, "leak must .*got None"),
        ({"leak": torch.ones(3)}, ValueError, "leak must be None for .*, got a tensor"),
        (
            {"kind": "prelu", "leak": torch.ones(2)},
            ValueError,
            r"leak must have shape .*got \(2,\)",
        ),
        (
            {"kind": "translated_prelu", "leak": torch.ones(3)},
            ValueError,
            "threshold must .*got None",
        ),
        ({"beta": 0.0}, ValueError, "beta must .*got 0.0"),
    ],
)
def test_bad_arguments_are_named(change, error, message):
    arguments = {"h": torch.ones(2, 3), "tangents": torch.ones(1, 2, 3), "kind": "tanh"}
    with pytest.raises(error, match=message):
        activation_tangent(**(arguments | change))
