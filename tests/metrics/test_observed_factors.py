"""Metrics on images whose factors were observed, and draws from their rows."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from pydisent.data import ImageDataset, ObservedFactorDataset
from pydisent.metrics import (
    dci,
    encode_once,
    factor_vae_score,
    irs,
    mig,
    modularity,
    sample_codes,
    sap,
    z_diff,
)
from pydisent.metrics._rows import draw_from_rows
from pydisent.metrics._sampling import draw_sharing

POINTS = {"train_points": 1500, "test_points": 600, "pairs": 16}
VOTES = {"train_votes": 600, "eval_votes": 300}


class Table(ImageDataset):
    """Images of one row whose pixels are numbers of a table."""

    def __init__(self, numbers):
        super().__init__("table", (1, 1, numbers.shape[1]), len(numbers))
        self._numbers = torch.from_numpy(numbers).float()

    def _read(self, indices):
        return self._numbers[indices][:, None, None]


def observed(values, numbers=None):
    sizes = values.max(0) + 1
    numbers = values / (sizes - 1) if numbers is None else numbers
    names = [f"f{j}" for j in range(len(sizes))]
    meanings = [[str(v) for v in range(size)] for size in sizes]
    return ObservedFactorDataset(Table(numbers), values, names, meanings)


def flat(images):
    return images.flatten(1)


def rows(count, sizes=(3, 4, 5), seed=0):
    """Factors that are independent, each with values from rare to frequent."""
    rng = np.random.default_rng(seed)
    return np.stack(
        [rng.choice(s, count, p=np.arange(1, s + 1) / sum(range(s + 1))) for s in sizes], 1
    )


def test_draws_follow_the_rows():
    """v_k as in the rows, the others as in the rows with that v_k: first images are uniform."""
    values = rows(40)
    values[:3, 2] = 0
    data = observed(values)
    factor = np.full(40_000, 2)
    drawn = draw_sharing(data, factor, (3, 2), np.random.default_rng(1))
    assert (values[drawn, 2] == values[drawn[:, :1, :1], 2]).all()
    assert (drawn[..., 0] != drawn[..., 1]).all()
    for place in ((0, 0), (2, 1)):
        counts = np.bincount(drawn[:, *place], minlength=40)
        assert ((counts - 1000) ** 2 / 1000).sum() < chi2.ppf(1 - 1e-4, 39)
    # Two images of a pair are any two of their value: P(i, j) = 1 / (N (n - 1)).
    group = np.flatnonzero(values[:, 2] == 0)
    inside = drawn[np.isin(drawn[:, 0, 0], group), 0]
    pairs = np.bincount(np.searchsorted(group, inside) @ [len(group), 1], minlength=len(group) ** 2)
    expected = len(inside) / (len(group) * (len(group) - 1))
    apart = ~np.eye(len(group), dtype=bool).ravel()
    statistic = ((pairs - expected)[apart] ** 2 / expected).sum()
    assert statistic < chi2.ppf(1 - 1e-4, apart.sum() - 1)


def test_correlated_factors_stay_correlated():
    """The second factor equals the first in nine rows of ten, so also among what shares it."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2, 4000)
    values = np.stack([first, np.where(rng.random(4000) < 0.9, first, 1 - first)], 1)
    share = (values[:, 0] == values[:, 1]).mean()
    drawn = draw_sharing(observed(values), np.zeros(20_000, int), (8,), rng)
    found = values[drawn]
    assert (found[..., 0] == found[..., 1]).mean() == pytest.approx(share, abs=0.005)


def test_a_pool_is_kept_to_and_single_images_are_not_shared():
    values = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1], [3, 0]])
    pool = np.array([0, 1, 2, 3, 4], np.int32)  # one image alone has value 2
    drawn = draw_from_rows(
        pool, observed(values), np.zeros(500, int), (2,), np.random.default_rng(0)
    )
    assert drawn.dtype == np.int32
    assert set(drawn.ravel().tolist()) == {0, 1, 2, 3}
    with pytest.raises(
        ValueError, match="at least 2 values of 'f0' that several images have, got 1"
    ):
        draw_from_rows(pool[:3], observed(values), np.zeros(5, int), (2,), np.random.default_rng(0))


