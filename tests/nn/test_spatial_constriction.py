"""Spatial constriction against its equations in loops, and the statements of Zhu et al. (2021)."""

import copy
import pickle

import numpy as np
import pytest
import torch

from pydisent.nn import BandMask, CumaxGate, SpatialConstriction
from pydisent.ops import spatial_constriction

SIZES = [(4, 4), (3, 7), (8, 2), (1, 5)]


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def gate(rise, fall):
    """Eq. 3, entry by entry."""
    p, q = softmax(rise), softmax(fall)
    return np.array([sum(p[: i + 1]) * (1 - sum(q[: i + 1])) for i in range(len(p))])


def band_masks(layer, x):
    """Eqs. 1-5 for one sample (C, H, W): (N, H, W)."""
    channels, height, width = layer.map_shape
    weight = layer.logits.weight.detach().numpy() / np.sqrt(channels)
    logits = (weight @ x.mean((1, 2))).reshape(layer.codes, layer.rectangles, -1)
    edges = np.split(logits, np.cumsum([height, height, width]), axis=-1)
    masks = np.zeros((layer.codes, height, width))
    for n in range(layer.codes):
        for j in range(layer.rectangles):
            a, b, c, d = (edge[n, j] for edge in edges)
            masks[n] += np.outer(gate(a, b), gate(c, d)) / layer.rectangles
    return masks


def softmax_masks(layer, x):
    channels, height, width = layer.map_shape
    weight = layer.logits.weight.detach().numpy() / np.sqrt(9 * channels)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    masks = []
    for kernel in weight:
        logits = [
            (padded[:, h : h + 3, w : w + 3] * kernel).sum()
            for h in range(height)
            for w in range(width)
        ]
        masks.append(softmax(np.array(logits)).reshape(height, width))
    return np.stack(masks)


def constrict(layer, x, code, masks):
    """Eqs. 6-7 for one sample, code after code."""
    mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    normalized = (x - mean) / np.sqrt(variance + layer.eps)
    for n, c in enumerate(code):
        scale, shift = layer.style[n].detach().numpy() * c + layer.style_bias[n].detach().numpy()
        styled = normalized * (1 + scale)[:, None, None] + shift[:, None, None]
        x = x * (1 - masks[n]) + styled * masks[n]
    return x


def build(mask, height=3, width=5, codes=3, channels=4, seed=0):
    torch.manual_seed(seed)
    layer = SpatialConstriction(
        channels, height, width, codes=codes, rectangles=2, mask=mask
    ).double()
    with torch.no_grad():
        layer.style_bias.normal_()
        layer.mask.logits.weight.mul_(3)
    return layer


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("mask", ["band", "softmax"])
def test_equals_its_equations(mask, height, width, memory_format):
    layer = build(mask, height, width)
    x = 2 * torch.randn(2, 4, height, width, dtype=torch.float64) + 1
    x = x.to(memory_format=memory_format)
    code = torch.randn(2, 3, dtype=torch.float64)
    out, masks = layer.with_masks(x, code)
    by_loops = band_masks if mask == "band" else softmax_masks
    for i in range(2):
        expected = by_loops(layer.mask, x[i].numpy())
        np.testing.assert_allclose(masks[i].detach().numpy(), expected, rtol=0, atol=1e-13)
        restyled = constrict(layer, x[i].numpy(), code[i].numpy(), expected)
        np.testing.assert_allclose(out[i].detach().numpy(), restyled, rtol=0, atol=1e-12)
    assert torch.equal(layer(x, code), out)


def test_gate_equals_its_equation():
    torch.manual_seed(1)
    layer = CumaxGate(6, 9).double()
    features = torch.randn(4, 6, dtype=torch.float64)
    logits = features @ layer.logits.weight.T / 6**0.5
    for got, row in zip(layer(features).detach().numpy(), logits.detach().numpy()):
        np.testing.assert_allclose(got, gate(row[:9], row[9:]), rtol=0, atol=1e-14)


