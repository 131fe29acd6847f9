import threading

import numpy as np
import pytest
import torch

from pydisent import data, systems
from pydisent.training.batches import Batches
from pydisent.training.sampling import BatchSampler


class _Noted(data.ImageDataset):
    """Images of one pixel, its value their number; notes who asks for which."""

    def __init__(self):
        super().__init__("noted", (1, 1, 1), 20)
        self.asked, self.fail = [], False

    def _read(self, indices):
        self.asked.append((threading.current_thread() is threading.main_thread(), len(indices)))
        if self.fail:
            raise OSError("no such file")
        return torch.from_numpy(indices).float()[:, None, None, None]


@pytest.fixture
def batches():
    config = systems.preset("vae", "smoke", "sprites").config
    system = systems.build("vae", config, (1, 16, 16))
    return Batches(_Noted(), BatchSampler(20, 8, 3), system)


def test_batches_are_those_of_the_sampler_however_they_are_made(batches):
    expected = [BatchSampler(20, 8, 3)(step) for step in range(5)]
    alone = [batches(step)[0].flatten().long().tolist() for step in range(5)]
    assert alone == [list(e) for e in expected]
    assert all(main for main, _ in batches.dataset.asked)
    batches.dataset.asked.clear()
    with batches.working():
        ahead = [batches(step)[0].flatten().long().tolist() for step in range(5)]
        assert batches(2)[0].flatten().long().tolist() == alone[2]  # not the one that was made
    assert ahead == alone
    assert [main for main, _ in batches.dataset.asked].count(True) == 2


def test_half_of_the_images_are_mirrored_the_same_ones_at_each_call():
    plain = data.ArrayDataset("two columns", np.tile(np.uint8([0, 255]), (64, 1, 2, 1)))
    config = systems.preset("vae", "smoke", "sprites").config
    system = systems.build("vae", config, (1, 16, 16))
    sampler = BatchSampler(64, 64, 3)
    mirrored = []
    for step in range(30):
        (images,) = Batches(plain, sampler, system, mirror=True)(step)
        assert torch.equal(images, Batches(plain, BatchSampler(64, 64, 3), system, True)(step)[0])
        left = images[:, 0, :, 0]
        assert torch.equal(left, 1 - images[:, 0, :, 1])
        assert torch.equal(left[:, 0], left[:, 1])
        mirrored.append(left[:, 0])
    share = torch.stack(mirrored).mean(1)
    # 30 batches of 64 fair draws: a deviation of 4.5 standard errors.
    assert abs(share.mean() - 0.5) < 4.5 * 0.5 / (30 * 64) ** 0.5
    assert share.std() > 0.02


def test_an_error_is_raised_where_its_batch_is_needed(batches):
    with batches.working():
        batches(0)
        batches._ahead[1].result()
        batches.dataset.fail = True
        batches(1)
        with pytest.raises(OSError, match="no such file"):
            batches(2)


def test_attributes_come_along():
    faces = data.load("faces", image_size=16)
    preset = systems.preset("attribute-ae", "smoke", "faces")
    system = systems.build("attribute-ae", preset.config, faces.image_shape)
    images, attributes = Batches(faces, BatchSampler(len(faces), 4, 0), system)(0)
    numbers = torch.from_numpy(BatchSampler(len(faces), 4, 0)(0))
    assert torch.equal(images, faces.images(numbers))
    assert torch.equal(attributes == 1, faces.attributes[numbers])
