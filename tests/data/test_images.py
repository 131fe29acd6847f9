import os

import numpy as np
import pytest
import torch
from _pictures import noise, save
from PIL import Image

from pydisent.data import load
from pydisent.data.images import picture_of


def means(pixels, side):
    """Area averages of (H, W, C) bytes for a side that divides them."""
    cell = pixels.shape[0] // side
    blocks = pixels.reshape(side, cell, side, cell, -1).astype(float)
    return blocks.mean((1, 3)).transpose(2, 0, 1) / 255


def test_pictures_are_found_below_the_folder_in_the_order_of_their_paths(tmp_path):
    for name in ("b.PNG", "a/z.bmp", "a/y.gif", "c/d/e.webp", ".hidden/x.png", "a/.x.png"):
        save(tmp_path / name, noise(8, 8))
    (tmp_path / "notes.txt").write_text("no picture")
    dataset = load("images", tmp_path, image_size=8)
    found = [str(file.relative_to(tmp_path)) for file in dataset.files]
    assert found == ["a/y.gif", "a/z.bmp", "b.PNG", "c/d/e.webp"]
    assert dataset.name == "images"
    assert dataset.image_shape == (3, 8, 8)
    assert dataset.attributes is None


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 80), (96, 65)])
def test_the_centred_square_is_averaged_over_areas(tmp_path, height, width):
    pixels = noise(height, width)
    save(tmp_path / "a.png", pixels)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side]
    image = load("images", tmp_path, image_size=side).images([0])[0]
    np.testing.assert_allclose(image.double() * 255, square.transpose(2, 0, 1), atol=1e-4)
    if side % 8 == 0:
        small = load("images", tmp_path, image_size=8).images([0])[0]
        # The cached pictures are bytes: half a level of rounding, and as much again for Pillow's
        # two passes.
        np.testing.assert_allclose(small.double(), means(square, 8), atol=1.01 / 255)


def test_64_pixels_by_default_and_flat_pictures_stay_flat_when_enlarged(tmp_path):
    save(tmp_path / "a.png", np.full((5, 7, 3), 51, np.uint8))
    dataset = load("images", tmp_path)
    torch.testing.assert_close(dataset.images([0, 0]), torch.full((2, 3, 64, 64), 0.2))
    assert dataset.images([]).shape == (0, 3, 64, 64)


def test_grey_transparent_and_turned_pictures_are_made_plain(tmp_path):
    grey = save(tmp_path / "grey.png", noise(8, 8, 1))
    clear = noise(8, 8)
    alpha = np.dstack([clear, np.where(np.arange(64).reshape(8, 8) % 2, 255, 0).astype(np.uint8)])
    save(tmp_path / "clear.png", alpha)
    turned = noise(8, 8)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(turned).save(tmp_path / "turned.png", exif=exif)
    images = load("images", tmp_path, image_size=8).images([0, 1, 2]).double() * 255
    on_white = np.where(alpha[..., 3:] > 0, clear, 255)
    expected = [on_white, np.asarray(Image.open(grey))[..., None].repeat(3, 2), turned[::-1, ::-1]]
    for image, pixels in zip(images, expected):
        np.testing.assert_allclose(image, pixels.transpose(2, 0, 1), atol=1e-4)


@pytest.mark.parametrize("damage", ["truncated", "text", "deep", "empty"])
@pytest.mark.parametrize("kept", [True, False])
def test_damaged_pictures_are_named_and_leave_nothing(tmp_path, cache, monkeypatch, damage, kept):
    if not kept:
        monkeypatch.setenv("PYDISENT_CACHE", "off")
    folder = tmp_path / "pictures"
    save(folder / "a.png", noise(40, 40))
    bad = save(folder / "b.png", noise(40, 40))
    if damage == "deep":
        Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(bad)
    else:
        whole = bad.read_bytes()
        bad.write_bytes(
            {"truncated": whole[:-2000], "text": b"not a picture", "empty": b""}[damage]
        )
    dataset = load("images", folder)
    deep = "picture of 8 bits a channel, got mode 'I;16'"
    said = deep if damage == "deep" else "whole picture"
    with pytest.raises(ValueError, match=r"b\.png' must be a " + said):
        dataset.images([0, 1])
    assert not cache.exists() or not list(cache.iterdir())


