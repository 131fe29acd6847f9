import io
import pickle

import numpy as np
import pytest
import torch
from _pictures import noise, save
from PIL import Image

from pydisent.data import load

KEYS = [b"zz", b"0a", b"a0", b"Z", b"10"]


def stored(number, kind="WEBP"):
    """A picture as LSUN has them, but lossless, wider than high."""
    data = io.BytesIO()
    Image.fromarray(noise(16, 20, seed=number)).save(data, kind, lossless=True)
    return data.getvalue()


@pytest.fixture
def lmdb():
    return pytest.importorskip("lmdb")


@pytest.fixture
def folder(lmdb, tmp_path):
    """Written in another order than that of the keys."""
    place = tmp_path / "bedroom_train_lmdb"
    with lmdb.open(str(place), map_size=2**20) as made, made.begin(write=True) as transaction:
        for number, key in enumerate(KEYS):
            transaction.put(key, stored(number))
    return place


def by_hand(number, left=2):
    square = noise(16, 20, seed=number)[:, left : left + 16]
    return torch.from_numpy(square.transpose(2, 0, 1) / 255)


@pytest.mark.parametrize("kept", [True, False])
def test_pictures_are_in_the_order_of_their_keys(folder, cache, monkeypatch, kept):
    if not kept:
        monkeypatch.setenv("PYDISENT_CACHE", "off")
    dataset = load("lsun", folder, image_size=16)
    assert (dataset.name, len(dataset), dataset.image_shape) == ("lsun", 5, (3, 16, 16))
    assert dataset.keys == (b"0a", b"10", b"Z", b"a0", b"zz")
    images = dataset.images([4, 0, 1, 0])
    for image, number in zip(images, (0, 1, 4, 1)):
        torch.testing.assert_close(image.double(), by_hand(number), atol=1e-6, rtol=0)
    assert len(list(cache.glob("lsun-*"))) == int(kept)
    again = load("lsun", folder, image_size=16)  # both are open
    assert torch.equal(again.images([4, 0, 1, 0]), images)
    assert torch.equal(pickle.loads(pickle.dumps(dataset)).images([4, 0, 1, 0]), images)
    assert load("lsun", folder).image_shape == (3, 64, 64)


def test_a_folder_of_pictures(tmp_path):
    for number in range(3):
        save(tmp_path / f"{2 - number}" / "a.png", noise(16, 20, seed=number))
    dataset = load("lsun", tmp_path, image_size=16)
    assert (dataset.name, len(dataset)) == ("lsun", 3)
    torch.testing.assert_close(dataset.images([2])[0].double(), by_hand(0), atol=1e-6, rtol=0)


def test_a_damaged_picture_is_named(lmdb, tmp_path, monkeypatch):
    with lmdb.open(str(tmp_path / "x"), map_size=2**20) as made, made.begin(write=True) as one:
        one.put(b"good", stored(0))
        one.put(b"half", stored(1)[:90])
    for setting in ("on", "off"):
        if setting == "off":
            monkeypatch.setenv("PYDISENT_CACHE", "off")
        with pytest.raises(ValueError, match=r"data\.mdb' key 'half' must be a whole picture"):
            load("lsun", tmp_path / "x").images([1])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda whole: b"", "must be an LMDB of a 64-bit machine, got another file"),
        (lambda whole: whole[:20], "is not a whole LMDB"),
        (lambda whole: whole[: len(whole) // 2], "is cut short: it must have"),
        (lambda whole: bytes(len(whole)), "must be an LMDB of a 64-bit machine"),
        (lambda whole: np.random.default_rng(0).bytes(len(whole)), "must be an LMDB of a 64-bit"),
    ],
)
def test_damaged_files(folder, damage, words):
    file = folder / "data.mdb"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=rf"data\.mdb' {words}"):
        load("lsun", folder)


def test_what_is_missing_is_named(lmdb, tmp_path):
    with pytest.raises(
        ValueError, match="path must be given: the LMDB folder of a category of LSUN"
    ):
        load("lsun")
    with pytest.raises(FileNotFoundError, match="does not exist; expected the LMDB folder"):
        load("lsun", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no pictures; expected the LMDB folder"):
        load("lsun", tmp_path)
    (tmp_path / "data.mdb").mkdir()
    with pytest.raises(ValueError, match=r"data\.mdb' is a folder; expected the LMDB folder"):
        load("lsun", tmp_path)
    lmdb.open(str(tmp_path / "none"), map_size=2**20).close()
    with pytest.raises(ValueError, match=r"data\.mdb' must be of at least 1 picture, got none"):
        load("lsun", tmp_path / "none")
