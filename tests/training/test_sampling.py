import numpy as np
import pytest

from pydisent.training.sampling import BatchSampler, Shuffle


def test_an_epoch_visits_every_image_once():
    sampler = BatchSampler(12, 4, seed=3)
    epochs = [np.concatenate([sampler(3 * e + i) for i in range(3)]) for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert not np.array_equal(epochs[0], epochs[1])


def test_a_batch_depends_on_seed_and_step_alone():
    sampler = BatchSampler(10, 3, seed=1)
    forward = [sampler(step).tolist() for step in range(9)]
    for step in (8, 0, 4):
        assert BatchSampler(10, 3, seed=1)(step).tolist() == forward[step]
        assert sampler(step).tolist() == forward[step]
    assert [BatchSampler(10, 3, seed=2)(step).tolist() for step in range(9)] != forward


@pytest.mark.parametrize("batch_size", [0, 11])
def test_bad_batch_size(batch_size):
    with pytest.raises(ValueError, match=f"batch_size must be .* from 1 to .*, got {batch_size}"):
        BatchSampler(10, batch_size, seed=0)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 65, 1000, 4097])
def test_an_order_that_is_not_stored_is_an_order(size):
    order = Shuffle(size, np.random.default_rng(0))
    whole = order[0:size]
    assert whole.dtype == np.int64
    assert sorted(whole) == list(range(size))
    assert np.array_equal(np.concatenate([order[0 : size // 3], order[size // 3 : size]]), whole)


def test_an_order_that_is_not_stored_looks_random():
    """Neighbours, digits and places are as independent as a chi-square test of 1 % can tell."""
    size = 30_000
    whole = Shuffle(size, np.random.default_rng(1))[0:size]
    place, number = np.arange(size) * 10 // size, whole * 10 // size
    for first, second in ((place, number), (number[:-1], number[1:]), (place, whole % 10)):
        table = np.zeros((10, 10))
        np.add.at(table, (first, second), 1)
        expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
        assert ((table - expected) ** 2 / expected).sum() < 113.5  # 81 degrees of freedom
    assert not np.array_equal(whole, Shuffle(size, np.random.default_rng(2))[0:size])


def test_hundreds_of_millions_of_images_are_shuffled_without_storing_them():
    size = 377_487_360
    sampler = BatchSampler(size, 64, seed=5)
    batches = np.stack([sampler(step) for step in range(500)])
    assert batches.min() >= 0
    assert batches.max() < size
    assert len(np.unique(batches)) == batches.size
    assert abs(batches.mean() / size - 0.5) < 4 / (12 * batches.size) ** 0.5
    assert np.array_equal(BatchSampler(size, 64, seed=5)(499), batches[-1])
    assert not np.array_equal(BatchSampler(size, 64, seed=6)(0), batches[0])
    assert not np.array_equal(sampler(size // 64), batches[0])  # the next epoch
