import numpy as np
import pytest

from pydisent.metrics import modularity


def test_order_and_extremes(table):
    scores = {
        name: modularity(*table(name)).score
        for name in ("perfect", "doubled", "rotated", "noisy", "constant")
    }
    assert scores["perfect"] == pytest.approx(1, abs=1e-12)
    assert scores["doubled"] == pytest.approx(1, abs=1e-12)  # each code still knows one factor
    assert scores["constant"] == 0
    assert scores["rotated"] < 0.95
    assert scores["noisy"] < 0.95


def test_constant_codes_count_as_nothing(table):
    codes, factors = table("perfect")
    padded = np.pad(codes, ((0, 0), (0, 5)), constant_values=0.1)
    result = modularity(padded, factors)
    assert result.score == pytest.approx(0.5, abs=1e-12)
    assert result.details["by_code"][5:] == [0] * 5


def test_score_is_that_of_the_definition(mixture):
    """Expected: Ridgeway and Mozer's template distance, from scikit-learn's mutual information."""
    metrics = pytest.importorskip("sklearn.metrics")
    codes, factors = mixture[:2]
    scores = []
    for code in codes.T:
        binned = np.digitize(code, np.histogram(code, 20)[1][:-1])
        m = [metrics.mutual_info_score(binned, factor) for factor in factors.T]
        best = int(np.argmax(m))
        distance = sum(m[j] ** 2 for j in range(4) if j != best)
        scores.append(1 - distance / (m[best] ** 2 * 3) if len(set(binned)) > 1 else 0.0)
    result = modularity(codes, factors)
    np.testing.assert_allclose(result.details["by_code"], scores, atol=1e-12)
    assert result.score == pytest.approx(np.mean(scores), abs=1e-12)
    assert 0.3 < result.score < 0.8


def test_order_scale_and_shift_of_codes_do_not_matter(mixture):
    codes, factors = mixture[:2]
    score = modularity(codes, factors).score
    assert modularity(codes[:, ::-1], factors[:, ::-1]).score == pytest.approx(score, abs=1e-12)
    assert modularity(codes * 2 + 0.5, factors).score == pytest.approx(score, abs=1e-12)


def test_one_factor_has_no_rest(mixture):
    with pytest.raises(ValueError, match="factors must have at least 2 columns"):
        modularity(mixture[0], mixture[1][:, :1])
