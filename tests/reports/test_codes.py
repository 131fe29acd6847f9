import io

import numpy as np
import pytest
import torch
from _fake_runs import fake_run
from PIL import Image

from pydisent.reports.codes import animate_codes, draw_codes

CODES = torch.tensor([[1.0, -2.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0], [-1.0, 2.0, 1.0, 3.0]])


@pytest.fixture
def runs(tmp_path):
    one = {"image_shape": (1, 16, 16)}
    return [fake_run(tmp_path / "a", **one), fake_run(tmp_path / "b", (0.1, 0.2, 0.3, 0.4), **one)]


def places_of(picture, image):
    """Where an image (H, W) is in a picture, each pixel of it a square of one colour."""
    grey = np.asarray(picture.convert("L")).astype(int)
    side = image.shape[0]
    found = []
    for scale in range(1, 20):
        tall, wide = side * scale, side * scale
        for y, x in np.argwhere(grey == image[0, 0]):
            sampled = grey[y : y + tall : scale, x : x + wide : scale]
            if sampled.shape == image.shape and (sampled == image).all():
                found.append((y // tall, x // wide))
    return set(found)


def test_codes_are_rows_and_runs_columns(runs):
    with Image.open(io.BytesIO(draw_codes(runs, CODES, ["one", "two\nlines", "x"]))) as picture:
        places = []
        for run in runs:
            for decoded in run.system.decode(CODES)[::2, 0].detach().clamp(0, 1):
                places += [places_of(picture, (decoded * 255).round().int().numpy())]
    assert all(places)
    top = [{y for y, _ in place} for place in places]
    left = [{x for _, x in place} for place in places]
    assert top[0] == top[2] != top[1] == top[3]
    assert left[0] == left[1] != left[2] == left[3]


def test_animation_goes_there_and_back(runs):
    data = animate_codes(runs, CODES, ["a", "b", "c"], "three codes")
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.n_frames == 4
        frames = []
        for number in range(4):
            picture.seek(number)
            frames.append(np.asarray(picture.convert("RGB")))
    assert np.array_equal(frames[1], frames[3])
    assert not np.array_equal(frames[0], frames[2])


def test_what_does_not_fit_is_refused(runs, tmp_path):
    with pytest.raises(ValueError, match="codes must be at least one, got none"):
        draw_codes(runs, CODES[:0], [])
    with pytest.raises(ValueError, match="names must be one for each of 3 codes, got 1"):
        draw_codes(runs, CODES, ["a"])
    other = fake_run(tmp_path / "c", image_shape=(1, 4, 4))
    with pytest.raises(ValueError, match="runs must be of images of one shape"):
        animate_codes([runs[0], other], CODES, ["a"] * 3, "")
