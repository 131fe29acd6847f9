import numpy as np
import pytest
import torch

from pydisent.metrics import attribute_classification
from pydisent.metrics.attribute_classification import hinge_bias


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = rng.random((900, 3)) < [0.5, 0.1, 0.8]
    z = rng.normal(size=(900, 4))
    z[:, :3] += y * [8.0, 1.0, 0.0]
    return z[:600], y[:600], z[600:], y[600:]


@pytest.mark.parametrize(("positives", "scale"), [(5, 1), (1, 1), (14, 3), (8, 0.1)])
def test_the_bias_has_the_least_hinge_loss(positives, scale):
    rng = np.random.default_rng(positives)
    for _ in range(20):
        projection = rng.normal(size=15) * scale
        label = rng.permutation(15) < positives

        def loss(b, sign=np.where(label, 1, -1), p=projection):  # noqa: B008
            return np.maximum(0, 1 - sign * (p + b)).sum()

        # The loss is convex and piecewise linear: least at one of its corners.
        least = min(loss(b) for b in np.concatenate([1 - projection, -1 - projection]))
        assert loss(hinge_bias(projection, label)) == pytest.approx(least, abs=1e-12)


def test_what_a_code_tells_is_found(data):
    result = attribute_classification(*data)
    told, hinted, unrelated = result.details["accuracy"]
    assert told > 0.99
    assert unrelated <= told
    assert hinted >= result.details["majority"][1] - 0.02
    assert result.details["balanced_accuracy"][0] > 0.99
    assert result.score == pytest.approx(np.mean(result.details["accuracy"]))


def test_accuracy_is_that_of_the_definition(data):
    """Expected: mean differences by loops, and the bias by searching all corners of the loss."""
    z, y, test_z, test_y = data
    expected = []
    for k in range(3):
        w = np.mean([a for a, b in zip(z, y[:, k]) if b], 0)
        w -= np.mean([a for a, b in zip(z, y[:, k]) if not b], 0)
        p, s = z @ w, np.where(y[:, k], 1, -1)
        corners = np.sort(s - p)
        losses = [np.maximum(0, 1 - s * (p + b)).sum() for b in corners]
        least = corners[np.isclose(losses, min(losses), rtol=0, atol=1e-9)]
        b = (least[0] + least[-1]) / 2
        expected.append(np.mean((test_z @ w + b > 0) == test_y[:, k]))
    result = attribute_classification(*data)
    np.testing.assert_allclose(result.details["accuracy"], expected, atol=1e-12)


def test_a_constant_code_says_what_is_more_common(data):
    z, y, test_z, test_y = data
    result = attribute_classification(np.zeros_like(z), y, np.zeros_like(test_z), test_y)
    assert result.details["accuracy"] == result.details["majority"]
    assert set(result.details["balanced_accuracy"]) == {0.5}


def test_order_rotation_and_duplication_of_codes(data):
    z, y, test_z, test_y = data
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    accuracy = attribute_classification(*data).details["accuracy"]
    for turn in (rotation, np.eye(4)[::-1], np.concatenate([np.eye(4)] * 2, 1) / 2**0.5):
        turned = attribute_classification(z @ turn, y, test_z @ turn, test_y)
        np.testing.assert_allclose(turned.details["accuracy"], accuracy, atol=1e-12)


def test_tensors_and_integers(data):
    tensors = (torch.from_numpy(x) for x in data)
    z, y, test_z, test_y = data
    assert attribute_classification(*tensors) == attribute_classification(*data)
    whole = attribute_classification(z, y.astype(int), test_z, test_y.astype(np.uint8))
    assert whole == attribute_classification(*data)


def test_bad_input(data):
    z, y, test_z, test_y = data
    alone = y.copy()
    alone[:, 1] = True
    for arguments, error, words in (
        ((z, alone, test_z, test_y), ValueError, "column 1 is 1 in all 600 rows"),
        ((z, y / 1.0, test_z, test_y), TypeError, "attributes must be booleans or integers"),
        ((z, y * 2, test_z, test_y), ValueError, "attributes must be 0 or 1, got 0 to 2"),
        ((z, y[:9], test_z, test_y), ValueError, r"attributes must be \(600, A\), got \(9, 3\)"),
        ((z * np.nan, y, test_z, test_y), ValueError, "codes must be finite"),
        ((z, y, test_z[:, :2], test_y), ValueError, "must have 4 and 3 columns, got 2 and 3"),
        ((z, y, test_z, test_y[:9]), ValueError, r"test_attributes must be \(300, A\)"),
    ):
        with pytest.raises(error, match=words):
            attribute_classification(*arguments)
