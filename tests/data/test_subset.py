import numpy as np
import pytest
import torch

from pydisent import data


def digits():
    return data.load("digits")


def test_a_subset_has_the_images_and_labels_of_its_numbers():
    whole = digits()
    part = data.Subset(whole, [5, 3, 5])
    assert len(part) == 3
    assert torch.equal(part.images([0, 2, 1]), whole.images([5, 5, 3]))
    assert torch.equal(part.labels, whole.labels[[5, 3, 5]])
    assert part.attributes is None
    assert part.name == whole.name
    assert part.image_shape == whole.image_shape
    with pytest.raises(ValueError, match="indices must be in"):
        data.Subset(whole, [len(whole)])
    with pytest.raises(ValueError, match=r"indices must be in \[0, 3\)"):
        part.images([3])


def test_attributes_come_along():
    whole = data.load("faces", image_size=16)
    part = data.Subset(whole, np.array([7, 1]))
    assert torch.equal(part.attributes, whole.attributes[[7, 1]])
    assert part.attribute_names == whole.attribute_names


def test_holding_out():
    whole = digits()
    train, test = data.hold_out(whole, 0.2)
    assert (len(train), len(test)) == (1438, 359)
    rows = np.concatenate([train._rows, test._rows])
    assert np.array_equal(np.sort(rows), np.arange(len(whole)))
    again = data.hold_out(digits(), 0.2)[1]
    assert np.array_equal(again._rows, test._rows)
    counts = torch.bincount(test.labels, minlength=10)
    assert counts.min() > 20  # random, not the end of a sorted file
    assert data.hold_out(whole, 0) == (whole, None)


def test_a_grid_of_factors_stays_whole():
    sprites = data.load("sprites", image_size=8)
    assert data.hold_out(sprites, 0.2) == (sprites, None)


def test_the_official_test_part(tmp_path):
    test = data.load_test("faces", image_size=16)
    assert len(test) == 1000
    assert torch.equal(
        test.images([0]), data.load("faces", image_size=16, split="test").images([0])
    )
    assert data.load_test("digits") is None
    assert data.load_test("sprites") is None


@pytest.mark.parametrize("share", [-0.1, 1.0, 1e-9, 0.9999])
def test_shares_that_leave_nothing(share):
    with pytest.raises(ValueError, match="share must"):
        data.hold_out(digits(), share)
