import sys

import numpy as np
import pytest
import torch

from pydisent.metrics import _boosting, dci
from pydisent.metrics._boosting import SortedCodes, boost

pytest.importorskip("sklearn")
ESTIMATORS = ("presorted", "gbt")


@pytest.fixture(scope="module")
def few(mixture):
    """Without the factor of most values, for each of them costs a hundred trees."""
    codes, factors, test_codes, test_factors = mixture
    return codes, factors[:, :3], test_codes, test_factors[:, :3]


@pytest.mark.in_turn
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_order_and_extremes(table, estimator):
    results = {
        name: dci(*table(name, (2, 3, 2, 2, 3)), estimator=estimator)
        for name in ("perfect", "doubled", "rotated", "noisy", "constant")
    }
    scores = {name: result.score for name, result in results.items()}
    completeness = {name: result.details["completeness"] for name, result in results.items()}
    assert scores["perfect"] == pytest.approx(1, abs=1e-6)
    assert completeness["perfect"] == pytest.approx(1, abs=1e-6)
    assert results["perfect"].details["informativeness_train"] == 1
    # Of two equal codes chance picks one a split: each is of one factor, shared by halves.
    assert scores["doubled"] == pytest.approx(1, abs=1e-6)
    assert completeness["doubled"] == pytest.approx(1 - np.log(2) / np.log(10), abs=0.05)
    assert scores["constant"] == pytest.approx(0, abs=1e-9)
    assert completeness["constant"] == pytest.approx(0, abs=1e-9)
    assert 0 < scores["rotated"] < 0.7
    assert 0 < scores["noisy"] < 0.7


def test_gbt_is_the_definition(few):
    """Expected: disentanglement_lib's formulas on scikit-learn's trees, SciPy's entropy."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    stats = pytest.importorskip("scipy.stats")
    codes, factors, test_codes, test_factors = few
    importance, accuracy = np.zeros((5, 3)), []
    for j in range(3):
        model = ensemble.GradientBoostingClassifier(random_state=3)
        model.fit(codes, factors[:, j])
        importance[:, j] = abs(model.feature_importances_)
        accuracy.append(np.mean(model.predict(test_codes) == test_factors[:, j]))
    disentanglement = 1 - stats.entropy(importance.T + 1e-11, base=3)
    completeness = 1 - stats.entropy(importance + 1e-11, base=5)
    weight = importance.sum(1) / importance.sum()
    result = dci(*few, estimator="gbt", seed=3)
    assert result.score == pytest.approx((disentanglement * weight).sum(), abs=1e-12)
    assert result.details["completeness"] == pytest.approx(
        (completeness * importance.sum(0)).sum() / importance.sum(), abs=1e-12
    )
    assert result.details["informativeness"] == pytest.approx(np.mean(accuracy), abs=1e-12)

    # The same trees by another way: chance decides between equal splits in both.
    ours = dci(*few)
    np.testing.assert_allclose(ours.details["importance"], importance, atol=0.02)
    assert ours.score == pytest.approx(result.score, abs=0.02)
    for name in ("completeness", "informativeness"):
        assert ours.details[name] == pytest.approx(result.details[name], abs=0.02)


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("ties", [False, True])
def test_trees_are_scikit_learns(monkeypatch, classes, ties):
    """Two stages on many samples, where no two splits are equally good: the same to rounding."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    rng = np.random.default_rng(classes)
    labels, test_labels = (rng.integers(0, classes, n) for n in (6000, 1000))
    slopes = rng.normal(size=4)

    def encode(label):
        codes = np.outer(label, slopes) + 2 * rng.normal(size=(len(label), 4))
        return codes.round(2) if ties else codes

    codes, test_codes = encode(labels), encode(test_labels)
    monkeypatch.setattr(_boosting, "STAGES", 2)
    fit = boost(
        SortedCodes(codes, test_codes), labels, test_labels, classes, np.random.default_rng(0)
    )
    model = ensemble.GradientBoostingClassifier(n_estimators=2, random_state=0).fit(codes, labels)
    np.testing.assert_allclose(fit.importance, model.feature_importances_, atol=1e-9)
    assert fit.train == model.score(codes, labels)
    assert fit.test == model.score(test_codes, test_labels)


@pytest.mark.parametrize("ties", [False, True])
def test_a_tree_is_scikit_learns(ties):
    trees = pytest.importorskip("sklearn.tree")
    rng = np.random.default_rng(4)
    codes, test_codes = rng.uniform(size=(2, 2000, 6))
    if ties:
        codes, test_codes = codes.round(1), test_codes.round(1)
    # Even codes and little noise: no node is so small that two codes would part it equally well.
    residual = np.sin(5 * codes[:, 2]) * codes[:, 3] + 0.3 * rng.normal(size=2000)
    tree = _boosting.grow(SortedCodes(codes, test_codes), residual, rng.random((7, 6)))
    model = trees.DecisionTreeRegressor(max_depth=3).fit(codes, residual)
    np.testing.assert_allclose(
        tree.removed / tree.removed.sum(), model.feature_importances_, atol=1e-12
    )
    means = np.bincount(tree.leaf, residual, 8) / np.bincount(tree.leaf, minlength=8).clip(1)
    np.testing.assert_allclose(means[tree.leaf], model.predict(codes), atol=1e-12)
    found = means[tree.leaves_of(test_codes.astype(np.float32))]
    np.testing.assert_allclose(found, model.predict(test_codes), atol=1e-12)


def test_processes_do_not_change_the_result(few, monkeypatch):
    monkeypatch.setattr(sys.modules["pydisent.metrics.dci"], "WORTH_PROCESSES", 0)
    before, codes = torch.get_num_threads(), few[0][:, :3]
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(dci(codes, few[1]))
    finally:
        torch.set_num_threads(before)
    assert results[0] == results[1]


def test_order_scale_and_sign_of_codes_do_not_matter(few):
    codes, factors = few[0][:, :4], few[1]
    score = dci(codes, factors).score
    for other in (codes[:, ::-1], codes * 8, -codes):
        assert dci(other, factors).score == pytest.approx(score, abs=0.01)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"estimator": "forest"}, "estimator must be one of 'presorted', 'gbt', got 'forest'"),
        ({"codes": slice(0, 1)}, "codes must have at least 2 columns"),
        ({"factors": slice(0, 1)}, "factors must have at least 2 columns"),
    ],
)
def test_bad_options(few, change, words):
    codes = few[0][:, change.pop("codes", slice(None))]
    factors = few[1][:, change.pop("factors", slice(None))]
    with pytest.raises(ValueError, match=words):
        dci(codes, factors, **change)
