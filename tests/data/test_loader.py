"""The data sets in torch's hands."""

import pickle

import numpy as np
import pytest
import torch
from _readers import READERS
from torch.utils.data import DataLoader, Dataset, random_split
from torch.utils.data import Subset as TorchSubset

from pydisent import data

# Of whole grids or 70,000 pictures, or scenes that take seconds to cast: as others are.
LARGE = ("dsprites", "color-dsprites", "noisy-dsprites", "scream-dsprites", "mpi3d", "cars3d")
LARGE += ("3dshapes", "shapes3d", "clevr-simple", "smallnorb", "ffhq")
NAMES = [name for name in data.names() if name not in LARGE]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Each data set, small."""
    kept = {}
    files = {"svhn": "svhn plain", "celeba": "celeba attributes", "images": "images png"}
    files["lsun"] = "images png"
    files |= {"chairs": "chairs", "chair-masks": "chairs", "mnist": "mnist images"}

    def open_(name):
        if name not in kept:
            folder = tmp_path_factory.mktemp("loader")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PYDISENT_CACHE", str(folder / "cache"))
                path = None
                if name in files:
                    path = folder / "files"
                    path.mkdir()
                    READERS[files[name]].write(path)
                kept[name] = data.load(name, path, image_size=8)
                kept[name].images([0])
        return kept[name]

    return open_


def known(dataset, numbers):
    """What is known of images, by the data sets' own names for it."""
    if isinstance(dataset, data.FactorDataset):
        return dataset.factors(numbers)
    if dataset.attributes is not None:
        return dataset.attributes[torch.as_tensor(numbers, dtype=torch.int64)]
    return (
        None
        if dataset.labels is None
        else dataset.labels[torch.as_tensor(numbers, dtype=torch.int64)]
    )


def assert_same(found, dataset, numbers):
    expected = dataset.images(numbers)
    if (of_each := known(dataset, numbers)) is None:
        assert torch.equal(found, expected)
        return
    assert isinstance(found, tuple | list)
    assert torch.equal(found[0], expected)
    assert torch.equal(found[1], of_each)
    assert found[1].dtype == of_each.dtype


@pytest.mark.parametrize("name", NAMES)
def test_items_are_images_and_what_is_known_of_them(opened, name):
    dataset = opened(name)
    assert isinstance(dataset, Dataset)
    last = len(dataset) - 1
    for index in (0, last, -1, -len(dataset), np.int64(last), np.uint8(0), torch.tensor(-1)):
        item = dataset[index]
        number = int(index) % len(dataset)
        batched = item[None] if torch.is_tensor(item) else tuple(part[None] for part in item)
        assert_same(batched, dataset, [number])
    assert_same(dataset[[last, -1, 0]], dataset, [last, last, 0])
    assert_same(dataset[np.array([0, -1])], dataset, [0, last])
    assert_same(dataset[:1], dataset, [0])
    assert_same(dataset[last:], dataset, [last])
    assert_same(dataset[:0], dataset, [])


@pytest.mark.parametrize("name", NAMES)
def test_a_loader_has_batches_of_both(opened, name):
    dataset = opened(name)
    few = TorchSubset(dataset, range(min(3, len(dataset))))
    batches = list(DataLoader(few, batch_size=2))
    for start, batch in zip(range(0, len(few), 2), batches):
        assert_same(batch, dataset, list(range(len(few)))[start : start + 2])
    assert_same(next(iter(DataLoader(dataset, batch_size=1))), dataset, [0])


@pytest.mark.parametrize("name", NAMES)
def test_copies_for_workers_are_the_same(opened, name):
    dataset = opened(name)
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(copy) == len(dataset)
    assert_same(copy[[0, -1]], dataset, [0, len(dataset) - 1])


def test_what_lies_in_the_cache_is_not_copied(tmp_path):
    READERS["images png"].write(tmp_path)
    dataset = data.load("images", tmp_path, image_size=512)
    dataset.images([0])
    assert len(pickle.dumps(dataset)) < 2000


def test_workers(opened):
    dataset = opened("digits")
    batches = list(DataLoader(TorchSubset(dataset, range(8)), batch_size=4, num_workers=1))
    for start, batch in zip((0, 4), batches):
        assert_same(batch, dataset, list(range(start, start + 4)))


def test_parts_know_what_the_whole_knows(opened):
    for name in ("sprites", "faces", "digits", "images"):
        dataset = opened(name)
        part = data.Subset(dataset, [0, 0])
        assert_same(part[:], dataset, [0, 0])
    digits = opened("digits")
    train, test = random_split(digits, [1000, 797], torch.Generator().manual_seed(0))
    assert sorted([*train.indices, *test.indices]) == list(range(len(digits)))
    assert_same(next(iter(DataLoader(train, batch_size=3))), digits, train.indices[:3])


def test_iteration_ends(opened):
    dataset = data.Subset(opened("digits"), range(5))
    assert len(list(dataset)) == 5


@pytest.mark.parametrize(
    ("index", "error", "words"),
    [
        (5, IndexError, r"index must be in \[-5, 5\), got values from 5 to 5"),
        (-6, IndexError, r"index must be in \[-5, 5\)"),
        ([0, 5], IndexError, r"index must be in \[-5, 5\), got values from 0 to 5"),
        (True, TypeError, "index must be integers, got bool"),
        (0.0, TypeError, "index must be integers, got float64"),
        ("0", TypeError, "index must be integers"),
        ([[0]], ValueError, r"indices must have shape \(N,\)"),
    ],
)
def test_other_indices(opened, index, error, words):
    with pytest.raises(error, match=words):
        data.Subset(opened("digits"), range(5))[index]
