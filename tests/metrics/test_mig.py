import numpy as np
import pytest

from pydisent.metrics import mig


def test_order_and_extremes(table):
    scores = {
        name: mig(*table(name)).score
        for name in ("perfect", "doubled", "rotated", "noisy", "constant")
    }
    assert scores["perfect"] == pytest.approx(1, abs=1e-12)
    assert scores["doubled"] == scores["constant"] == 0
    assert 0 < scores["noisy"] < 0.5
    assert 0 < scores["rotated"] < 0.5


def test_score_is_that_of_the_definition(mixture):
    """Expected: scikit-learn's mutual information of numpy's histogram bins, SciPy's entropy."""
    metrics = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    codes, factors = mixture[:2]
    information = np.zeros((5, 4))
    for i in range(5):
        edges = np.histogram(codes[:, i], 20)[1][:-1]
        binned = np.digitize(codes[:, i], edges)
        for j in range(4):
            information[i, j] = metrics.mutual_info_score(binned, factors[:, j])
    gaps = []
    for j in range(4):
        second, first = sorted(information[:, j])[-2:]
        gaps.append(
            (first - second) / stats.entropy(np.unique(factors[:, j], return_counts=True)[1])
        )
    result = mig(codes, factors)
    np.testing.assert_allclose(result.details["mutual_information"], information, atol=1e-12)
    np.testing.assert_allclose(result.details["gap"], gaps, atol=1e-12)
    assert result.score == pytest.approx(np.mean(gaps), abs=1e-12)
    assert 0.05 < result.score < 0.95


def test_a_code_that_lost_a_factor_loses_its_share(table):
    codes, factors = table("perfect")
    codes = codes.copy()
    codes[:, 2] = 0.7
    assert mig(codes, factors).score == pytest.approx(4 / 5, abs=1e-12)


def test_order_scale_and_shift_of_codes_do_not_matter(mixture):
    codes, factors = mixture[:2]
    score = mig(codes, factors).score
    assert mig(codes[:, [3, 0, 4, 2, 1]], factors).score == pytest.approx(score, abs=1e-12)
    assert mig(codes * [4, 0.5, 2, 1, 8] + 0.25, factors).score == pytest.approx(score, abs=1e-12)
    assert mig(codes, factors * 5 - 3).score == pytest.approx(score, abs=1e-12)


def test_a_lone_code_is_compared_with_nothing():
    factors = np.arange(40)[:, None] % 4
    assert mig(factors.astype(float), factors).score == pytest.approx(1, abs=1e-12)


def test_codes_as_close_as_floats_can_be(mixture):
    factors = mixture[1]
    codes = np.ones((600, 2))
    codes[:, 0] += np.spacing(1.0) * (factors[:, 1] == 0)
    assert mig(codes, factors[:, [1]]).score == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("bins", "error", "words"),
    [
        (1, ValueError, "bins must be at least 2, got 1"),
        (601, ValueError, "at least as many rows as bins, 601, got 600"),
        (20.0, TypeError, r"bins must be an integer, got 20\.0"),
    ],
)
def test_bad_bins(mixture, bins, error, words):
    with pytest.raises(error, match=words):
        mig(*mixture[:2], bins=bins)
