import numpy as np
import pytest
import torch

from pydisent.metrics import infomec

pytest.importorskip("sklearn")
special = pytest.importorskip("scipy.special")


def binary(count=3):
    """All values of binary factors, eight times."""
    grid = np.stack(np.meshgrid(*[[0, 1]] * count, indexing="ij"), -1).reshape(-1, count)
    return np.tile(grid, (8, 1))


def test_discrete_codes_in_closed_form():
    v = binary()
    perfect = infomec(v * 2.5, v, discrete_codes=True)
    np.testing.assert_allclose(perfect.details["normalised_information"], np.eye(3), atol=1e-12)
    assert perfect.score == pytest.approx(1, abs=1e-12)
    assert perfect.details["compactness"] == pytest.approx(1, abs=1e-12)
    assert perfect.details["explicitness"] == pytest.approx(1, abs=1e-2)

    doubled = infomec(np.tile(v, 2), v, discrete_codes=True)
    assert doubled.score == pytest.approx(1, abs=1e-12)
    assert doubled.details["compactness"] == pytest.approx((1 / 2 - 1 / 6) / (5 / 6), abs=1e-12)

    # One code that tells two factors, and one that tells the third.
    joined = infomec(np.stack([v[:, 0] + 2 * v[:, 1], v[:, 2]], 1), v, discrete_codes=True)
    np.testing.assert_allclose(
        joined.details["normalised_information"], [[1, 1, 0], [0, 0, 1]], atol=1e-12
    )
    assert joined.score == pytest.approx(((1 / 2 + 1) / 2 - 1 / 3) / (2 / 3), abs=1e-12)
    assert joined.details["compactness"] == pytest.approx(1, abs=1e-12)
    assert joined.details["explicitness"] == pytest.approx(1, abs=1e-2)

    # Exclusive or: all the information together, none in any code, and none for a linear model.
    hidden = np.stack([v[:, 0] ^ v[:, 1], v[:, 1] ^ v[:, 2]], 1)
    secret = infomec(hidden, v, discrete_codes=True)
    np.testing.assert_allclose(secret.details["normalised_information"], 0, atol=1e-12)
    assert secret.score == pytest.approx(0, abs=1e-12)
    assert secret.details["explicitness"] == pytest.approx(0, abs=1e-9)


def ross(code, labels, k=10):
    """Ross (2014), Eq. 4 of each sample by all distances."""
    distances = np.abs(code[:, None] - code)
    same = labels[:, None] == labels
    terms = []
    for i in range(len(code)):
        peers = int(same[i].sum())
        near = min(k, peers - 1)
        radius = np.sort(distances[i][same[i]])[near]  # the first is the sample itself
        within = (distances[i] < radius).sum()  # itself and those nearer than the k-th
        terms.append(special.digamma([near, peers, within]))
    near, peers, within = np.array(terms).T
    return max(0.0, special.digamma(len(code)) + (near - peers - within).mean())


def test_continuous_information_is_that_of_the_definition(mixture):
    # Of 20 samples or fewer scikit-learn rounds distances otherwise: no value is that rare.
    codes, factors = mixture[0][:, :3], mixture[1] // [1, 1, 1, 6]
    result = infomec(codes, factors)
    shares = [np.unique(v, return_counts=True)[1] / 600 for v in factors.T]
    assert min(map(min, shares)) > 20 / 600
    entropy = np.array([-(share * np.log(share)).sum() for share in shares])
    expected = np.array([[ross(z, v) for v in factors.T] for z in codes.T]) / entropy
    np.testing.assert_allclose(result.details["normalised_information"], expected, atol=1e-6)
    active = np.ptp(codes, 0) > np.ptp(codes, 0).max() / 20
    assert result.details["active"] == active.tolist()
    for found, matrix in (
        (result.score, expected[active]),
        (result.details["compactness"], expected[active].T),
    ):
        even = 1 / matrix.shape[1]
        largest = (matrix.max(1) / matrix.sum(1)).mean()
        assert found == pytest.approx((largest - even) / (1 - even), abs=1e-6)


