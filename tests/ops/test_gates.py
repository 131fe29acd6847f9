"""Cumulative softmax gates and band masks against loops, closed forms and plain autograd."""

import numpy as np
import pytest
import torch

from pydisent.ops import band_gate, band_mask, cumax

IMPLS = ["auto", "reference"]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def normal(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def cumax_by_loops(logits):
    out = np.empty_like(logits)
    for row in np.ndindex(logits.shape[:-1]):
        e = [np.exp(x - max(logits[row])) for x in logits[row]]
        for i in range(len(e)):
            out[(*row, i)] = sum(e[: i + 1]) / sum(e)
    return out


def mask_by_loops(rise_h, fall_h, rise_w, fall_w):
    gate_h = cumax_by_loops(rise_h) * (1 - cumax_by_loops(fall_h))
    gate_w = cumax_by_loops(rise_w) * (1 - cumax_by_loops(fall_w))
    j = rise_h.shape[-2]
    return sum(gate_h[..., i, :, None] * gate_w[..., i, None, :] for i in range(j)) / j


def logits_of(*leading, j, height, width, scale=2.0):
    lengths = height, height, width, width
    return [normal(*leading, j, n, seed=s, scale=scale) for s, n in enumerate(lengths)]


def plain_cumax(logits):
    length = logits.shape[-1]
    return logits.softmax(-1) @ torch.ones(length, length, dtype=logits.dtype).triu()


def plain_mask(rise_h, fall_h, rise_w, fall_w):
    gate_h = plain_cumax(rise_h) * (1 - plain_cumax(fall_h))
    gate_w = plain_cumax(rise_w) * (1 - plain_cumax(fall_w))
    return torch.einsum("...jh,...jw->...hw", gate_h, gate_w) / rise_h.shape[-2]


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shape", [(7,), (1,), (3, 1), (2, 3, 17), (0, 5), (2, 0, 3), (40, 6)])
def test_gates_equal_loops(shape, impl):
    rise, fall = normal(*shape), normal(*shape, seed=1, scale=3)
    up, down = cumax_by_loops(rise.numpy()), cumax_by_loops(fall.numpy())
    got = cumax(rise, impl=impl)
    assert got.shape == rise.shape
    np.testing.assert_allclose(got, up, rtol=0, atol=1e-14)
    np.testing.assert_allclose(band_gate(rise, fall, impl=impl), up * (1 - down), atol=1e-14)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
    ("leading", "j", "height", "width"),
    [
        ((), 1, 3, 4),
        ((2, 5), 4, 8, 8),
        ((3,), 8, 5, 1),
        ((3,), 3, 1, 6),
        ((1,), 40, 2, 2),
        ((0, 4), 2, 3, 3),
        ((2,), 2, 33, 129),
    ],
)
def test_masks_equal_loops(leading, j, height, width, impl):
    logits = logits_of(*leading, j=j, height=height, width=width)
    got = band_mask(*logits, impl=impl)
    assert got.shape == (*leading, height, width)
    np.testing.assert_allclose(got, mask_by_loops(*(x.numpy() for x in logits)), atol=1e-14)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("j", "height", "width"), [(4, 8, 8), (1, 1, 7), (8, 70, 5), (20, 3, 4)])
def test_gradients_equal_plain_autograd(j, height, width, impl):
    logits = [x.requires_grad_() for x in logits_of(2, 3, j=j, height=height, width=width)]
    weights = normal(2, 3, height, width, seed=9)
    got = torch.autograd.grad((weights * band_mask(*logits, impl=impl)).sum(), logits)
    want = torch.autograd.grad((weights * plain_mask(*logits)).sum(), logits)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-14)
    rise, fall = logits[:2]
    gate, up = band_gate(rise, fall, impl=impl), cumax(rise, impl=impl)
    got = torch.autograd.grad((gate.pow(2) + up.pow(3)).sum(), (rise, fall))
    up = plain_cumax(rise)
    plain = (up * (1 - plain_cumax(fall))).pow(2) + up.pow(3)
    want = torch.autograd.grad(plain.sum(), (rise, fall))
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-14)


