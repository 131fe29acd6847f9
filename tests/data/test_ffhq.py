import numpy as np
import pytest
from _pictures import noise, save

from pydisent.data import ffhq, load


@pytest.fixture
def faces(tmp_path, monkeypatch):
    """Three pictures in the official folders of a thousand, out of order."""
    monkeypatch.setattr(ffhq, "COUNT", 3)
    for number in (1001, 2, 1):
        save(
            tmp_path / f"{number // 1000 * 1000:05}" / f"{number:05}.png", noise(8, 8, seed=number)
        )
    return tmp_path


def test_pictures_are_in_the_order_of_their_numbers(faces):
    dataset = load("ffhq", faces, image_size=8)
    assert dataset.name == "ffhq"
    assert dataset.image_shape == (3, 8, 8)
    for image, number in zip(dataset.images([0, 1, 2]), (1, 2, 1001)):
        by_hand = noise(8, 8, seed=number).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(image.double(), by_hand, atol=1e-6)


def test_a_part_has_to_be_asked_for(faces):
    (faces / "00000" / "00002.png").unlink()
    with pytest.raises(ValueError, match=r"path must be FFHQ's .*\(--partial\).*got 2 pictures"):
        load("ffhq", faces)
    assert len(load("ffhq", faces, partial=True)) == 2


def test_other_pictures_are_refused(faces):
    save(faces / "dog.png", noise(8, 8))
    with pytest.raises(ValueError, match=r"path must be FFHQ's .*got the picture '.*dog.png'"):
        load("ffhq", faces, partial=True)
    (faces / "dog.png").rename(faces / "00001.png")
    with pytest.raises(ValueError, match="once each, got 4 of 3"):
        load("ffhq", faces, partial=True)
