import numpy as np
import pytest

from pydisent.metrics import irs


def test_order_and_extremes(table):
    scores = {
        name: irs(*table(name)).score
        for name in ("perfect", "doubled", "rotated", "noisy", "constant")
    }
    assert scores["perfect"] == pytest.approx(1, abs=1e-12)
    assert scores["doubled"] == pytest.approx(1, abs=1e-12)
    assert scores["constant"] == 0
    assert 0 < scores["rotated"] < 0.8
    assert 0 < scores["noisy"] < 0.8


def test_constant_codes_have_no_weight(table):
    codes, factors = table("perfect")
    result = irs(np.pad(codes, ((0, 0), (2, 0)), constant_values=0.1), factors)
    assert result.score == pytest.approx(1, abs=1e-12)
    assert result.details["num_active_dims"] == 5
    assert result.details["parents"] == [None, None, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(("quantile", "bins"), [(0.99, 20), (1.0, None), (0.8, 5)])
def test_score_is_that_of_the_definition(mixture, quantile, bins):
    """Expected: Suter et al.'s formula, sample by sample."""
    codes, factors = mixture[:2]
    total, weights = 0.0, 0.0
    for code in codes.T[:4]:  # the last is constant
        mean = code.mean()
        weight = max(abs(z - mean) for z in code)
        best = -np.inf
        for factor in factors.T:
            if bins is not None:
                factor = np.digitize(factor, np.histogram(factor, bins)[1][:-1])
            spread = []
            for value in sorted(set(factor)):
                group = code[factor == value]
                spread.append(np.quantile([abs(z - group.mean()) for z in group], quantile))
            best = max(best, 1 - np.mean(spread) / weight)
        total, weights = total + weight * best, weights + weight
    result = irs(codes, factors, quantile=quantile, bins=bins)
    assert result.score == pytest.approx(total / weights, abs=1e-12)
    assert 0.1 < result.score < 0.95


def test_order_of_codes_and_shift_do_not_matter(mixture):
    codes, factors = mixture[:2]
    score = irs(codes, factors).score
    for other in (codes[:, ::-1], codes * 3, 1 - codes):
        assert irs(other, factors).score == pytest.approx(score, abs=1e-9)


@pytest.mark.parametrize("quantile", [0.0, 1.01, float("nan")])
def test_bad_quantiles(mixture, quantile):
    with pytest.raises(ValueError, match=r"quantile must be a number in \(0, 1\]"):
        irs(*mixture[:2], quantile=quantile)
