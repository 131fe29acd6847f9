import math

import numpy as np
import pytest
import torch

from pydisent.metrics import FixedFeatures, PerceptualDistance, ppl


class Squares(PerceptualDistance):
    """The squared difference of the pixels, summed."""

    name, squared = "squares", True

    def distance(self, first, second):
        assert first.dtype == torch.float64
        assert not torch.is_grad_enabled()
        return (second - first).square().sum((1, 2, 3))


def drawn(count, size, seed=0):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed)).double()


def identity(codes):
    return codes[:, None, None]


def inliers(speeds):
    ordered = sorted(speeds)
    low = math.floor(0.01 * (len(ordered) - 1))
    high = math.ceil(0.99 * (len(ordered) - 1))
    return ordered[low : high + 1]


def test_a_straight_way_has_the_speed_of_its_ends():
    """Through the identity |b − a|² at any t, the outermost hundredths left out."""
    codes = drawn(400, 3)
    speeds = (codes[200:] - codes[:200]).square().sum(1).tolist()
    kept = inliers(speeds)
    assert 195 < len(kept) < 200
    for sampling in ("endpoints", "full"):
        found = ppl(identity, lambda n: codes[:n], distance=Squares(), pairs=200, sampling=sampling)
        assert found.score == pytest.approx(np.mean(kept), rel=1e-6)
        assert found.details["kept"] == len(kept)
        error = np.std(kept, ddof=1) / len(kept) ** 0.5
        assert found.details["standard_error"] == pytest.approx(error, rel=1e-6)


def test_where_on_the_way():
    """With G(z) = z² the speed at t is 2 z(t) (b − a)."""
    codes = drawn(2, 1) * torch.tensor([[0.0], [1.0]]).double() + torch.tensor([[1.0], [2.0]])
    a, b = codes[:, 0].tolist()
    square = lambda c: identity(c**2)
    options = {"distance": Squares(), "pairs": 1, "epsilon": 1e-6}
    start = ppl(square, lambda n: codes, **options).score
    assert start == pytest.approx((2 * a * (b - a)) ** 2, rel=1e-5)
    t = np.random.default_rng(7).random(1)[0]
    within = ppl(square, lambda n: codes, sampling="full", seed=7, **options).score
    assert within == pytest.approx((2 * (a + t * (b - a)) * (b - a)) ** 2, rel=1e-5)


def test_a_great_circle_has_the_speed_of_its_angle():
    """Codes of one norm r: r times the angle; else the change of the norm comes in as well."""
    codes = drawn(100, 4)
    codes = codes / codes.norm(dim=1, keepdim=True) * 3
    codes[50:] *= 2
    angle = torch.acos(((codes[:50] / 3) * (codes[50:] / 6)).sum(1))
    expected = np.mean(inliers((angle.square() * 9 + 9).tolist()))
    found = ppl(
        identity, lambda n: codes, distance=Squares(), pairs=50, interpolation="slerp", epsilon=1e-6
    )
    assert found.score == pytest.approx(expected, rel=1e-5)


def test_great_circles_keep_the_norm_and_end_where_they_should():
    from pydisent.metrics.ppl import _slerp

    first, second = drawn(20, 6), drawn(20, 6, 1)
    for t, end in ((0.0, first), (1.0, second)):
        torch.testing.assert_close(_slerp(first, second, torch.full((20, 1), t).double()), end)
    half = _slerp(first, second, torch.full((20, 1), 0.5).double())
    torch.testing.assert_close(half.norm(dim=1), (first.norm(dim=1) + second.norm(dim=1)) / 2)
    same = _slerp(first, 2 * first, torch.full((20, 1), 0.5).double())
    torch.testing.assert_close(same, 1.5 * first)


def test_great_circles_from_the_origin_stay_there():
    found = ppl(identity, lambda n: torch.zeros(n, 2), distance=Squares(), pairs=3,
                interpolation="slerp")  # fmt: skip
    assert found.score == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_small_step_is_not_lost_in_rounding(dtype):
    """The fixed net's square at ε = 1e-4 is that of a step ten times as long."""
    weight = drawn(4, 3 * 16 * 16, 2) * 0.3
    smooth = torch.nn.AvgPool2d(5, 1, 2)

    def decode(codes):
        return torch.sigmoid(smooth((codes @ weight.to(codes)).reshape(-1, 3, 16, 16)) * 3)

    codes = drawn(60, 4).to(dtype)
    fine, coarse = (
        ppl(decode, lambda n: codes, pairs=30, epsilon=epsilon).score for epsilon in (1e-4, 1e-3)
    )
    assert fine == pytest.approx(coarse, rel=0.01)
    found = ppl(decode, lambda n: codes, pairs=30, batch_size=7)
    assert found.score == pytest.approx(fine, rel=1e-3 if dtype == torch.float32 else 1e-9)
    assert found.details["distance"] == "fixed-features-1-squared"


def test_speed_scales_as_the_square_of_the_way():
    codes = drawn(40, 3)
    short, long = (
        ppl(identity, lambda n, k=k: k * codes, distance=Squares(), pairs=20).score for k in (1, 3)
    )
    assert long == pytest.approx(9 * short, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"distance": FixedFeatures()}, ValueError, "distance must be squared, as it is di"),
        ({"pairs": 0}, ValueError, "pairs must be an integer >= 1"),
        ({"epsilon": 0.0}, ValueError, "epsilon must be above 0 and below 1"),
        ({"sampling": "end"}, ValueError, "sampling must be one of 'endpoints', 'full', got 'end'"),
        ({"interpolation": "cubic"}, ValueError, "interpolation must be one of 'lerp', 'slerp'"),
        ({"sample": lambda n: drawn(n + 1, 2)}, ValueError, "sample must return 4 codes, got 5"),
        ({"sample": lambda n: [0.0]}, TypeError, "sample's codes must be a floating point Tensor"),
        ({"decode": lambda c: c}, ValueError, "decode must return images"),
        ({"batch_size": 1}, ValueError, "batch_size must be at least 2"),
    ],
)
def test_bad_arguments(options, error, words):
    given = {"decode": identity, "sample": lambda n: drawn(n, 2), "distance": Squares(), "pairs": 2}
    given |= options
    with pytest.raises(error, match=words):
        ppl(given.pop("decode"), given.pop("sample"), **given)