def test_central_differences():
    logits = logits_of(2, j=3, height=4, width=5)
    weights, step = normal(2, 4, 5, seed=9), 1e-6
    leaves = [x.clone().requires_grad_() for x in logits]
    gradients = torch.autograd.grad((weights * band_mask(*leaves)).sum(), leaves)
    for i, gradient in enumerate(gradients):
        direction = normal(*gradient.shape, seed=20 + i)
        values = []
        for sign in (1, -1):
            moved = [x + sign * step * direction if k == i else x for k, x in enumerate(logits)]
            values.append((weights * band_mask(*moved)).sum())
        difference = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close((gradient * direction).sum(), difference, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4])
def test_gates_lie_in_the_unit_interval(scale, dtype, impl):
    """0 <= g <= 1 to the last bit; cumax ends at 1 and a band at 0, exactly."""
    for length in (1, 2, 7, 64, 1000):
        rise, fall = (normal(50, length, seed=s, scale=scale).to(dtype) for s in (0, 1))
        up, gate = cumax(rise, impl=impl), band_gate(rise, fall, impl=impl)
        assert up.dtype == gate.dtype == dtype
        for x in (up, gate):
            assert x.isfinite().all()
            assert x.min() >= 0
            assert x.max() <= 1
        assert (up[:, -1] == 1).all()
        assert (up.diff() >= 0).all()
        assert (gate[:, -1] == 0).all()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_masks_lie_in_the_unit_interval(scale, dtype, impl):
    for j in (1, 3, 7, 49):
        logits = [x.to(dtype) for x in logits_of(6, j=j, height=9, width=14, scale=scale)]
        # Edges that leave all of the image but its last row and column, where rounding may pass 1.
        for rise, fall in (logits[:2], logits[2:]):
            rise[0, :, 0], fall[0, :, -1] = 6e4, 6e4
        mask = band_mask(*logits, impl=impl)
        assert mask.dtype == dtype
        assert mask.min() >= 0
        assert mask.max() <= 1
        assert (1 - mask[0, :-1, :-1].double()).abs().max() <= torch.finfo(dtype).eps
        assert not mask[:, -1].any()
        assert not mask[..., -1].any()


@pytest.mark.parametrize("impl", IMPLS)
def test_equal_logits_give_a_parabola_that_peaks_at_one_sixteenth(impl):
    """At equal logits g_i = (i/L)(1 − i/L), i = 1..L: at most 1/4 on a side."""
    for length in (2, 8, 64):
        zeros = torch.zeros(3, 4, length, dtype=torch.float64)
        i = np.arange(1, length + 1) / length
        np.testing.assert_allclose(
            band_gate(zeros, zeros, impl=impl)[0, 0], i * (1 - i), rtol=0, atol=1e-15
        )
        mask = band_mask(zeros, zeros, zeros, zeros, impl=impl)
        np.testing.assert_allclose(mask.amax((1, 2)), 0.0625, rtol=1e-14)
    odd = torch.zeros(1, 1, 5, dtype=torch.float64)
    assert band_mask(odd, odd, odd, odd, impl=impl).max() == pytest.approx((6 / 25) ** 2)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_hump_gives_a_band(dtype, impl):
    """Edges at places a and b: 0 before a, 1 from a to b, 0 from b on; all 0 where b <= a."""
    a, b = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij")
    rise, fall = (1e4 * torch.nn.functional.one_hot(x, 6).to(dtype) for x in (a, b))
    place = torch.arange(6)
    expected = (place >= a[..., None]) & (place < b[..., None])
    assert torch.equal(band_gate(rise, fall, impl=impl), expected.to(dtype))
    mask = band_mask(rise[:1], fall[:1], rise[1:2], fall[1:2], impl=impl)
    boxes = expected[0, :, :, None] & expected[1, :, None, :]
    expected = boxes.double().mean(0)
    torch.testing.assert_close(mask[0].double(), expected, rtol=torch.finfo(dtype).eps, atol=0)


