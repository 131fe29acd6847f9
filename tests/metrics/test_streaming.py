"""How many images are alive at once does not depend on how many there are in all."""

import weakref

import numpy as np
import pytest
import torch

from pydisent.data import ArrayDataset
from pydisent.metrics import attribute_flips, class_swaps, fid, ppl, tpl, trained_classifier


class Alive:
    """Counts the images of tensors that exist, and the most that ever did."""

    def __init__(self):
        self.now = self.most = self.total = 0

    def watch(self, images):
        count = len(images)
        self.now += count
        self.total += count
        self.most = max(self.most, self.now)
        weakref.finalize(images, self._gone, count)
        return images

    def _gone(self, count):
        self.now -= count


class Watched(ArrayDataset):
    def __init__(self, count, alive):
        pixels = np.random.default_rng(0).integers(0, 256, (count, 1, 8, 8))
        labels = torch.arange(count) % 2
        super().__init__("watched", pixels.astype(np.uint8), labels=labels)
        self.attributes = torch.stack([labels == 0, labels == 1], 1)
        self.alive = alive

    def images(self, indices):
        return self.alive.watch(super().images(indices))


def encode(images):
    return images.flatten(1)[:, :4] - 0.5


def maker(alive):
    def decode(codes):
        shade = torch.sigmoid(codes[:, :4])[:, :, None, None]
        return alive.watch(shade.mean(1, keepdim=True).repeat(1, 1, 8, 8))

    return decode


def flips(count, alive):
    data = Watched(count, alive)
    classify = lambda images: images[:, 0, 0, :2] - 0.5
    attribute_flips(
        encode, maker(alive), data, classify, factors=[0, 1], validation=data, alphas=[1.0, 2.0],
        batch_size=32,
    )  # fmt: skip


def swaps(count, alive):
    data = Watched(count, alive)
    classify = lambda images: (images[:, 0, 0, 0] > 0.5).long()
    class_swaps(
        encode, maker(alive), data, data.labels, classify, factors=[0], pairs=count, batch_size=32
    )


def classifier(count, alive):
    data = Watched(count, alive)
    trained_classifier(data, data.labels, name="watched", updates=2)


def lengths(count, alive):
    tpl(maker(alive), torch.randn(count // 16, 4), batch_size=32)


def path_lengths(count, alive):
    ppl(maker(alive), lambda n: torch.randn(n, 4), pairs=count, batch_size=32)


def frechet(count, alive):
    decode, codes = maker(alive), torch.randn(count, 4)
    parts = lambda: (decode(part) for part in codes.split(32))
    fid(parts(), parts())


@pytest.mark.filterwarnings("ignore:FID of")
@pytest.mark.parametrize("metric", [flips, swaps, classifier, lengths, path_lengths, frechet])
def test_the_peak_does_not_grow(metric, monkeypatch):
    monkeypatch.setenv("PYDISENT_CACHE", "off")
    found = []
    # A digest of a classifier's images reads 1024 at a time.
    few, many = (2048, 5000) if metric is classifier else (96, 600)
    for count in (few, many):
        alive = Alive()
        metric(count, alive)
        assert alive.total > (3 if metric is not classifier else 1) * alive.most / 2
        found.append((alive.most, alive.total))
    assert found[0][0] == found[1][0]
    assert found[1][1] > 2 * found[0][1]


def test_data_sets_and_tensors_score_the_same(monkeypatch):
    monkeypatch.setenv("PYDISENT_CACHE", "off")
    alive = Alive()
    data = Watched(70, alive)
    whole = data.images(range(70))
    nets = [trained_classifier(x, data.labels, name="same", updates=3) for x in (data, whole)]
    for one, other in zip(nets[0].parameters(), nets[1].parameters()):
        assert torch.equal(one, other)
    classify = lambda images: images[:, 0, 0, :2] - 0.5
    first, second = (
        attribute_flips(encode, maker(alive), x, classify, factors=[0, 1], alpha=3.0, batch_size=32)
        for x in (data, whole)
    )
    assert first == second
