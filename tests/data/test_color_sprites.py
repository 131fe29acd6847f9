import numpy as np
import pytest
import torch

from pydisent.data import load
from pydisent.data.color_sprites import ColorSprites
from pydisent.metrics._sampling import draw_sharing


@pytest.fixture(scope="module")
def colored():
    return load("color-sprites")


@pytest.fixture(scope="module")
def white():
    return load("sprites")


def test_grid(colored):
    assert colored.name == "color-sprites"
    assert colored.factor_names == ("color", "shape", "scale", "orientation", "x", "y")
    assert colored.factor_sizes == (512, 3, 6, 40, 32, 32)
    assert len(colored) == 377_487_360
    channels = ColorSprites(channels=True)
    assert channels.factor_names[:4] == ("red", "green", "blue", "shape")
    assert channels.factor_sizes[:4] == (8, 8, 8, 3)
    assert len(channels) == len(colored)


def test_every_pixel_is_the_sprites_in_the_colour_that_the_number_says(colored, white):
    """Python's integers and loops as the oracle of the index arithmetic."""
    numbers = np.random.default_rng(0).integers(0, len(colored), 64).tolist()
    numbers += [0, len(colored) - 1, 737_280 - 1, 737_280]
    images = colored.images(numbers)
    assert images.shape == (68, 3, 64, 64)
    for number, image in zip(numbers, images):
        color, sprite = divmod(number, 3 * 6 * 40 * 32 * 32)
        levels = [color // 64 / 7, color // 8 % 8 / 7, color % 8 / 7]
        for level, channel in zip(levels, image):
            torch.testing.assert_close(channel, level * white.images([sprite])[0, 0])


def test_colour_moves_only_the_colour_and_the_others_never_do(colored):
    """Of two images that differ in one factor, either the outline or the colour is the same."""
    rng = np.random.default_rng(1)
    for axis, name in enumerate(colored.factor_names):
        factors = colored.sample_factors(200, rng)
        factors[:, 0] = factors[:, 0].clamp(min=1)  # black hides the sprite
        moved = factors.clone()
        moved[:, axis] = (moved[:, axis] + 1) % colored.factor_sizes[axis]
        moved[:, 0] = moved[:, 0].clamp(min=1)
        before, after = (colored.images(colored.index(f)) for f in (factors, moved))
        outlines = [images.amax(1) > 0 for images in (before, after)]
        colours = [images.amax((2, 3)) for images in (before, after)]
        if name == "color":
            assert torch.equal(*outlines)
            assert (colours[0] != colours[1]).any(1).all()
        else:
            assert torch.equal(*colours)
            changed = (outlines[0] != outlines[1]).any((1, 2)).float().mean()
            # A square's quarter turn or a step to the same pixels may leave no trace.
            assert changed > 0.5


def test_each_channel_as_a_factor_moves_that_channel_alone():
    dataset = ColorSprites(channels=True, image_size=16)
    rng = np.random.default_rng(2)
    for channel in range(3):
        factors = dataset.sample_factors(50, rng)
        moved = factors.clone()
        moved[:, channel] = (moved[:, channel] + 1) % 8
        difference = dataset.images(dataset.index(factors)) - dataset.images(dataset.index(moved))
        changed = (difference != 0).flatten(2).any(2)
        assert changed[:, channel].all()
        assert changed.sum() == 50


def test_numbers_and_factors_are_inverses_up_to_the_end(colored):
    numbers = torch.from_numpy(np.random.default_rng(3).integers(0, len(colored), 10_000))
    numbers[-1] = len(colored) - 1
    assert torch.equal(colored.index(colored.factors(numbers)), numbers)
    with pytest.raises(ValueError, match=r"indices must be in \[0, 377487360\)"):
        colored.images([377_487_360])


def test_the_metrics_32_bit_numbers_hold_the_grid(colored):
    rng = np.random.default_rng(4)
    for axis in range(6):
        drawn = draw_sharing(colored, np.array([axis] * 300), (2,), rng)
        assert drawn.min() >= 0
        factors = colored.factors(drawn.astype(np.int64).ravel()).reshape(300, 2, 6)
        assert torch.equal(factors[:, 0, axis], factors[:, 1, axis])
        others = [other for other in range(6) if other != axis]
        assert (factors[:, 0, others] != factors[:, 1, others]).any(0).all()


def test_half_size_is_the_area_average(colored):
    numbers = np.random.default_rng(5).integers(0, len(colored), 20)
    half = load("color-sprites", image_size=32)
    assert half.image_shape == (3, 32, 32)
    by_hand = colored.images(numbers).reshape(20, 3, 32, 2, 32, 2).mean((3, 5))
    torch.testing.assert_close(half.images(numbers), by_hand)
    assert half.images([]).shape == (0, 3, 32, 32)
