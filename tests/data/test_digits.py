import numpy as np
import pytest
import torch

from pydisent.data import load

sklearn_datasets = pytest.importorskip("sklearn.datasets")


def test_images_and_labels_are_those_of_scikit_learn():
    official = sklearn_datasets.load_digits()
    dataset = load("digits")
    assert (dataset.name, dataset.image_shape, len(dataset)) == ("digits", (1, 8, 8), 1797)
    images = dataset.images(range(1797))
    np.testing.assert_allclose(images[:, 0], official.images / 16, atol=1e-7)
    np.testing.assert_array_equal(dataset.labels, official.target)
    assert dataset.labels.dtype == torch.int64


@pytest.mark.parametrize("side", [4, 16, 32])
def test_resized(side):
    images = load("digits", image_size=side).images(range(100))
    assert images.shape == (100, 1, side, side)
    assert 0 <= images.min() < images.max() <= 1
    # Neither area averages nor bilinear enlargement by a whole factor move much of the ink.
    native = load("digits").images(range(100)).mean((1, 2, 3))
    torch.testing.assert_close(images.mean((1, 2, 3)), native, rtol=0, atol=0.02)