def test_a_mask_of_one_is_adain_and_a_mask_of_zero_the_identity(monkeypatch):
    layer = build("band", codes=1)
    x, code = torch.randn(2, 4, 3, 5, dtype=torch.float64), torch.randn(2, 1, dtype=torch.float64)
    masks = torch.zeros(2, 1, 3, 5, dtype=torch.float64)
    monkeypatch.setattr(layer.mask, "forward", lambda x: masks)
    assert torch.equal(layer(x, code), x)
    masks += 1
    style = code[:, 0, None, None] * layer.style[0] + layer.style_bias[0]
    expected = (1 + style[:, 0, :, None, None]) * torch.nn.functional.instance_norm(x, eps=1e-8)
    expected = expected + style[:, 1, :, None, None]
    torch.testing.assert_close(layer(x, code), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mask", ["band", "softmax"])
def test_codes_act_one_after_another_on_one_normalised_map(mask):
    """N codes are N applications of one code each, which all restyle the map as it came."""
    layer = build(mask)
    x, code = torch.randn(2, 4, 3, 5, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    out, masks = layer.with_masks(x, code)
    deviation, mean = torch.std_mean(x, (2, 3), correction=0, keepdim=True)
    step = x
    for n in range(3):
        style = code[:, n, None, None] * layer.style[n] + layer.style_bias[n]
        # One application restyles the map it is given; a code must see the first map restyled.
        alone = spatial_constriction(
            x, torch.ones_like(masks[:, :1]), 1 + style[:, None, 0], style[:, None, 1]
        )
        step = step + masks[:, n, None] * (alone - step)
        expected = (x - mean) / deviation * (1 + style[:, 0, :, None, None])
        torch.testing.assert_close(alone, expected + style[:, 1, :, None, None])
    torch.testing.assert_close(out, step)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_masks_lie_in_the_unit_interval(scale):
    torch.manual_seed(2)
    layer = BandMask(5, 6, 8, codes=4, rectangles=8)
    with torch.no_grad():
        layer.logits.weight.mul_(scale)
    masks = layer(torch.randn(7, 5, 6, 8) + 1)
    assert masks.shape == (7, 4, 6, 8)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert not masks[:, :, -1].any()
    assert not masks[..., -1].any()
    if scale == 0:  # equal logits: 1/2 · 1/2 on either side
        np.testing.assert_allclose(masks.amax((2, 3)).detach().numpy(), 1 / 16, rtol=1e-6)


def test_softmax_masks_sum_to_one():
    masks = BandMask(5, 6, 4, codes=3, kind="softmax")(torch.randn(2, 5, 6, 4))
    torch.testing.assert_close(masks.sum((2, 3)), torch.ones(2, 3))


def test_a_mask_moves_with_what_the_map_shows():
    """Features decide where a code acts: opposite maps, and a shifted one, have their own masks."""
    layer = build("band").mask
    x = torch.randn(1, 4, 3, 5, dtype=torch.float64)
    assert (layer(x) - layer(-x)).abs().max() > 1e-3
    torch.testing.assert_close(layer(x), layer(x.roll(2, 3)))  # pooled over places


def test_parameters_and_their_initial_values():
    torch.manual_seed(3)
    layer = SpatialConstriction(64, 8, 16, codes=5, rectangles=3)
    sizes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert sizes == {
        "mask.logits.weight": (5 * 3 * 2 * (8 + 16), 64),
        "style": (5, 2, 64),
        "style_bias": (5, 2, 64),
    }
    assert not layer.style_bias.any()
    for weight in (layer.style, layer.mask.logits.weight):
        assert float(weight.detach().std()) == pytest.approx(1, abs=0.1)
    softmax_logits = BandMask(64, 8, codes=5, kind="softmax").logits
    assert tuple(softmax_logits.weight.shape) == (5, 64, 3, 3)
    assert softmax_logits.bias is None


@pytest.mark.parametrize("mask", ["band", "softmax"])
def test_forward_mode_and_hessian(mask):
    layer = build(mask, codes=2)
    x, code = torch.randn(2, 4, 3, 5, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64)
    dx, dcode = torch.randn_like(x), torch.randn_like(code)
    _, tangent = torch.func.jvp(layer, (x, code), (dx, dcode))
    step = 1e-6
    with torch.no_grad():
        ahead = layer(x + step * dx, code + step * dcode)
        behind = layer(x - step * dx, code - step * dcode)
    torch.testing.assert_close(tangent, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-8)

    weights = torch.randn_like(x)

    def loss(code):
        return (weights * layer(x, code) ** 3).sum()

    by_transforms = torch.func.hessian(loss)(code)
    by_autograd = torch.autograd.functional.hessian(loss, code)
    torch.testing.assert_close(by_transforms, by_autograd)
    assert torch.autograd.gradcheck(layer, (x.requires_grad_(), code.requires_grad_()))
    assert torch.autograd.gradgradcheck(layer, (x, code), fast_mode=True)


@pytest.mark.parametrize("mask", ["band", "softmax"])
def test_copies_pickles_and_loads(mask):
    layer = build(mask)
    x, code = torch.randn(2, 4, 3, 5, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    other = build(mask, seed=7)
    assert not torch.equal(other(x, code), layer(x, code))
    other.load_state_dict(layer.state_dict())
    for same in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), other):
        assert torch.equal(same(x, code), layer(x, code))


@pytest.mark.parametrize("mask", ["band", "softmax"])
def test_compiles_whole(mask):
    torch._dynamo.reset()
    layer = build(mask)
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    code = torch.randn(2, 3, dtype=torch.float64)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")

    def gradients(function):
        inputs = [x.clone().requires_grad_(), code.clone().requires_grad_()]
        return torch.autograd.grad(function(*inputs).pow(2).sum(), [*inputs, *layer.parameters()])

    torch.testing.assert_close(gradients(compiled), gradients(layer))


@pytest.mark.parametrize("mask", ["band", "softmax"])
def test_autocast(mask):
    layer = build(mask).float()
    x, code = torch.randn(2, 4, 3, 5), torch.randn(2, 3)
    expected = layer(x, code)
    for given in (x, x.bfloat16()):
        with torch.autocast("cpu", torch.bfloat16):
            out, masks = layer.with_masks(given, code)
        assert out.dtype == given.dtype
        assert masks.min() >= 0
        assert masks.max() <= 1
        torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.1)
        gradients = torch.autograd.grad(out.float().square().sum(), list(layer.parameters()))
        assert all(g.isfinite().all() and g.any() for g in gradients)


