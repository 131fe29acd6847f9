import numpy as np
import pytest
import torch

from pydisent.data import (
    ArrayDataset,
    ObservedFactorDataset,
    factors_of,
    has_factors,
    hold_out,
    load,
    with_attribute_factors,
)

NAMES, VALUES = ("shape", "size"), (("disc", "ring"), ("s", "m", "l"))


def plain(count=10, **options):
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(4, 2).repeat(4, 3)
    return ArrayDataset("plain", pixels, **options)


def table(count=10):
    return np.stack([np.arange(count) % 2, np.arange(count) % 3], 1)


def test_images_go_with_their_factors():
    dataset = ObservedFactorDataset(plain(), table(), NAMES, VALUES)
    assert (dataset.factor_sizes, len(dataset)) == ((2, 3), 10)
    image, known = dataset[7]
    assert image[0, 0, 0] * 255 == 7
    assert known.tolist() == [1, 1]
    assert dataset.factors([3, 0]).tolist() == [[1, 0], [0, 0]]
    with pytest.raises(ValueError, match=r"indices must be in \[0, 10\)"):
        dataset.factors([10])
    assert "observed in 10 images" in dataset.remark


def test_factors_stay_with_images_that_are_held_out():
    dataset = ObservedFactorDataset(
        plain(), table(), NAMES, VALUES, classes=["shape"], note="by hand"
    )
    parts = hold_out(dataset, 0.3)
    assert [len(part) for part in parts] == [7, 3]
    seen = []
    for part in parts:
        assert (part.factor_names, part.factor_sizes) == (NAMES, (2, 3))
        numbers = (part.images(range(len(part)))[:, 0, 0, 0] * 255).round().long()
        assert torch.equal(part.factors(range(len(part))), torch.from_numpy(table())[numbers])
        assert part.factor_classes == ("shape",)
        assert part.remark.endswith("; by hand")
        seen += numbers.tolist()
    assert sorted(seen) == list(range(10))


@pytest.mark.parametrize(
    ("values", "names", "meanings", "error", "words"),
    [
        (table() * 1.0, NAMES, VALUES, TypeError, "values must be integers"),
        (table(9), NAMES, VALUES, ValueError, r"values must be of shape \(10, 2\), one row per im"),
        (table() + 1, NAMES, VALUES, ValueError, r"values of 'shape' must be in \[0, 2\)"),
        (table(), ("a", "a"), VALUES, ValueError, "factor_names must be different names"),
        (table(), NAMES, VALUES[:1], ValueError, "factor_values must be of 2 factors, got 1"),
        (table(), NAMES, (2, 3), TypeError, "factor_values must be sequences of the meanings"),
        (table()[:, :0], (), (), ValueError, "factor_names must be different names, at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(values, names, meanings, error, words):
    with pytest.raises(error, match=words):
        ObservedFactorDataset(plain(), values, names, meanings)


def test_attributes_become_factors_of_two_values():
    dataset = plain()
    dataset.attributes = torch.arange(10)[:, None] < torch.tensor([3, 0, 6, 10])
    dataset.attribute_names = ("few", "none", "many", "all")
    found = with_attribute_factors(dataset)
    assert (found.factor_names, found.factor_sizes) == (("few", "many"), (2, 2))
    assert found.factor_values == (("no", "yes"),) * 2
    assert found.factor_classes == found.factor_names
    assert found.factors(range(10)).sum(0).tolist() == [3, 6]
    assert "none, all is the same in all images" in found.remark
    dataset.attributes = torch.ones(10, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="attributes that only some images have"):
        with_attribute_factors(dataset)
    with pytest.raises(ValueError, match="must have attributes, got 'plain'"):
        with_attribute_factors(plain())


def test_which_data_has_factors():
    faces, sprites, digits = (load(name) for name in ("faces", "sprites", "digits"))
    assert [has_factors(data) for data in (faces, sprites, digits)] == [True, True, False]
    assert factors_of(sprites) is sprites
    assert factors_of(faces).factor_names == faces.attribute_names
    numbers = [0, 17, 300]
    assert torch.equal(factors_of(faces).factors(numbers), faces.attributes[numbers].long())
    assert torch.equal(factors_of(faces).images(numbers), faces.images(numbers))
