import math

import numpy as np
import pytest
import torch

from pydisent.metrics import mask_overlap


def rectangle(top, left, height, width, value=1.0, shape=(8, 12)):
    mask = np.zeros(shape)
    mask[top : top + height, left : left + width] = value
    return mask


def test_disjoint_rectangles_do_not_overlap():
    masks = np.stack([rectangle(0, 0, 4, 6), rectangle(4, 0, 4, 6), rectangle(0, 6, 8, 6)])[None]
    result = mask_overlap(masks)
    assert result.score == 0
    assert result.details["by_pair"] == np.eye(3).tolist()


def test_masks_that_differ_by_a_factor_are_the_same_region():
    """Masks begin small: a quarter squared at even gates; only their shape counts."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(5, 1, 8, 8, generator=generator, dtype=torch.float64)
    result = mask_overlap(torch.cat([mask, mask / 16, mask * 0.3], 1))
    assert result.score == pytest.approx(1, abs=1e-12)
    assert result.details["peak"][1] == pytest.approx(float(mask.amax((1, 2, 3)).mean()) / 16)


def test_rectangles_that_share_a_third():
    masks = np.stack([rectangle(0, 0, 4, 4), rectangle(0, 2, 4, 4)])[None]
    assert mask_overlap(masks).score == pytest.approx(8 / 24)


def test_samples_and_pairs_count_alike():
    same, other = rectangle(0, 0, 4, 4), rectangle(4, 4, 4, 4)
    masks = np.stack([np.stack([same, same, other]), np.stack([same, other, other])])
    # pairs (0, 1), (0, 2), (1, 2): means over the two samples 1/2, 0, 1/2
    result = mask_overlap(masks)
    assert result.score == pytest.approx(1 / 3)
    assert result.details["by_pair"][0] == [1, 0.5, 0]
    assert result.details["samples"] == 2


def test_soft_masks_against_the_definition():
    generator = np.random.default_rng(0)
    masks = generator.random((3, 4, 5, 7))
    scaled = masks / masks.max((2, 3), keepdims=True)
    expected = np.mean([
        sum(min(a, b) for a, b in zip(one.flat, two.flat))
        / sum(max(a, b) for a, b in zip(one.flat, two.flat))
        for sample in scaled
        for i, one in enumerate(sample)
        for two in sample[i + 1 :]
    ])  # fmt: skip
    assert mask_overlap(masks).score == pytest.approx(expected, rel=1e-12)


def test_place_of_a_rectangle():
    masks = np.stack([rectangle(2, 3, 4, 6, 0.25), rectangle(0, 0, 8, 1)])[None]
    details = mask_overlap(masks).details
    np.testing.assert_allclose(details["centre"], [[4 / 8, 6 / 12], [0.5, 0.5 / 12]])
    np.testing.assert_allclose(details["extent"], [[4 / 8, 6 / 12], [1, 1 / 12]])
    assert details["peak"] == [0.25, 1]


def test_empty_masks_overlap_with_none():
    empty = np.zeros((8, 12))
    masks = np.stack([np.stack([empty, empty, rectangle(0, 0, 2, 2)])] * 2)
    masks[1, 1] = rectangle(0, 0, 2, 2)
    result = mask_overlap(masks)
    assert result.score == pytest.approx(1 / 6)  # the last two, in one sample of two
    np.testing.assert_allclose(result.details["centre"][1], [1 / 8, 1 / 12])
    assert all(map(math.isnan, result.details["centre"][0] + result.details["extent"][0]))


def test_one_code_has_no_pair():
    result = mask_overlap(np.ones((2, 1, 4, 4)))
    assert math.isnan(result.score)
    assert result.details["extent"] == [[1, 1]]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.ones((2, 4, 4)), r"masks must be .*, got \(2, 4, 4\)"),
        (np.ones((0, 2, 4, 4)), r"masks must be .*, got \(0, 2, 4, 4\)"),
        (np.full((1, 1, 2, 2), 1.01), "masks must be finite and in"),
        (np.full((1, 1, 2, 2), np.nan), "masks must be finite and in"),
    ],
)
def test_arguments(masks, message):
    with pytest.raises(ValueError, match=message):
        mask_overlap(masks)
