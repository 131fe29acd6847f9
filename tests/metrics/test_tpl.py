import math

import pytest
import torch

from pydisent.metrics import FixedFeatures, PerceptualDistance, tpl


class Sum(PerceptualDistance):
    """The difference of the images' sums, or its square: all can be worked out by hand."""

    name = "sum"

    def __init__(self, squared=False, threshold=0.5):
        self.squared, self.threshold = squared, threshold
        self.seen = []

    def distance(self, first, second):
        assert not torch.is_grad_enabled()
        self.seen.append(len(first))
        difference = (second - first).sum((1, 2, 3)).abs()
        return difference**2 if self.squared else difference


def linear(*slopes):
    """Return a decoder whose image's sum is the code times the slopes."""

    def decode(codes):
        return (codes @ torch.tensor(slopes, dtype=codes.dtype))[:, None, None, None]

    return decode


def bases(count, dimensions, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimensions, generator=generator, dtype=torch.float64)


def test_a_linear_decoder_by_hand():
    """Eqs. 11 and 12: sweeps of 8 with slopes 2, 0.05 and -1, cut into 48 pieces."""
    decode = linear(2.0, 0.05, -1.0)
    found = tpl(decode, bases(5, 3), distance=Sum())
    assert found.details["per_dimension"] == pytest.approx([16, 0.4, 8])
    assert found.details["standard_error"] == pytest.approx([0, 0, 0], abs=1e-12)
    assert found.details["active"] == 2
    assert found.score == pytest.approx(24)
    assert found.details["distance"] == "sum"
    squared = tpl(decode, bases(5, 3), distance=Sum(squared=True), threshold=0)
    assert squared.details["per_dimension"] == pytest.approx(
        [48 * (s / 6) ** 2 for s in (2, 0.05, 1)]
    )
    assert squared.details["active"] == 3


def test_the_threshold_is_reached_at_its_value():
    exact, theirs = (
        tpl(linear(1.0, 2.0), bases(2, 2), distance=Sum(), segments=4, threshold=8.0, compat=compat)
        for compat in (None, "author_code")
    )
    assert (exact.details["active"], exact.score) == (2, 24)
    assert (theirs.details["active"], theirs.score) == (1, 16)


def test_the_average_is_over_base_codes():
    def decode(codes):  # the first dimension's slope is the second one's absolute value
        return (codes[:, :1].clone() * codes[:, 1:].abs())[..., None, None]

    codes = torch.tensor([[0.3, 1.0], [0.1, -3.0]], dtype=torch.float64)
    found = tpl(decode, codes, distance=Sum(), segments=8, span=1.0, threshold=0)
    # The second sweep: |c1| (1 + 1), down to 0 and up again.
    assert found.details["per_dimension"] == pytest.approx([(2 + 6) / 2, (0.6 + 0.2) / 2])
    assert found.details["standard_error"] == pytest.approx([2.0, 0.2])
    # The sums are 2.6 and 6.2: the errors of the dimensions are not independent.
    assert found.details["score_standard_error"] == pytest.approx(1.8)
    one_active = tpl(decode, codes, distance=Sum(), segments=8, span=1.0, threshold=1)
    assert one_active.details["score_standard_error"] == pytest.approx(2.0)
    alone = tpl(decode, codes[:1], distance=Sum()).details
    assert alone["standard_error"] is alone["score_standard_error"] is None


@pytest.mark.parametrize(("segments", "summed"), [(24, 24), (25, 24), (48, 47), (49, 48), (99, 96)])
def test_the_authors_code_drops_an_interval_between_batches(segments, summed):
    """49 intervals join 50 values; two batches of 25 hold 24 each."""
    found = tpl(linear(1.0), bases(1, 1), distance=Sum(), segments=segments, compat="author_code")
    assert found.score == pytest.approx(8 * summed / segments)
    batches = [min(25, segments + 1 - start) for start in range(0, segments + 1, 25)]
    assert summed == sum(size - 1 for size in batches)
    exact = tpl(linear(1.0), bases(1, 1), distance=Sum(), segments=segments)
    assert exact.score == pytest.approx(8)


def test_which_interval_is_dropped():
    def decode(codes):  # all of the path is between the 25th and the 26th of 50 values
        return (codes > 0).double()[..., None, None]

    assert tpl(decode, bases(1, 1), distance=Sum(), segments=49).score == 1
    assert tpl(decode, bases(1, 1), distance=Sum(), segments=49, compat="author_code").score == 0


