from itertools import permutations

import numpy as np
import pytest

from pydisent.metrics import mcc


def test_a_factor_each_in_any_order_scale_and_sign(table):
    codes, factors = table("perfect")
    for given in (codes, codes[:, ::-1] * -3 + 7, codes * 1e-30, codes * [1, -2, 3, -4, 5]):
        result = mcc(given, factors)
        assert result.score == pytest.approx(1, abs=1e-12)
    assert mcc(codes[:, ::-1], factors).details["assignment"] == [4, 3, 2, 1, 0]
    assert mcc(codes, factors[:, [1, 0, 2, 3, 4]]).details["assignment"] == [1, 0, 2, 3, 4]


@pytest.mark.parametrize("degrees", [0, 10, 30, 45])
def test_a_rotation_leaves_its_cosine(table, degrees):
    """Of two independent factors of the same variance the correlations are cosine and sine."""
    angle = np.deg2rad(degrees)
    grid = np.stack(np.meshgrid(range(6), range(6), indexing="ij"), -1).reshape(-1, 2)
    rotation = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    result = mcc(grid @ np.array(rotation), grid)
    assert result.score == pytest.approx(np.cos(angle), abs=1e-12)
    np.testing.assert_allclose(result.details["matrix"], np.abs(rotation), atol=1e-12)


@pytest.mark.parametrize("correlation", ["pearson", "spearman"])
def test_score_is_that_of_the_definition(mixture, correlation):
    """Expected: the best of all assignments, by SciPy's correlations."""
    stats = pytest.importorskip("scipy.stats")
    codes, factors = mixture[0][:, :4], mixture[1]
    measure = stats.pearsonr if correlation == "pearson" else stats.spearmanr
    pairs = np.array([[abs(measure(z, v).statistic) for v in factors.T] for z in codes.T])
    best = max(np.mean([pairs[a[j], j] for j in range(4)]) for a in permutations(range(4)))
    result = mcc(codes, factors, correlation=correlation)
    np.testing.assert_allclose(result.details["matrix"], pairs, atol=1e-12)
    assert result.score == pytest.approx(best, abs=1e-12)


def test_no_code_serves_two_factors():
    """The best code of both factors is the first: only one gets it, and not greedily."""
    rng = np.random.default_rng(0)
    v = rng.integers(0, 9, (4000, 2))
    codes = np.stack([v[:, 0] + 0.9 * v[:, 1], v[:, 0] + 3.0 * rng.normal(size=4000)], 1)
    result = mcc(codes, v)
    matrix = np.array(result.details["matrix"])
    assert matrix[0].argmax() == 0  # the largest of all correlations, which greed would take
    assert matrix.max() == matrix[0, 0]
    assert result.details["assignment"] == [1, 0]
    assert result.score == pytest.approx((matrix[1, 0] + matrix[0, 1]) / 2, abs=1e-12)
    assert result.score > matrix.diagonal().mean()


def test_increasing_functions_are_of_ranks_alone(table):
    codes, factors = table("perfect")
    assert mcc(np.exp(5 * codes), factors, correlation="spearman").score == pytest.approx(1)
    assert mcc(np.exp(5 * codes), factors).score < 0.97


def test_constants_noise_and_missing_codes(table):
    codes, factors = table("perfect")
    assert mcc(np.full((len(factors), 5), 0.1), factors).score == 0
    padded = np.pad(codes, ((0, 0), (0, 3)), constant_values=0.1)
    assert mcc(padded, factors).score == pytest.approx(1, abs=1e-12)
    fewer = mcc(codes[:, [3, 1]], factors)
    assert fewer.score == pytest.approx(2 / 5, abs=1e-12)
    assert [fewer.details["assignment"][j] for j in (1, 3)] == [1, 0]
    assert fewer.details["by_factor"][0] < 1e-12
    assert mcc(np.random.default_rng(0).normal(size=(len(factors), 5)), factors).score < 0.15


def test_factors_far_from_zero_and_unknown_correlations(table):
    codes, factors = table("perfect")
    assert mcc(codes + 1e6, factors + 10**9).score == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match="correlation must be one of 'pearson', 'spearman', got"):
        mcc(codes, factors, correlation="kendall")
