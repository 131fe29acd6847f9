import numpy as np
import pytest

from pydisent.metrics import dci_es
from pydisent.metrics.dci_es import explicitness

ensemble = pytest.importorskip("sklearn.ensemble")
SOME = {"depths": (1, 2, 4, 9), "trees": 8}


@pytest.fixture
def few(mixture):
    codes, factors, test_codes, test_factors = mixture
    return codes[:300], factors[:300], test_codes[:200], test_factors[:200]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([0.8, 0.6, 0.4, 0.2, 0.0], 0.0),  # a straight fall from the baseline's loss
        ([0.0, 0.0, 0.0, 0.0, 0.0], 1.0),  # the least capacity is enough
        ([0.8, 0.8, 0.8, 0.8, 0.8], 1.0),  # and so where there is nothing to tell
        ([0.8, 0.8, 0.8, 0.8, 0.0], 1 - 2 * 3.5 / 4),
        ([0.8, 0.0, 0.0, 0.0, 0.0], 1 - 2 * 0.5 / 4),
        ([0.4, 0.6, 0.2, 0.3, 0.2], 1 - 2 * (0.2 + 0.1) / (0.8 * 4)),  # the running least counts
    ],
)
def test_explicitness_in_closed_form(losses, expected):
    found = explicitness(np.array(losses)[:, None], np.arange(3.0, 8), np.array([0.8]))
    np.testing.assert_allclose(found, [expected], atol=1e-12)


def test_capacities_need_not_be_even():
    """Of a step from κ_1 to the rest the area is that of one triangle."""
    found = explicitness(np.array([[0.5], [0.0], [0.0]]), np.array([1.0, 3.0, 11.0]), np.ones(1))
    np.testing.assert_allclose(found, [1 - 2 * (0.5 * 2 / 2) / 10], atol=1e-12)


def test_score_is_that_of_the_definition(few):
    """Expected: scikit-learn's forests fitted one by one; the first factor as a quantity."""
    codes, factors, test_codes, test_factors = few
    losses = np.empty((4, 4))
    for j in range(4):
        kind = ensemble.RandomForestRegressor if j == 2 else ensemble.RandomForestClassifier
        for t, depth in enumerate(SOME["depths"]):
            forest = kind(8, max_depth=depth, random_state=5).fit(codes, factors[:, j])
            losses[t, j] = 1 - forest.score(test_codes, test_factors[:, j])
    baseline = [1 - 1 / 3, 1 - 1 / 2, 1, 1 - 1 / 24]
    least = np.minimum.accumulate(losses)
    area = np.trapezoid(least - least[-1], SOME["depths"], axis=0)
    result = dci_es(*few, continuous=[2], seed=5, **SOME)
    np.testing.assert_allclose(result.details["losses"], losses, atol=1e-12)
    assert result.details["baseline_losses"] == pytest.approx(baseline)
    assert result.score == pytest.approx(np.mean(1 - area / (np.array(baseline) * 8 / 2)))
    best = int((1 - losses).mean(1).argmax())
    assert result.details["depth"] == SOME["depths"][best]
    assert result.details["informativeness"] == pytest.approx((1 - losses[best]).mean())
    assert result.details["size"] == 4 / 5
    importance = np.array(result.details["importance"])
    np.testing.assert_allclose(importance.sum(0), 1)
    importance = importance[importance.sum(1) > 0]  # one code is constant
    share = importance / importance.sum(1, keepdims=True) + 1e-11
    each = 1 + (share * np.log(share)).sum(1) / np.log(4)
    weighted = (each * importance.sum(1)).sum() / importance.sum()
    assert result.details["disentanglement"] == pytest.approx(weighted, abs=1e-6)


def test_deeper_trees_that_cannot_grow_are_not_fitted(few, monkeypatch):
    whole = dci_es(*few, depths=(1, 40, 50), trees=4)
    fitted = []
    fit = ensemble.RandomForestClassifier.fit
    monkeypatch.setattr(
        ensemble.RandomForestClassifier,
        "fit",
        lambda self, *args: fitted.append(self.max_depth) or fit(self, *args),
    )
    assert dci_es(*few, depths=(1, 40, 50), trees=4) == whole
    assert fitted == [1, 40] * 4
    assert whole.details["losses"][1] == whole.details["losses"][2]
    deepest = ensemble.RandomForestClassifier(4, max_depth=50, random_state=0)
    deepest.fit(few[0], few[1][:, 0])
    assert 1 - deepest.score(few[2], few[3][:, 0]) == whole.details["losses"][2][0]


def test_explicit_codes_need_less_capacity():
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 4, (900, 2))
    depths = (1, 2, 3, 4, 8)
    mix = np.array([[1.0, 1.0], [1.0, -1.0]])
    found = [
        dci_es(codes[:600], factors[:600], codes[600:], factors[600:], depths=depths)
        for codes in (factors * 1.0, factors @ mix, rng.normal(size=(900, 2)))
    ]
    assert found[0].score > found[1].score + 0.05
    assert found[0].details["informativeness"] == 1
    assert found[1].details["informativeness"] > 0.99
    assert found[2].details["informativeness"] < 0.4  # noise may be explicit, and tells nothing
    # Trees are grown on one of two codes at random, so that the useless one gets some splits.
    assert found[0].details["disentanglement"] > 0.7
    assert found[1].details["disentanglement"] < 0.1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depths": (3,)}, r"depths must be at least two integers in ascending order, got \(3,\)"),
        ({"depths": (3, 2)}, "in ascending order"),
        ({"depths": (0, 2)}, "depths must be an integer >= 1, got 0"),
        ({"trees": 0}, "trees must be an integer >= 1, got 0"),
        ({"continuous": (4,)}, r"continuous must be columns in \[0, 4\), got \(4,\)"),
        ({"seed": -1}, "seed must be an integer in"),
    ],
)
def test_bad_options(few, options, words):
    with pytest.raises(ValueError, match=words):
        dci_es(*few, **options)


def test_bad_tables(few):
    codes, factors, test_codes, test_factors = few
    with pytest.raises(ValueError, match="codes must be of at least 2 columns"):
        dci_es(codes[:, :1], factors, test_codes[:, :1], test_factors)
    with pytest.raises(ValueError, match="factors must be of at least 2 columns"):
        dci_es(codes, factors[:, :1], test_codes, test_factors[:, :1])
    with pytest.raises(ValueError, match="test_codes must be given with test_factors"):
        dci_es(codes, factors, None, test_factors)
    with pytest.raises(ValueError, match="test_codes must be given"):
        dci_es(codes, factors, None, None)
    test_factors = test_factors.copy()
    test_factors[:, 2] = 3
    with pytest.raises(ValueError, match="test_factors must be varying in column 2"):
        dci_es(codes, factors, test_codes, test_factors, continuous=[2], **SOME)
