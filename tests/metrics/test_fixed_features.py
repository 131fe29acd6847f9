import numpy as np
import pytest
import torch

from pydisent.metrics import FixedFeatures, tpl
from pydisent.metrics.fixed_features import _filters


def pictures(count, size=16, channels=3, seed=0):
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def by_hand(image):
    """One image (3, H, W) through the net, in NumPy, with loops over the filters' taps."""
    x = image.double().numpy() * 2 - 1
    stages = []
    for number, (weight, bias) in enumerate(_filters()):
        if number:
            _, h, w = x.shape
            x = np.stack(
                [
                    [
                        [c[i : i + 2, j : j + 2].mean() for j in range(0, w, 2)]
                        for i in range(0, h, 2)
                    ]
                    for c in x
                ]
            )
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
        h, w = x.shape[1:]
        out = bias.numpy()[:, None, None] + sum(
            np.einsum("oi,ihw->ohw", weight.numpy()[..., i, j], padded[:, i : i + h, j : j + w])
            for i in range(3)
            for j in range(3)
        )
        x = np.where(out > 0, out, 0.2 * out)
        stages.append(x)
    return stages


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (9, 13)])
def test_distance_and_features_are_those_of_the_definition(squared, size):
    first, second = torch.rand(2, 1, 3, *size, generator=torch.Generator().manual_seed(3)).double()
    expected = 0.0
    a, b = by_hand(first[0]), by_hand(second[0])
    for one, other in zip(a, b):
        unit = [s / np.sqrt((s**2).sum(0) + 4) for s in (one, other)]
        squares = ((unit[0] - unit[1]) ** 2).sum(0)
        expected += (squares if squared else np.sqrt(squares)).mean()
    net = FixedFeatures(squared)
    assert net.distance(first, second).tolist() == pytest.approx([expected], rel=1e-12)
    assert net.distance(first.float(), second.float()).item() == pytest.approx(expected, rel=1e-5)
    features = net.features(first)
    assert features.shape == (1, 2 * (16 + 32 + 64 + 64))
    moments = [moment for s in a for moment in (s.mean((1, 2)), s.std((1, 2)))]
    np.testing.assert_allclose(features[0], np.concatenate(moments), atol=1e-12)


def test_the_filters_are_orthonormal_and_never_change():
    for weight, _ in _filters():
        rows = weight.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)).double(), atol=1e-12, rtol=0)
    first, last = _filters()[0], _filters()[3]
    # The name "fixed-features-1" stands for these numbers.
    frozen = [first[0][0, 0, 0, 0], first[1][5], last[0][63, 63, 2, 2], last[1][0]]
    numbers = [0.042112423930189, -0.11245778409226, -0.073357385914534, -0.038834674577941]
    assert [float(x) for x in frozen] == pytest.approx(numbers, abs=1e-12)


def test_a_distance_is_one():
    net, images = FixedFeatures(), pictures(6)
    a, b, c = images.chunk(3)
    assert net.distance(a, a).tolist() == [0, 0]
    torch.testing.assert_close(net.distance(a, b), net.distance(b, a))
    assert (net.distance(a, b) > 0.1).all()
    assert (net.distance(a, c) <= net.distance(a, b) + net.distance(b, c)).all()
    assert (net.distance(a, b) <= 8).all()  # four stages, each between points of a unit ball


def test_a_length_adds_up_along_a_path_and_a_square_does_not():
    images = pictures(2).double()
    for squared, ratio in ((False, 1), (True, 0.1)):
        net = FixedFeatures(squared)
        totals = []
        for count in (100, 1000):
            weight = torch.linspace(0, 1, count + 1).double()[:, None, None, None]
            totals.append(net.steps(images[:1] * (1 - weight) + images[1:] * weight).sum())
        assert float(totals[1] / totals[0]) == pytest.approx(ratio, rel=0.01)


