import sys

import numpy as np
import pytest
import torch

from pydisent.data import load

io = pytest.importorskip("scipy.io")


def arrays(n=12, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (32, 32, 3, n), dtype=np.uint8)
    return {"X": images, "y": (np.arange(n, dtype=np.uint8)[:, None] % 10) + np.uint8(1)}


def write(folder, split="train", packed=False, **changes):
    content = {key: value for key, value in (arrays() | changes).items() if value is not None}
    io.savemat(folder / f"{split}_32x32.mat", content, do_compression=packed)
    return folder


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", [np.uint8, np.float64])
def test_images_and_labels(tmp_path, packed, kind):
    dataset = load("svhn", write(tmp_path, packed=packed, y=arrays()["y"].astype(kind)))
    assert (dataset.name, len(dataset), dataset.image_shape) == ("svhn", 12, (3, 32, 32))
    images = dataset.images([4, 0])
    assert images.dtype == torch.float32
    stored = arrays()["X"]
    for image, number in zip(images, (4, 0)):
        for channel in range(3):
            by_hand = stored[:, :, channel, number] / 255
            np.testing.assert_allclose(image[channel], by_hand, atol=1e-7)
    assert dataset.labels.dtype == torch.int64
    assert dataset.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]  # 10 means 0
    assert dataset.attributes is None


def test_splits(tmp_path):
    for count, split in enumerate(("train", "test", "extra"), 3):
        write(tmp_path, split, **arrays(count))
    lengths = [len(load("svhn", tmp_path, split=s)) for s in (None, "train", "test", "extra")]
    assert lengths == [3, 3, 4, 5]
    with pytest.raises(ValueError, match="split must be one of 'train', 'test', 'extra' or None"):
        load("svhn", tmp_path, split="all")


def test_half_size(tmp_path):
    images = load("svhn", write(tmp_path), image_size=16).images(range(12)).double()
    by_hand = arrays()["X"].reshape(16, 2, 16, 2, 3, 12).mean((1, 3)) / 255
    np.testing.assert_allclose(images, by_hand.transpose(3, 2, 0, 1), atol=1e-6)


def test_one_image_alone(tmp_path):
    one = arrays(1)
    dataset = load("svhn", write(tmp_path, X=one["X"][..., 0], y=one["y"]))
    assert dataset.images([0]).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"X": None}, r"lacks the array 'X' and has \['y'\]"),
        ({"y": None}, r"lacks the array 'y' and has \['X'\]"),
        ({"X": np.zeros((12, 32, 32, 3), np.uint8)}, r"X must be \(32, 32, 3, N\) .*\(12, 32, 32"),
        ({"X": arrays()["X"].astype(np.float32)}, "X must be .*got .*float32"),
        ({"X": np.zeros((32, 32), np.uint8)}, r"X must be .*got \(32, 32\)"),
        ({"X": arrays(11)["X"]}, r"y must be \(11, 1\), as X, got \(12, 1\)"),
        ({"y": arrays()["y"].T}, r"y must be \(12, 1\), as X, got \(1, 12\)"),
        ({"y": arrays()["y"] - 1}, r"y must be whole numbers from 1 to 10, got uint8 \[0, 1"),
        ({"y": arrays()["y"] + 1}, "y must be whole numbers from 1 to 10"),
        ({"y": arrays()["y"] + 0.5}, r"y must be whole .*float64 \[1.5"),
        ({"y": np.full((12, 1), np.nan)}, "y must be whole numbers"),
        ({"X": np.zeros((32, 32, 3, 0), np.uint8), "y": np.zeros((0, 1))}, "at least 1 image"),
    ],
)
def test_wrong_arrays(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words) as raised:
        load("svhn", write(tmp_path, **changes))
    assert "train_32x32.mat" in str(raised.value)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("keep", [0.0, 0.002, 0.5, 0.999])
def test_a_file_cut_short(tmp_path, keep, packed):
    file = write(tmp_path, packed=packed) / "train_32x32.mat"
    data = file.read_bytes()
    file.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ValueError, match=r"train_32x32\.mat' (is not a whole|lacks the array)"):
        load("svhn", tmp_path)


def test_not_such_a_file(tmp_path):
    (tmp_path / "train_32x32.mat").write_bytes(b"not a MATLAB file" * 100)
    with pytest.raises(ValueError, match=r"train_32x32\.mat' is not a whole MATLAB version 5 file"):
        load("svhn", tmp_path)


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"lacks train_32x32\.mat; expected a folder with"):
        load("svhn", tmp_path)
    write(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"lacks extra_32x32\.mat; expected"):
        load("svhn", tmp_path, split="extra")
    with pytest.raises(ValueError, match="is a file; expected a folder with SVHN's"):
        load("svhn", tmp_path / "train_32x32.mat")


def test_without_scipy(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ImportError, match=r"svhn needs the package scipy: pip install .*\[data\]"):
        load("svhn", tmp_path)
