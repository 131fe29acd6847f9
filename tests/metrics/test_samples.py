import numpy as np
import pytest
from scipy.stats import chi2

from pydisent.data import load
from pydisent.metrics import encode_once, factor_vae_score, sample_codes, z_diff
from pydisent.metrics._sampling import draw_pool, draw_sharing

QUICK = {
    z_diff: {"train_points": 300, "test_points": 200},
    factor_vae_score: {"train_votes": 300, "eval_votes": 200},
}


@pytest.mark.parametrize("metric", [z_diff, factor_vae_score])
@pytest.mark.parametrize("max_images", [None, 200])
def test_metrics_share_one_encoding(small_grid, make_grid, encoders, metric, max_images):
    codes = encode_once(encoders.entangled, small_grid, max_images=max_images, seed=3)
    assert sum(map(len, small_grid.reads)) == (max_images or 720)
    once = metric(codes.encode, codes, seed=3, **QUICK[metric])
    assert sum(map(len, small_grid.reads)) == (max_images or 720)
    alone = metric(
        encoders.entangled,
        make_grid(small_grid.factor_sizes),
        max_images=max_images,
        seed=3,
        **QUICK[metric],
    )
    assert once == alone
    assert once.details["images_drawn_from"] == (max_images or 720)
    assert once.details["images_encoded"] <= (max_images or 720)


def test_a_pool_is_a_uniform_part_of_the_grid(make_grid):
    grid = make_grid((4, 5, 6))
    seen = np.zeros(120)
    for seed in range(400):
        pool = draw_pool(grid, 30, seed)
        assert len(np.unique(pool)) == 30
        assert (np.diff(pool) > 0).all()
        seen[pool] += 1
    # Without replacement a count varies less than a Poisson one, by 1 − 30/120.
    assert ((seen - 100) ** 2 / 100).sum() / 0.75 < chi2.ppf(1 - 1e-4, 119)
    assert draw_pool(grid, 120, 0) is draw_pool(grid, None, 0) is None


def test_draws_stay_in_the_pool_and_share_their_factor(make_grid):
    grid = make_grid((3, 4, 5))
    pool = draw_pool(grid, 40, 0)
    factor = np.arange(6000) % 3
    drawn = draw_sharing(grid, factor, (2, 2), np.random.default_rng(0), pool)
    assert np.isin(drawn, pool).all()
    values = grid.factors(drawn.ravel()).numpy().reshape(6000, 4, 3)
    inside = grid.factors(pool).numpy()
    for shared in range(3):
        sets = values[factor == shared]
        assert (sets[:, :, shared] == sets[:, :1, shared]).all()
        # Each value is as likely, and so is each image of the pool that has it.
        size = grid.factor_sizes[shared]
        expected = np.zeros(60)
        for value in range(size):
            members = pool[inside[:, shared] == value]
            expected[members] = drawn[factor == shared][:, 0, 0].size / size / len(members)
        counts = np.bincount(drawn[factor == shared][:, 0, 0], minlength=60)
        statistic = ((counts - expected)[pool] ** 2 / expected[pool]).sum()
        assert statistic < chi2.ppf(1 - 1e-4, len(pool) - 1)


def test_too_small_a_pool_is_refused(small_grid, encoders):
    with pytest.raises(ValueError, match="max_images must leave an image of each factor's every"):
        factor_vae_score(encoders.perfect, small_grid, max_images=4)
    for max_images, error in ((0, ValueError), (2.5, TypeError)):
        with pytest.raises(error, match="max_images must be"):
            encode_once(encoders.perfect, small_grid, max_images=max_images)
    codes = encode_once(encoders.perfect, small_grid, max_images=400)
    with pytest.raises(ValueError, match="max_images must be None for a data set that is already"):
        z_diff(codes.encode, codes, max_images=10)
    lacking = np.setdiff1d(np.arange(720), codes.pool)[0]
    with pytest.raises(
        ValueError, match=f"indices must be of images that were encoded, got {lacking}"
    ):
        codes.codes([lacking])


def test_samples_are_codes_and_factors_of_the_same_images(grid, encoders):
    samples = sample_codes(encoders.perfect, grid, train=3000, test=1000, seed=5)
    sizes = np.array(grid.factor_sizes)
    np.testing.assert_allclose(samples.codes, samples.factors / (sizes - 1), atol=1e-6)
    np.testing.assert_allclose(samples.test_codes, samples.test_factors / (sizes - 1), atol=1e-6)
    assert (len(samples.codes), len(samples.test_codes)) == (3000, 1000)
    numbers = grid.index(np.concatenate([samples.factors, samples.test_factors]))
    assert len(np.unique(numbers)) == 4000
    again = sample_codes(encoders.perfect, grid, train=3000, test=1000, seed=5)
    assert all((a == b).all() for a, b in zip(samples, again))
    other = sample_codes(encoders.perfect, grid, train=3000, test=1000, seed=6)
    assert (samples.factors != other.factors).any()


def test_samples_of_an_encoded_pool(small_grid, encoders):
    codes = encode_once(encoders.perfect, small_grid, max_images=300)
    samples = sample_codes(codes.encode, codes, train=200, test=100)
    numbers = small_grid.index(np.concatenate([samples.factors, samples.test_factors])).numpy()
    assert sorted(numbers) == codes.pool.tolist()


def test_small_data_is_drawn_again_and_again(small_grid, encoders):
    samples = sample_codes(encoders.perfect, small_grid)
    assert (len(samples.codes), len(samples.test_codes)) == (10_000, 5_000)
    assert sum(map(len, small_grid.reads)) == 720


def test_only_data_with_factors(encoders):
    for draw in (encode_once, sample_codes):
        with pytest.raises(TypeError, match=r"dataset must be a FactorDataset.*got Digits"):
            draw(encoders.perfect, load("digits"))


def test_an_encoder_that_changes_its_size(small_grid):
    with pytest.raises(ValueError, match="codes of one size, got 3 for the first 64 images and 5"):
        encode_once(lambda x: x.flatten(1)[:, : 3 if x.sum() < 100 else 5], small_grid)
