import math

import numpy as np
import pytest
import torch

from pydisent.metrics import PerceptualDistance, accumulated_distance


class City(PerceptualDistance):
    """The sum of the pixels' absolute differences."""

    name, squared = "city", False

    def distance(self, first, second):
        return (second - first).abs().sum((1, 2, 3))


def identity(codes):
    return codes[:, None, None]


def test_the_identity_by_hand():
    """N lines of length 8, each |cos α| + |sin α| long in the city-block distance."""
    base, seen = torch.tensor([7.0, 0.0, -3.0, 0.0]).double(), []

    def decode(codes):
        seen.append(codes)
        return identity(codes)

    angles = [0, 30, 45, 90, 137, -90]
    found = accumulated_distance(decode, base, (3, 1), angles, distance=City(), size=5)
    expected = [5 * 8 * (abs(math.cos(a)) + abs(math.sin(a))) for a in np.radians(angles)]
    assert found.tolist() == pytest.approx(expected)
    assert found.dtype == np.float64
    codes = torch.cat(seen)
    assert (codes[:, [0, 2]] == base[[0, 2]]).all()


def test_the_grid():
    """At 0 and 90 degrees the lines lie along the axes, at evenly spaced values of the other."""
    seen = []

    def decode(codes):
        seen.append(codes)
        return identity(codes)

    accumulated_distance(
        decode, torch.zeros(2).double(), (0, 1), [0, 90], distance=City(), size=3, span=1.5
    )
    codes = torch.cat(seen[1:]).reshape(2, 3, 4, 2)
    along, across = torch.tensor([-1.5, -0.5, 0.5, 1.5]).double(), torch.tensor([-1.5, 0, 1.5])
    torch.testing.assert_close(codes[0, :, :, 0], along.expand(3, 4))
    torch.testing.assert_close(codes[0, :, :, 1], across.double()[:, None].expand(3, 4))
    torch.testing.assert_close(codes[1, :, :, 1], along.expand(3, 4))
    torch.testing.assert_close(codes[1, :, :, 0], -across.double()[:, None].expand(3, 4))


def test_a_product_is_curved_and_every_size_of_batch_agrees():
    def decode(codes):
        return (codes[:, :1] * codes[:, 1:])[..., None, None]

    whole, parts = (
        accumulated_distance(
            decode, torch.zeros(2).double(), (0, 1), [0, 45], distance=City(), size=4, batch_size=b
        )
        for b in (None, 3)
    )
    np.testing.assert_allclose(whole, parts, rtol=1e-12)
    # At 0: |c2| · 8 for c2 in -4, -4/3, 4/3, 4.
    assert whole[0] == pytest.approx(8 * (4 + 4 / 3) * 2)


def halves(codes):
    """The upper half's brightness and the lower half's colour."""
    c = torch.tanh(codes / 2)
    image = torch.full((len(codes), 3, 16, 16), 0.5, dtype=codes.dtype)
    image[:, :, :7] = 0.5 + 0.4 * c[:, 0, None, None, None]
    image[:, 0, 9:] = 0.5 + 0.4 * c[:, 1, None, None]
    image[:, 2, 9:] = 0.5 - 0.4 * c[:, 1, None, None]
    return image


def test_local_minima_at_right_angles():
    """Zhu et al., Fig. 3 d, of two factors that change different places."""
    angles = list(range(-180, 180, 10))
    found = accumulated_distance(halves, torch.zeros(2).double(), (0, 1), angles, size=8)
    at = dict(zip(angles, found))
    minima = [
        a for a in angles if at[a] < min(at[(a + 190) % 360 - 180], at[(a + 170) % 360 - 180])
    ]
    assert minima == [-180, -90, 0, 90]
    # A half turn is the same grid; a quarter turn the other factor.
    np.testing.assert_allclose(found[:18], found[18:], rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"base_code": torch.zeros(1, 2)},
            ValueError,
            r"base_code must be a Tensor \(d,\), got \(1",
        ),
        ({"base_code": [0.0]}, ValueError, "got list"),
        ({"dimensions": (0, 0)}, ValueError, r"two different integers in \[0, 2\), got \(0, 0\)"),
        ({"dimensions": (0, 2)}, ValueError, r"got \(0, 2\)"),
        ({"dimensions": (0.0, 1)}, TypeError, "got 0.0"),
        ({"angles": []}, ValueError, "angles must be one finite number or more"),
        ({"angles": [math.nan]}, ValueError, "angles must be one finite number or more"),
        ({"size": 0}, ValueError, "size must be an integer >= 1"),
        ({"span": -1.0}, ValueError, "span must be finite and above 0"),
    ],
)
def test_bad_arguments(options, error, words):
    given = {
        "base_code": torch.zeros(2),
        "dimensions": (0, 1),
        "angles": [0.0],
        "size": 2,
    } | options
    with pytest.raises(error, match=words):
        accumulated_distance(
            identity, *(given.pop(k) for k in ("base_code", "dimensions", "angles")), **given
        )