@pytest.mark.parametrize("variant", ["higgins", "ramesh", "kumar"])
def test_z_diff(variant):
    points = POINTS | {"train_points": 1600}
    data = observed(rows(900))
    result = z_diff(flat, data, variant=variant, **points)
    assert result.score > 0.95
    noise = observed(rows(900), np.random.default_rng(3).normal(size=(900, 3)))
    chance = z_diff(flat, noise, variant=variant, **points)
    assert chance.score == pytest.approx(1 / 3, abs=0.1)


def test_numbers_of_values_are_no_hint():
    """Few images share a value of one factor, many one of the other; codes know neither.

    Were an image paired with itself, which happens for every other pair of the first, the
    differences' size would give the factor away.
    """
    values = np.stack([np.arange(400) // 2, np.arange(400) % 2], 1)
    data = observed(values, np.random.default_rng(0).normal(size=(400, 2)))
    result = z_diff(flat, data, **(POINTS | {"pairs": 64}))
    assert result.score == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("variant", ["locatello", "zhu", "jeon"])
def test_factor_vae(variant):
    data = observed(rows(900))
    votes = {"train_votes": 600} if variant == "jeon" else VOTES
    assert factor_vae_score(flat, data, variant=variant, **votes).score > 0.98
    noise = observed(rows(900), np.random.default_rng(3).normal(size=(900, 3)))
    found = factor_vae_score(flat, noise, variant=variant, **votes).score
    assert found == pytest.approx(1 / 3, abs=0.12)


def test_an_encoding_is_shared_and_its_pool_kept():
    data = observed(rows(900))
    codes = encode_once(flat, data, max_images=300, seed=4)
    assert z_diff(codes.encode, codes, **POINTS).details["images_drawn_from"] == 300
    with pytest.raises(ValueError, match="indices must be of images that were encoded"):
        codes.codes(np.setdiff1d(np.arange(900), codes.pool)[:1])


def test_few_rows_are_split_and_not_drawn_twice():
    values = rows(90)
    numbers = np.arange(90.0)[:, None] / 90
    samples = sample_codes(flat, observed(values, numbers))
    assert (len(samples.codes), len(samples.test_codes)) == (60, 30)
    drawn = np.rint(np.concatenate([samples.codes, samples.test_codes])[:, 0] * 90).astype(int)
    assert sorted(drawn) == list(range(90))
    assert (np.concatenate([samples.factors, samples.test_factors]) == values[drawn]).all()
    assert len(sample_codes(flat, observed(rows(90)), train=50, test=20).codes) == 50
    with pytest.raises(ValueError, match="dataset must be of at least 3 images"):
        sample_codes(flat, observed(values[:2]))


def test_table_metrics_take_the_samples():
    pytest.importorskip("sklearn")
    samples = sample_codes(flat, observed(rows(900)))
    assert mig(*samples[:2]).score > 0.95
    assert modularity(*samples[:2]).score > 0.95
    assert dci(*samples).score > 0.95
    assert irs(*samples[:2]).score > 0.95
    chance = np.mean([1 / size for size in (3, 4, 5)])
    assert sap(*samples).score == pytest.approx(1 - chance, abs=0.06)


def test_a_factor_of_one_value_is_named():
    values = rows(60)
    values[:, 1] = 0
    data = ObservedFactorDataset(
        Table(values * 1.0), values, ["a", "b", "c"], [range(3), range(4), range(5)]
    )
    for metric in (z_diff, factor_vae_score):
        with pytest.raises(ValueError, match="at least 2 values of 'b'"):
            metric(flat, data)
