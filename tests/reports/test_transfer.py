import numpy as np
import pytest
import torch
from _fake_runs import fake_run, tpl_scores
from PIL import Image

from pydisent.evaluation.codes import base_codes, dataset_images, decode
from pydisent.reports import write_transfer
from pydisent.reports.transfer import copied, draw_transfer


def test_only_the_given_coordinates_are_copied():
    generator = torch.Generator().manual_seed(0)
    sources = torch.randn(3, 5, generator=generator)
    attributes = torch.randn(2, 5, generator=generator)
    mixed = copied(sources, attributes, [4, 1])
    assert mixed.shape == (2, 3, 5)
    for a in range(2):
        for s in range(3):
            expected = [sources[s, 0], attributes[a, 1], sources[s, 2], sources[s, 3]]
            assert mixed[a, s].tolist() == [*expected, attributes[a, 4]]


def tiles(path, cell=112, gap=2):
    """The (row, column) pixels of a picture, found from its bottom right corner."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    height, width = pixels.shape[:2]

    def tile(up, left):
        bottom, right = height - 26 - up * (cell + gap), width - 26 - left * (cell + gap)
        return pixels[bottom - cell : bottom, right - cell : right]

    return tile


def shown(image):
    """An image (1, 8, 8) as 112 x 112 pixels."""
    grey = (image[0].clamp(0, 1) * 255).round().int().numpy()
    return np.kron(grey, np.ones((14, 14), int))[..., None].repeat(3, -1)


def test_the_grid_mixes_row_and_column(tmp_path):
    run = fake_run(tmp_path, scores=tpl_scores(0.1, 0.9, 0.2, 0.8))
    files = write_transfer(run, tmp_path / "out", sources=5, attributes=2, seed=4)
    assert [f.name for f in files] == ["transfer-z2.png", "transfer-z4.png", "transfer-z3.png"]
    codes = base_codes(run.system, 7, 4)
    mixed = codes[4].clone()
    mixed[1] = codes[6, 1]
    # The last row is of the last attribute, the last column of the last source.
    expected = shown(decode(run.system, mixed[None])[0])
    np.testing.assert_array_equal(tiles(files[0])(0, 0), expected)


def test_images_of_the_data_are_encoded(tmp_path):
    run = fake_run(tmp_path)
    asked = {"sources": 4, "attributes": 3, "origin": "data", "seed": 2}
    (path,) = write_transfer(run, coordinates=[("z1", 3)], **asked)
    assert path == tmp_path / "figures" / "transfer-z1-z4.png"
    images = dataset_images(run.dataset, 7, 2)
    tile = tiles(path)
    codes = run.system.encode(images)
    mixed = codes[3].clone()
    mixed[[0, 3]] = codes[6, [0, 3]]
    np.testing.assert_array_equal(tile(0, 0), shown(decode(run.system, mixed[None])[0].detach()))
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    for original in (images[3], images[6]):  # the source and the attribute, as they are
        expected = shown(original)[:, :, 0]
        windows = np.lib.stride_tricks.sliding_window_view(pixels[..., 0], (112, 112))
        first = np.argwhere(windows[..., 0, 0] == expected[0, 0])
        assert any((windows[y, x] == expected).all() for y, x in first)


def test_same_seed_same_bytes(tmp_path):
    run = fake_run(tmp_path)
    first = draw_transfer(run, coordinates=["z1"])
    assert first == draw_transfer(run, coordinates=["z1"])
    assert first != draw_transfer(run, coordinates=["z1"], seed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sources": 0}, "sources must be an integer >= 1, got 0"),
        ({"attributes": 0}, "attributes must be an integer >= 1, got 0"),
        ({"coordinates": []}, "coordinates must be at least one, or None, got none"),
        ({"coordinates": [[]]}, "coordinates must be at least one, or None, got none"),
        ({"coordinates": ["z5"]}, "coordinates must be .*, got 'z5'"),
        ({"origin": "mars"}, "origin must be one of 'prior', 'data', got 'mars'"),
        ({"origin": "data", "sources": 40}, "the data must have at least 44 images, got 40"),
    ],
)
def test_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        write_transfer(fake_run(tmp_path), **{"coordinates": ["z1"], **arguments})
    assert not (tmp_path / "figures").exists()
