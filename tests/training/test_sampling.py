import numpy as np
import pytest

from pydisent.training.sampling import BatchSampler


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
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}; accepted: 1 to"):
        BatchSampler(10, batch_size, seed=0)