def test_a_far_edge_keeps_its_digits():
    """1 − cumax is summed from the end: e^-30 beside 1 would round away in float32."""
    fall = torch.tensor([0.0, -30.0, -31.0])
    gate = band_gate(torch.tensor([0.0, -90.0, -90.0]), fall)
    expected = (np.exp(-30.0) + np.exp(-31.0)) / (1 + np.exp(-30.0) + np.exp(-31.0))
    assert gate[0].item() == pytest.approx(expected, rel=1e-6)


def test_logits_in_one_tensor():
    """What a layer does: one dense layer's output, split into strided parts."""
    heads = normal(2, 3, 4, 22, scale=2).requires_grad_()
    parts = heads.split([6, 6, 5, 5], dim=-1)
    mask = band_mask(*parts)
    copies = [x.detach().contiguous().requires_grad_() for x in parts]
    expected = band_mask(*copies)
    assert torch.equal(mask, expected)
    weights = normal(2, 3, 6, 5, seed=3)
    (grad,) = torch.autograd.grad((weights * mask).sum(), heads)
    wanted = torch.autograd.grad((weights * expected).sum(), copies)
    assert torch.equal(grad, torch.cat(wanted, dim=-1))


def test_mixed_dtypes_are_promoted():
    logits = [x.float() for x in logits_of(2, j=2, height=3, width=4)]
    mixed = [logits[0].bfloat16(), *logits[1:]]
    assert torch.equal(band_mask(*mixed), band_mask(mixed[0].float(), *logits[1:]))
    assert band_gate(logits[0].double(), logits[1]).dtype == torch.float64


def test_autocast_changes_nothing():
    logits = [x.float() for x in logits_of(3, j=4, height=5, width=6)]
    for impl in IMPLS:
        want = band_mask(*logits, impl=impl)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(band_mask(*logits, impl=impl), want)


def test_unbatched_logits_under_vmap():
    logits = logits_of(4, j=2, height=3, width=5)
    torch.testing.assert_close(torch.func.vmap(band_mask)(*logits), band_mask(*logits))
    torch.testing.assert_close(torch.func.vmap(cumax)(logits[0]), cumax(logits[0]))


ONE = torch.ones(2, 3, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cumax([1.0]), TypeError, "logits must .*got list"),
        (
            lambda: cumax(torch.ones(3, dtype=torch.int64)),
            TypeError,
            "logits must .*got torch.int64",
        ),
        (
            lambda: cumax(torch.tensor(1.0)),
            ValueError,
            r"logits must have shape \(\.\.\., L\), L >= 1, got \(\)",
        ),
        (
            lambda: cumax(torch.ones(2, 0)),
            ValueError,
            r"logits must have shape .*L >= 1, got \(2, 0\)",
        ),
        (
            lambda: band_gate(ONE, ONE[..., :2]),
            ValueError,
            r"fall must have shape .*got \(2, 3, 2\)",
        ),
        (
            lambda: band_mask(ONE[0, 0], ONE, ONE, ONE),
            ValueError,
            r"rise_h must have shape .*got \(4,\)",
        ),
        (
            lambda: band_mask(ONE, ONE[:1], ONE, ONE),
            ValueError,
            r"fall_h must have shape .*got \(1, 3, 4\)",
        ),
        (
            lambda: band_mask(ONE, ONE, ONE[:, :2], ONE[:, :2]),
            ValueError,
            r"rise_w must have shape \(2, 3, W\), .*, got \(2, 2, 4\)",
        ),
        (lambda: band_mask(ONE, ONE, ONE, ONE[..., 1:]), ValueError, "fall_w must have shape "),
        (
            lambda: band_mask(ONE[:, :0], ONE[:, :0], ONE, ONE),
            ValueError,
            "rise_h must have shape ",
        ),
        (lambda: band_mask(ONE, ONE, ONE.to("meta"), ONE), ValueError, "rise_w must .*got meta"),
        (lambda: cumax(ONE, impl="fast"), ValueError, "impl must .*got 'fast'"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