def test_explicitness_is_that_of_a_regression_to_its_minimum(mixture):
    """Expected: the weighted cross-entropy minimised in float64 by PyTorch, to convergence."""
    codes, factors = mixture[0][:, :3], mixture[1][:, [0, 2]]
    x = torch.from_numpy((codes - codes.mean(0)) / codes.std(0))
    expected = []
    for column in factors.T:
        values, labels = np.unique(column, return_inverse=True)
        y, c = torch.from_numpy(labels), len(values)
        weight = len(y) / (c * torch.bincount(y).double())
        theta = torch.zeros(4, c, dtype=torch.float64, requires_grad=True)
        descent = torch.optim.LBFGS([theta], max_iter=500, line_search_fn="strong_wolfe")

        def loss(theta=theta, y=y, weight=weight):
            logits = x @ theta[:3] + theta[3]
            return logits, torch.nn.functional.cross_entropy(logits, y, weight)

        def closure(descent=descent, loss=loss):
            descent.zero_grad()
            value = loss()[1]
            value.backward()
            return value

        descent.step(closure)
        plain = torch.nn.functional.cross_entropy(loss()[0], y)
        expected.append(1 - plain.item() / np.log(c))
    result = infomec(codes, factors)
    np.testing.assert_allclose(result.details["explicitness_by_factor"], expected, atol=2e-3)
    assert 0.05 < result.details["explicitness"] < 0.95


def test_order_and_extremes(table):
    results = {name: infomec(*table(name)) for name in ("perfect", "doubled", "rotated", "noisy")}
    assert results["perfect"].score > 0.99
    assert results["perfect"].details["compactness"] > 0.99
    assert results["doubled"].score > 0.99
    assert results["doubled"].details["compactness"] == pytest.approx(4 / 9, abs=0.02)
    for name in ("rotated", "noisy"):
        assert results[name].score < 0.8
    assert results["rotated"].details["explicitness"] > results["noisy"].details["explicitness"]


def test_order_and_scale_do_not_matter(mixture):
    codes, factors = mixture[0][:300, :3], mixture[1][:300]
    found = infomec(codes, factors)
    for other in (codes[:, ::-1], codes * 4 + 2):
        again = infomec(other, factors[:, ::-1])
        assert again.score == pytest.approx(found.score, abs=1e-3)
        assert again.details["explicitness"] == pytest.approx(
            found.details["explicitness"], abs=1e-2
        )


@pytest.mark.parametrize("discrete", [False, True])
def test_constant_codes_are_pruned(discrete):
    v = binary()
    padded = infomec(np.pad(v, ((0, 0), (0, 2))), v, discrete_codes=discrete)
    alone = infomec(v, v, discrete_codes=discrete)
    assert padded.score == alone.score
    assert padded.details["compactness"] == alone.details["compactness"]
    assert padded.details["active"] == [True] * 3 + [False] * 2
    nothing = infomec(v * 0, v, discrete_codes=discrete)
    assert nothing.score == 0
    assert nothing.details["compactness"] is None
    assert nothing.details["explicitness"] == pytest.approx(0, abs=1e-9)
    assert "at most one code" in nothing.details["notice"]
    one = infomec(v[:, :1], v, discrete_codes=discrete)
    assert one.details["compactness"] is None
    assert one.score > 0.95


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"factors": slice(0, 1)}, "factors must have at least 2 columns"),
        ({"seed": -1}, "seed must be an integer in"),
        (
            {"discrete_codes": True},
            "codes must repeat values where discrete_codes is True; column 0",
        ),
    ],
)
def test_bad_options(mixture, change, words):
    factors = mixture[1][:, change.pop("factors", slice(None))]
    with pytest.raises(ValueError, match=words):
        infomec(mixture[0], factors, **change)


def test_factors_that_never_repeat(mixture):
    factors = np.stack([np.arange(600), mixture[1][:, 0]], 1)
    with pytest.raises(ValueError, match="factors must repeat values; column 0 takes 600 in 600"):
        infomec(mixture[0], factors)