def test_decoded_pictures_are_kept_until_a_file_or_the_size_changes(tmp_path, cache, monkeypatch):
    import pydisent.data._pictures as pictures

    folder = tmp_path / "pictures"
    for number in range(3):
        save(folder / f"{number}.png", noise(16, 16, seed=number))
    decoded = []
    read = pictures.Preparation.read
    monkeypatch.setattr(
        pictures.Preparation, "read", lambda self, file: decoded.append(file) or read(self, file)
    )
    first = load("images", folder, image_size=8).images([2, 0])
    assert len(decoded) == 3
    assert [file.suffix for file in cache.iterdir()] == [".npy"]
    assert torch.equal(load("images", folder, image_size=8).images([2, 0]), first)
    assert len(decoded) == 3
    load("images", folder, image_size=4).images([0])
    assert len(decoded) == 6
    save(folder / "2.png", noise(20, 20, seed=7))
    again = load("images", folder, image_size=8).images([2, 0])
    assert len(decoded) == 9
    assert torch.equal(again[1], first[1])
    assert not torch.equal(again[0], first[0])


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:200],
        lambda whole: b"",
        lambda whole: whole[:-1],
        lambda whole: b"not an array",
        lambda whole: whole.replace(b"{'descr'", b"{'''scr'"),
        lambda whole: whole.replace(b"(2, 3, 8, 8)", b"(2, 3, 8, 4)"),
        lambda whole: whole.replace(b"|u1", b"|i1"),
    ],
)
def test_a_damaged_cache_is_made_again(tmp_path, cache, damage):
    for number in range(2):
        save(tmp_path / "pictures" / f"{number}.png", noise(16, 16, seed=number))
    kept = load("images", tmp_path / "pictures", image_size=8).images([0, 1])
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    assert damage(whole) != whole
    file.write_bytes(damage(whole))
    again = load("images", tmp_path / "pictures", image_size=8).images([0, 1])
    assert torch.equal(again, kept)
    assert list(cache.iterdir()) == [file]
    assert file.read_bytes() == whole


def test_a_folder_met_again_by_a_link_counts_once(tmp_path):
    save(tmp_path / "pictures" / "b" / "x.png", noise(8, 8))
    save(tmp_path / "elsewhere" / "y.png", noise(8, 8))
    for link, target in (
        ("b/loop", ".."),
        ("a", "b"),
        ("c", "../elsewhere"),
        ("d", "../elsewhere"),
    ):
        (tmp_path / "pictures" / link).symlink_to(target, target_is_directory=True)
    dataset = load("images", tmp_path / "pictures", image_size=8)
    found = [str(file.relative_to(tmp_path / "pictures")) for file in dataset.files]
    assert found == ["b/x.png", "c/y.png"]


def test_no_cache_and_a_cache_that_cannot_be_written_give_the_same_images(
    tmp_path, monkeypatch, caplog
):
    folder = tmp_path / "pictures"
    for number in range(3):
        save(folder / f"{number}.png", noise(16, 16, seed=number))
    kept = load("images", folder).images([2, 0, 2])
    (tmp_path / "file").write_text("in the way")
    for place in ("off", str(tmp_path / "file" / "cache")):
        monkeypatch.setenv("PYDISENT_CACHE", place)
        assert torch.equal(load("images", folder).images([2, 0, 2]), kept)
    assert "nothing kept in" in caplog.text


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(ValueError, match=r"has no pictures; expected a folder with pictures"):
        load("images", tmp_path)
    with pytest.raises(ValueError, match="image_size must be an integer >= 1"):
        load("images", tmp_path, image_size=0)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file' is a file; expected a folder with pictures"):
        load("images", tmp_path / "file")


@pytest.mark.parametrize("kept", [True, False])
def test_names_that_are_not_utf8(tmp_path, monkeypatch, kept):
    if not kept:
        monkeypatch.setenv("PYDISENT_CACHE", "off")
    folder = tmp_path / "pictures"
    save(folder / "a.png", noise(8, 8))
    name = os.fsencode(folder) + b"/caf\xe9.png"
    try:
        with open(name, "wb") as file:
            file.write((folder / "a.png").read_bytes())
    except OSError:
        pytest.skip("this file system has UTF-8 names alone")
    images = load("images", folder, image_size=8).images([0, 1])
    assert torch.equal(images[0], images[1])
    os.truncate(name, 20)
    with pytest.raises(ValueError, match=r"caf\\udce9\.png' must be a whole picture"):
        load("images", folder, image_size=8).images([0, 1])


def test_a_picture_is_what_its_name_says_of_formats_that_are_read(tmp_path):
    """Of Pillow's other formats some start programs; one named as another is still read."""
    save(tmp_path / "a.bmp", noise(8, 8)).rename(tmp_path / "a.png")
    assert load("images", tmp_path).images([0]).shape == (1, 3, 64, 64)
    save(tmp_path / "b.eps", noise(8, 8)).rename(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b\.png' must be a whole picture: it is of none of"):
        load("images", tmp_path).images([1])


def test_a_picture_of_bytes_is_as_one_of_a_file(tmp_path):
    pixels = noise(40, 24)
    stored = save(tmp_path / "a.png", pixels).read_bytes()
    (whole,) = load("images", tmp_path, image_size=8).images([0])
    assert torch.equal(picture_of(stored, 3, 8), whole)
    grey = pixels[8:32].astype(float) @ [0.299, 0.587, 0.114] / 255  # the square in the middle
    means = torch.from_numpy(grey.reshape(8, 3, 8, 3).mean((1, 3)))
    assert (picture_of(stored, 1, 8)[0] - means).abs().max() < 1.5 / 255
    with pytest.raises(ValueError, match="stored must be of at most 959 pixels, got 24x40"):
        picture_of(stored, 3, 8, most=959)
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 2"):
        picture_of(stored, 2, 8)
    with pytest.raises(ValueError, match="mine must be a whole picture"):
        picture_of(stored[:100], 3, 8, name="mine")
