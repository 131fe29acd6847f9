from itertools import combinations, product

import numpy as np
import pytest

from pydisent.metrics import sap
from pydisent.metrics._thresholds import threshold_accuracy


def brute_force(code, label, classes):
    """Every set of classes − 1 cuts between values, every naming of the intervals."""
    values = np.unique(code)
    cuts = [*((values[1:] + values[:-1]) / 2), values[-1] + 1]
    present = np.unique(label)
    best = 0
    for chosen in combinations(cuts * (classes - 1), classes - 1):
        interval = np.searchsorted(np.sort(chosen), code)
        for names in product(range(classes), repeat=classes):
            said = np.array(names)[interval]
            best = max(best, np.mean([(said[label == c] == c).mean() for c in present]))
    return best


@pytest.mark.parametrize(("count", "classes", "distinct"), [(9, 2, 99), (8, 3, 99), (12, 3, 5)])
def test_thresholds_are_the_best_there_are(count, classes, distinct):
    rng = np.random.default_rng(count)
    found, expected = [], []
    for _ in range(12):
        code = rng.integers(0, distinct, count).astype(float)
        label = rng.integers(0, classes, count)
        found.append(threshold_accuracy(code[:, None], label, classes)[0])
        expected.append(brute_force(code, label, classes))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert min(expected) < 0.95


def test_intervals_may_name_classes_in_any_order_and_equal_codes_are_one():
    label = np.array([0, 0, 1, 1, 2, 2])
    for order in ([2, 0, 1], [1, 2, 0], [0, 1, 2]):
        code = np.array(order, float)[label]
        assert threshold_accuracy(code[:, None], label, 3)[0] == pytest.approx(1)
    constant = threshold_accuracy(np.ones((6, 1)), label, 3)[0]
    assert constant == pytest.approx(1 / 3)
    # one class at both ends, the other between: two cuts would do, one is allowed
    assert threshold_accuracy(np.arange(6.0)[:, None], np.array([0, 0, 1, 1, 0, 0]), 2)[
        0
    ] == pytest.approx(0.75)


def test_order_and_extremes(table):
    scores = {
        name: sap(*table(name)).score
        for name in ("perfect", "doubled", "rotated", "noisy", "constant")
    }
    # An independent code of a whole grid is right once in c: the largest gap is 1 − 1/c.
    chance = np.mean([1 / size for size in (3, 4, 5, 2, 6)])
    assert scores["perfect"] == pytest.approx(1 - chance, abs=1e-9)
    assert scores["doubled"] == scores["constant"] == 0
    assert 0 < scores["noisy"] < 0.4
    assert 0 < scores["rotated"] < 0.4


def test_inactive_codes_score_zero(table):
    codes, factors = table("perfect")
    codes = codes.copy()
    codes[:, 1:] *= 1e-3
    result = sap(codes, factors[:, :1])
    assert result.score == pytest.approx(1, abs=1e-9)
    assert (np.array(result.details["matrix"])[1:] == 0).all()
    assert sap(codes, factors[:, :1], prune_std=0.0).score == pytest.approx(2 / 3, abs=1e-9)


def test_thresholds_are_fitted_to_the_test_samples(mixture):
    codes, factors, test_codes, test_factors = mixture
    assert sap(*mixture).score == sap(test_codes, test_factors).score
    assert sap(*mixture).score != sap(codes, factors).score
    assert 0.05 < sap(*mixture).score < 0.9


def test_svm_is_that_of_the_definition(mixture):
    """Expected: scikit-learn's classifier for each code and factor, in plain loops."""
    svm = pytest.importorskip("sklearn.svm")
    codes, factors, test_codes, test_factors = mixture
    matrix = np.zeros((5, 4))
    for i in range(5):
        for j in range(4):
            model = svm.LinearSVC(C=0.01, class_weight="balanced", random_state=1)
            model.fit(codes[:, i : i + 1], factors[:, j])
            matrix[i, j] = np.mean(model.predict(test_codes[:, i : i + 1]) == test_factors[:, j])
    result = sap(*mixture, variant="svm")
    np.testing.assert_allclose(result.details["matrix"], matrix, atol=1e-12)
    gaps = [np.sort(column)[-1] - np.sort(column)[-2] for column in matrix.T]
    assert result.score == pytest.approx(np.mean(gaps), abs=1e-12)
    assert result.score > 0.01


def test_continuous_is_that_of_the_definition(mixture):
    codes, factors = mixture[:2]
    result = sap(codes, factors, variant="continuous")
    matrix = np.zeros((5, 4))
    for i in range(4):  # the last code is constant: 0
        for j in range(4):
            matrix[i, j] = np.corrcoef(codes[:, i], factors[:, j])[0, 1] ** 2
    np.testing.assert_allclose(result.details["matrix"], matrix, atol=1e-12)
    assert np.argmax(matrix[:, 2]) == 3
    assert matrix[3, 2] == pytest.approx(1)


def test_quantities_are_predicted_by_a_line(mixture):
    by_class, by_line = (
        np.array(sap(*mixture[:2], continuous=columns).details["matrix"])
        for columns in ((), (2, 3))
    )
    line = np.array(sap(*mixture[:2], variant="continuous").details["matrix"])
    np.testing.assert_array_equal(by_line[:, :2], by_class[:, :2])
    np.testing.assert_allclose(by_line[:, 2:], line[:, 2:], atol=1e-12)


@pytest.mark.parametrize("variant", ["thresholds", "continuous"])
def test_order_and_shift_of_codes_do_not_matter(mixture, variant):
    codes, factors = mixture[:2]
    score = sap(codes, factors, variant=variant).score
    for other in (codes[:, ::-1], 0.5 - codes, codes * 4):
        assert sap(other, factors, variant=variant).score == pytest.approx(score, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"variant": "tree"},
            "variant must be one of 'thresholds', 'svm', 'continuous', got 'tree'",
        ),
        ({"continuous": (4,)}, r"continuous must be columns in \[0, 4\)"),
        ({"variant": "svm", "continuous": (1,)}, "continuous is for variant 'thresholds'"),
        ({"prune_std": -1.0}, "prune_std must be a finite number >= 0"),
    ],
)
def test_bad_options(mixture, options, words):
    with pytest.raises(ValueError, match=words):
        sap(*mixture, **options)


def test_a_value_that_training_never_saw(mixture):
    codes, factors, test_codes, test_factors = mixture
    strange = np.where(test_factors == 2, 99, test_factors)
    # Thresholds are fitted to the test samples alone, and call their values what they like.
    assert sap(codes, factors, test_codes, strange).score == sap(*mixture).score
    one_more = np.where(np.arange(400)[:, None] < 9, 77, test_factors)
    alone = sap(test_codes, one_more)
    assert sap(codes, factors, test_codes, one_more).details["gap"] == alone.details["gap"]
    with pytest.raises(ValueError, match="test_factors must take at least two values each"):
        sap(codes, factors, test_codes, test_factors * [1, 0, 1, 1])
    seen = sap(*mixture, variant="svm").score
    assert sap(codes, factors, test_codes, strange, variant="svm").score != seen