def test_an_empty_batch():
    layer = build("band")
    out, masks = layer.with_masks(
        torch.empty(0, 4, 3, 5, dtype=torch.float64), torch.empty(0, 3, dtype=torch.float64)
    )
    assert (out.shape, masks.shape) == ((0, 4, 3, 5), (0, 3, 3, 5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SpatialConstriction(0, 4), ValueError, "channels must be .*, got 0"),
        (lambda: SpatialConstriction(3, 4, 0), ValueError, "width must be .*, got 0"),
        (lambda: SpatialConstriction(3, 4.0), TypeError, "height must be .*, got 4.0"),
        (lambda: SpatialConstriction(3, 4, codes=0), ValueError, "codes must be .*, got 0"),
        (
            lambda: SpatialConstriction(3, 4, rectangles=0),
            ValueError,
            "rectangles must be .*, got 0",
        ),
        (lambda: SpatialConstriction(3, 4, eps=0.0), ValueError, "eps must be .*, got 0.0"),
        (lambda: SpatialConstriction(3, 4, eps="1e-8"), TypeError, "eps must be .*, got '1e-8'"),
        (lambda: SpatialConstriction(3, 4, mask="soft"), ValueError, "mask must be .*, got 'soft'"),
        (lambda: BandMask(3, 4, kind="x"), ValueError, "kind must be .*, got 'x'"),
        (lambda: CumaxGate(3, 0), ValueError, "length must be .*, got 0"),
        (
            lambda: CumaxGate(3, 4)(torch.ones(2, 5)),
            ValueError,
            r"features must have shape .*, got \(2, 5\)",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("mask", ["band", "softmax"])
@pytest.mark.parametrize(
    ("x", "code", "message"),
    [
        ((2, 5, 3, 5), (2, 3), r"x must have shape \(B, 4, 3, 5\), got \(2, 5, 3, 5\)"),
        ((2, 4, 5, 3), (2, 3), r"x must have shape .*, got \(2, 4, 5, 3\)"),
        ((4, 3, 5), (2, 3), r"x must have shape .*, got \(4, 3, 5\)"),
        ((2, 4, 3, 5), (2, 2), r"code must have shape \(2, 3\), got \(2, 2\)"),
        ((2, 4, 3, 5), (1, 3), r"code must have shape \(2, 3\), got \(1, 3\)"),
        ((2, 4, 3, 5), (3,), r"code must have shape .*, got \(3,\)"),
    ],
)
def test_bad_shapes_are_named(mask, x, code, message):
    with pytest.raises(ValueError, match=message):
        build(mask).float()(torch.ones(x), torch.ones(code))