@pytest.mark.parametrize("batch_size", [2, 3, 7, 1000])
def test_batches_are_bounded_and_change_nothing(batch_size):
    distance, sizes = FixedFeatures(), []
    weight = torch.randn(3, 192, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def decode(codes):
        sizes.append(len(codes))
        return torch.sigmoid(codes @ weight).reshape(-1, 3, 8, 8)

    found = tpl(decode, bases(2, 3), distance=distance, segments=5, batch_size=batch_size)
    used = sizes.copy()
    whole = tpl(decode, bases(2, 3), distance=distance, segments=5)
    assert found.details["per_dimension"] == pytest.approx(
        whole.details["per_dimension"], rel=1e-12
    )
    assert max(used) <= batch_size
    assert sum(used) == 2 * 3 * 6 + len(used) - 1  # one image more a batch


def blob(centre, size=32):
    """Return smooth spots (N, size, size) at centres (N, 2) in [-1, 1]."""
    axis = torch.linspace(-1, 1, size, dtype=centre.dtype)
    x, y = (centre[:, i, None] for i in (0, 1))
    return torch.exp(-((axis - x) ** 2)[:, None] * 12) * torch.exp(
        -((axis - y) ** 2)[..., None] * 12
    )


def scene(codes):
    """A sky, a ground and a spot: brightness of the two, hue and width of the spot; a dead code."""
    c = torch.tanh(codes / 2)
    image = torch.zeros(len(codes), 3, 32, 32, dtype=codes.dtype)
    image[:, :, :12] = (0.5 + 0.35 * c[:, 0, None, None, None]) * 0.9
    image[:, 2, 20:] = 0.5 + 0.4 * c[:, 1, None, None]
    place = torch.stack([0.5 * c[:, 2], torch.zeros_like(c[:, 2])], 1)
    spot = blob(place)[:, None] * torch.tensor([1.0, 0.8, 0.2], dtype=codes.dtype)[:, None, None]
    return image + (1 - image) * spot


def rotated(decode, degrees, i=0, j=1):
    a = math.radians(degrees)

    def turned(codes):
        codes = codes.clone()
        x, y = codes[:, i].clone(), codes[:, j].clone()
        codes[:, i], codes[:, j] = (
            math.cos(a) * x - math.sin(a) * y,
            math.sin(a) * x + math.cos(a) * y,
        )
        return decode(codes)

    return turned


def test_a_dead_dimension_is_not_active():
    found = tpl(scene, bases(4, 4))
    lengths = found.details["per_dimension"]
    assert lengths[3] == 0
    assert min(lengths[:3]) > 5 * found.details["threshold"]
    assert found.details["active"] == 3
    assert found.score == pytest.approx(sum(lengths))
    assert found.details["distance"] == "fixed-features-1"
    assert "not with published" in found.details["notice"]


def test_a_rotated_code_is_longer_with_local_minima_at_right_angles():
    codes = bases(2, 4)
    angles = [-10, 0, 10, 45, 80, 90, 100, 135, 170, 180, 190]
    score = {a: tpl(rotated(scene, a), codes, segments=12).score for a in angles}
    for aligned in (0, 90, 180):
        assert score[aligned] < min(score[aligned - 10], score[aligned + 10])
    assert min(score[45], score[135]) > 1.1 * max(score[0], score[90], score[180])


def test_a_random_rotation_of_all_axes_is_longer():
    codes = bases(4, 4)
    aligned = tpl(scene, codes, segments=16).score
    for seed in range(3):
        turn = torch.linalg.qr(bases(4, 4, seed)).Q
        assert tpl(lambda c, q=turn: scene(c @ q), codes, segments=16).score > 1.2 * aligned


def test_signs_and_order_of_the_dimensions_do_not_matter():
    codes = bases(4, 4)
    order, signs = torch.tensor([2, 0, 3, 1]), torch.tensor([1.0, -1, -1, 1]).double()
    there = tpl(scene, codes, segments=12).details["per_dimension"]
    back = tpl(lambda c: scene((c * signs)[:, order.argsort()]), (codes[:, order] * signs))
    fine = tpl(scene, codes)
    assert back.details["per_dimension"] == pytest.approx(
        [fine.details["per_dimension"][i] for i in order], rel=1e-9
    )
    # A length: by the triangle inequality a refinement is no shorter, and soon no longer either.
    for coarse, refined in zip(there, fine.details["per_dimension"]):
        assert 0.95 * refined <= coarse <= refined


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"base_codes": [[0.0]]},
            TypeError,
            "base_codes must be a floating point Tensor, got list",
        ),
        ({"base_codes": torch.zeros(2)}, ValueError, r"base_codes must be \(n, d\), n and d"),
        ({"base_codes": torch.zeros(0, 2)}, ValueError, r"got \(0, 2\)"),
        ({"base_codes": torch.full((1, 2), math.nan)}, ValueError, "base_codes must be finite"),
        ({"segments": 0}, ValueError, "segments must be an integer >= 1, got 0"),
        ({"segments": 2.0}, TypeError, "segments must be an integer"),
        ({"span": 0.0}, ValueError, "span must be finite and above 0, got 0"),
        ({"threshold": -1.0}, ValueError, "threshold must be finite and at least 0"),
        (
            {"distance": Sum(threshold=None)},
            ValueError,
            "threshold must be given: distance sum has",
        ),
        ({"compat": "theirs"}, ValueError, "compat must be 'author_code' or None, got 'theirs'"),
        ({"batch_size": 1}, ValueError, "batch_size must be at least 2"),
        ({"distance": abs}, TypeError, "distance must be a PerceptualDistance"),
        ({"decode": lambda c: c}, ValueError, r"decode must return images \(3, C, H, W\), got"),
        ({"decode": lambda c: c.numpy()}, TypeError, "decode must return a Tensor, got ndarray"),
        ({"decode": lambda c: linear(1.0)(c[:, :1]) / 0}, ValueError, "decode must return finite"),
    ],
)
def test_bad_arguments(options, error, words):
    given = {"decode": linear(1.0, 1.0), "base_codes": bases(1, 2), "distance": Sum()} | options
    given = {"segments": 1, "batch_size": 3, **given}
    with pytest.raises(error, match=words):
        tpl(given.pop("decode"), given.pop("base_codes"), **given)