def test_two_changes_at_different_places_add_up_in_the_length_alone():
    base = torch.full((1, 3, 96, 96), 0.4).double()  # no unit sees both
    left, right = base.clone(), base.clone()
    left[..., 8:24, 4:20] += 0.3
    right[..., 72:88, 76:92] += 0.3
    both = left + right - base
    for squared in (False, True):
        net = FixedFeatures(squared)
        one, other, together = (net.distance(base, x) for x in (left, right, both))
        torch.testing.assert_close(together, one + other, rtol=1e-9, atol=0)
    half = base + (both - base) / 2**0.5  # a step at 45° and of the same size
    half_left = base + (left - base) / 2**0.5
    assert FixedFeatures().distance(base, half) > 1.9 * FixedFeatures().distance(base, half_left)


def test_steps_are_distances_between_neighbours():
    net, images = FixedFeatures(), pictures(5)
    torch.testing.assert_close(net.steps(images), net.distance(images[:-1], images[1:]))
    assert net.steps(images[:1]).shape == (0,)


def test_grey_images_are_colour_images_of_equal_channels():
    net, images = FixedFeatures(), pictures(4, channels=1)
    torch.testing.assert_close(net.steps(images), net.steps(images.repeat(1, 3, 1, 1)))


def test_flat_images_and_small_changes():
    net = FixedFeatures()
    flat = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])[:, None, None, None].expand(-1, 3, 16, 16)
    assert ((net.steps(flat) > 0.3) & (net.steps(flat) < 3)).all()
    noisy = 0.5 + 1e-3 * torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert net.distance(noisy, torch.full_like(noisy, 0.5)) < 0.02  # noise is not blown up
    image = pictures(1, 32).double()
    small = image + 1e-7 * (pictures(1, 32, seed=1) - 0.5)
    large = image + 1e-4 * (pictures(1, 32, seed=1) - 0.5)
    ratio = net.distance(image, large) / net.distance(image, small)
    assert float(ratio) == pytest.approx(1000, rel=1e-3)


def test_tf32_is_off_for_the_net_and_what_it_looks_at(monkeypatch):
    """Its rounding is that of a path's steps; the user's setting is back afterwards."""
    conv, seen = torch.backends.cudnn.conv, []
    convolve = torch.nn.functional.conv2d

    def record(*args):
        seen.append((conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision))
        return convolve(*args)

    monkeypatch.setattr(torch.nn.functional, "conv2d", record)
    before = conv.fp32_precision

    def decode(codes):
        record(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
        return codes[:, :1, None, None].sigmoid().expand(-1, 3, 8, 8)

    tpl(decode, torch.zeros(1, 1), segments=2)
    assert set(seen) == {("ieee", "ieee")}
    assert conv.fp32_precision == before


def test_names():
    assert FixedFeatures().name == "fixed-features-1"
    assert FixedFeatures(squared=True).name == "fixed-features-1-squared"
    assert "not with published" in FixedFeatures().notice
    assert FixedFeatures(squared=True).threshold is None


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (np.zeros((1, 3, 8, 8)), TypeError, "images must be a Tensor, got ndarray"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), TypeError, "floating point, in .0, 1., got"),
        (torch.zeros(3, 8, 8), ValueError, r"images must be \(N, 1 or 3, H, W\)"),
        (torch.zeros(1, 2, 8, 8), ValueError, r"got \(1, 2, 8, 8\)"),
        (torch.zeros(1, 3, 7, 8), ValueError, "at least 8 x 8 pixels"),
        (
            torch.linspace(-1, 1, 192).view(1, 3, 8, 8),
            ValueError,
            r"in \[0, 1\], got values from -1",
        ),
        (255 * pictures(1), ValueError, r"images must be in \[0, 1\], got values from .* to 25"),
    ],
)
def test_bad_images(images, error, words):
    with pytest.raises(error, match=words):
        FixedFeatures().features(images)


def test_rounding_beyond_the_ends_is_no_other_scale():
    images = torch.full((1, 3, 8, 8), 1.005)
    assert FixedFeatures().features(images).isfinite().all()


def test_bad_pairs():
    with pytest.raises(TypeError, match="first must be a Tensor, got list"):
        FixedFeatures().distance([0.5], pictures(2))
    with pytest.raises(ValueError, match=r"second must be images of the shape of first"):
        FixedFeatures().distance(pictures(2), pictures(3))
    with pytest.raises(TypeError, match="squared must be True or False, got 'yes'"):
        FixedFeatures("yes")
