import numpy as np
import pytest
from scipy.stats import chi2

from pydisent._checks import check_counts
from pydisent.metrics._sampling import check_factor_dataset, draw_sharing


@pytest.mark.parametrize("sizes", [(3, 4, 5, 2, 6), (2, 7), (1, 3, 1)])
def test_each_set_shares_its_factor_alone_and_all_is_uniform(make_grid, sizes):
    grid = make_grid(sizes)
    factor = np.arange(4000) % len(sizes)
    drawn = draw_sharing(grid, factor, (3, 2), np.random.default_rng(0))
    assert drawn.shape == (4000, 3, 2)
    values = grid.factors(drawn.ravel()).numpy().reshape(4000, 6, len(sizes))
    for shared in range(len(sizes)):
        sets = values[factor == shared]
        assert (sets[:, :, shared] == sets[:, :1, shared]).all()
        for other, size in enumerate(sizes):
            seen = sets[:, 0, other] if other == shared else sets[:, :, other].ravel()
            expected = len(seen) / size
            statistic = ((np.bincount(seen, minlength=size) - expected) ** 2 / expected).sum()
            assert statistic <= chi2.ppf(1 - 1e-4, max(size - 1, 1))
        if len(sizes) > 2 and shared:  # two images of a set agree no more often than by chance
            agree = (sets[:, 0, 0] == sets[:, 1, 0]).mean()
            assert abs(agree - 1 / sizes[0]) < 4 * 0.5 / len(sets) ** 0.5


def test_pairs_of_unshared_factors_are_independent(make_grid):
    grid = make_grid((2, 3, 2))
    drawn = draw_sharing(grid, np.ones(30_000, int), (1,), np.random.default_rng(1))
    counts = np.bincount(drawn.ravel(), minlength=12)
    assert ((counts - 2500) ** 2 / 2500).sum() < chi2.ppf(1 - 1e-4, 11)


def test_only_factor_datasets():
    with pytest.raises(TypeError, match=r"dataset must be a FactorDataset.*got list"):
        check_factor_dataset([])


@pytest.mark.parametrize(("count", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)])
def test_counts(count, error):
    with pytest.raises(error, match="pairs must be"):
        check_counts(pairs=count)
