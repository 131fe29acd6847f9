import shutil

import numpy as np
import pytest
import torch
from _pictures import noise, save
from scipy.stats import chi2
from test_dsprites import COUNT, SIZES, arrays, write

from pydisent.data import load
from pydisent.data.dsprites_variants import FILE, ColorDSprites, NoisyDSprites, ScreamDSprites

VARIANTS = (ColorDSprites, NoisyDSprites, ScreamDSprites)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("dsprites")
    write(place / FILE, metadata=None)
    save(place / "scream.png", noise(274, 350))
    return place


def sprites(numbers):
    return torch.from_numpy(arrays()["imgs"][numbers]).bool()[:, None].expand(-1, 3, -1, -1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_image_depends_on_its_number_alone(folder, variant):
    dataset = variant(folder, factor_sizes=SIZES)
    assert (len(dataset), dataset.image_shape) == (COUNT, (3, 64, 64))
    assert dataset.name == variant.variant
    images = dataset.images([5, 300, 5])
    assert images.dtype == torch.float32
    assert torch.equal(images[0], images[2])
    assert torch.equal(images[1:2], variant(folder, factor_sizes=SIZES).images([300]))
    other = variant(folder, factor_sizes=SIZES, seed=1).images([5])
    assert not torch.equal(other[0], images[0])
    assert 0 <= images.min() < images.max() <= 1
    assert dataset.images([]).shape == (0, 3, 64, 64)
    small = variant(folder, factor_sizes=SIZES, image_size=32).images([5])
    by_hand = images[:1].reshape(1, 3, 32, 2, 32, 2).mean((3, 5))
    torch.testing.assert_close(small, by_hand)


def test_colours(folder):
    images = ColorDSprites(folder, factor_sizes=SIZES).images(range(COUNT))
    inside = sprites(range(COUNT))
    assert (images[~inside] == 0).all()
    colour = images.amax((2, 3))
    assert torch.equal(images, torch.where(inside, colour[:, :, None, None], 0.0))
    assert ((colour >= 0.5) & (colour < 1)).all()
    counts = np.histogram(colour, 10, (0.5, 1))[0]
    assert ((counts - 108) ** 2 / 108).sum() < chi2.ppf(1 - 1e-4, 9)
    assert len(torch.unique(colour, dim=0)) == COUNT


def test_noise(folder):
    images = NoisyDSprites(folder, factor_sizes=SIZES).images(range(300))  # in two pieces
    inside = sprites(range(300))
    assert (images[inside] == 1).all()
    outside = images[~inside]
    counts = np.histogram(outside, 20, (0, 1))[0]
    expected = len(outside) / 20
    assert ((counts - expected) ** 2 / expected).sum() < chi2.ppf(1 - 1e-4, 19)
    # Neither pixels, channels nor images repeat.
    assert len(outside.unique()) > 0.9 * len(outside)


def test_the_scream(folder):
    """Undone: twice the background less the picture is one colour for all of an image."""
    dataset = ScreamDSprites(folder, factor_sizes=SIZES)
    picture = torch.from_numpy(noise(274, 350).transpose(2, 0, 1) / 255).float()
    windows = picture.unfold(1, 64, 1).unfold(2, 64, 1)  # (3, 211, 287, 64, 64)
    numbers = range(6)
    found = set()
    for image, inside in zip(dataset.images(numbers), sprites(numbers)):
        background = torch.where(inside, 1 - image, image)
        rest = 2 * background[:, None, None, :2, :2] - windows[..., :2, :2]
        spread = rest.amax((-1, -2)) - rest.amin((-1, -2))
        place = divmod(int(spread.amax(0).argmin()), windows.shape[2])
        colour = 2 * background - windows[:, place[0], place[1]]
        torch.testing.assert_close(colour, colour[:, :1, :1].expand_as(colour), atol=1e-5, rtol=0)
        assert ((colour > -1e-5) & (colour < 1 + 1e-5)).all()
        found.add(place)
    assert len(found) == 6


def test_a_large_painting_is_made_to_fit(folder, tmp_path):
    shutil.copy(folder / FILE, tmp_path / FILE)
    save(tmp_path / "scream.png", noise(1000, 700))
    dataset = ScreamDSprites(tmp_path, factor_sizes=SIZES)
    assert dataset._picture.shape == (3, 274, 192)
    save(tmp_path / "scream.png", noise(64, 300))
    with pytest.raises(
        ValueError, match=r"scream\.png' must be of more than 64 pixels to a side, m"
    ):
        ScreamDSprites(tmp_path, factor_sizes=SIZES)
    (tmp_path / "scream.png").write_text("a scream")
    with pytest.raises(ValueError, match=r"scream\.png' must be a whole picture"):
        ScreamDSprites(tmp_path, factor_sizes=SIZES)


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(
        ValueError, match=r"path must be given: a folder with dsprites_ndarray.*Scream"
    ):
        load("scream-dsprites")
    with pytest.raises(FileNotFoundError, match=r"lacks scream\.jpg; expected a folder with d"):
        load("scream-dsprites", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"64x64\.npz' does not exist; expected the o"):
        load("color-dsprites", tmp_path)
    words = r"latents_classes must be \(737280, 6\)"
    for name in ("color-dsprites", "noisy-dsprites", "scream-dsprites"):
        with pytest.raises(ValueError, match=words):
            load(name, folder)
    with pytest.raises(ValueError, match=words):
        load("noisy-dsprites", folder / FILE)
    with pytest.raises(ValueError, match="seed must be an integer >= 0, got -1"):
        ColorDSprites(folder, factor_sizes=SIZES, seed=-1)
