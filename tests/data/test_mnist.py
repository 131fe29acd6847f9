import gzip

import numpy as np
import pytest
import torch

from pydisent.data import load


def idx(array, magic=None):
    header = [0x800 + array.ndim if magic is None else magic, *array.shape]
    return np.array(header, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def pictures(n=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), rng.integers(0, 10, n)


def write(folder, prefix="t10k", images=None, labels=None, suffix="", separator="-"):
    stored, numbers = pictures()
    for kind, axes, content in (
        ("images", 3, idx(stored) if images is None else images),
        ("labels", 1, idx(numbers) if labels is None else labels),
    ):
        file = folder / f"{prefix}-{kind}{separator}idx{axes}-ubyte{suffix}"
        file.write_bytes(gzip.compress(content) if suffix else content)
    return folder


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("separator", ["-", "."])
def test_plain_and_gzip_files(tmp_path, suffix, separator):
    dataset = load("mnist", write(tmp_path, suffix=suffix, separator=separator))
    images, labels = pictures()
    assert (dataset.name, len(dataset), dataset.image_shape) == ("mnist", 5, (1, 28, 28))
    np.testing.assert_allclose(dataset.images(range(5))[:, 0].double(), images / 255, atol=1e-7)
    assert dataset.labels.dtype == torch.int64
    np.testing.assert_array_equal(dataset.labels, labels)


def test_training_set_is_the_default_where_both_are(tmp_path):
    write(tmp_path)
    other, numbers = pictures(3, seed=1)
    write(tmp_path, "train", idx(other), idx(numbers))
    assert [len(load("mnist", tmp_path, split=s)) for s in (None, "train", "test")] == [3, 3, 5]


def test_32_is_padded_and_other_sizes_are_resized(tmp_path):
    images = pictures()[0] / 255
    padded = load("mnist", write(tmp_path), image_size=32)
    assert padded.image_shape == (1, 32, 32)
    expected = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    np.testing.assert_allclose(padded.images(range(5))[:, 0].double(), expected, atol=1e-7)
    half = load("mnist", tmp_path, image_size=14).images(range(5))[:, 0]
    expected = images.reshape(5, 14, 2, 14, 2).mean((2, 4))
    np.testing.assert_allclose(half.double(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": idx(pictures()[0], magic=2049)}, "images-.*magic number 2051.*got 2049"),
        ({"labels": idx(pictures()[1], magic=2051)}, "labels-.*magic number 2049.*got 2051"),
        ({"images": idx(pictures()[0])[:-1]}, r"must have 3936 bytes.*got 3935"),
        ({"images": idx(pictures()[0]) + b"x"}, r"must have 3936 bytes.*got 3937"),
        ({"labels": idx(pictures()[1])[:6]}, "labels-.*magic number 2049 and 1 sizes"),
        ({"images": idx(np.zeros((0, 28, 28)))}, "images-.*at least 1 image, got none"),
        ({"images": idx(np.zeros((0, 28, 28))), "labels": idx(np.zeros(0))}, "at least 1 image"),
        ({"images": b""}, "magic number 2051"),
        ({"labels": idx(np.zeros(4))}, "5 test images but 4 labels"),
        ({"labels": idx(np.full(5, 10))}, "labels must be 0 to 9, got 10"),
        ({"images": idx(np.zeros((5, 27, 28)))}, r"images must be 28x28, got \(27, 28\)"),
    ],
)
def test_malformed_files(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        load("mnist", write(tmp_path, **changes))


def test_truncated_gzip(tmp_path):
    write(tmp_path, suffix=".gz")
    file = tmp_path / "t10k-images-idx3-ubyte.gz"
    for damaged in (file.read_bytes()[:-50], file.read_bytes()[:-1] + b"x"):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"t10k-images.*not a whole gzip file"):
            load("mnist", tmp_path)


def test_missing_files(tmp_path):
    expected = "train-images-idx3-ubyte.*t10k-labels"
    with pytest.raises(FileNotFoundError, match=f"path .*lacks the test images.*{expected}"):
        load("mnist", tmp_path)
    write(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"path .*lacks the train images.*{expected}"):
        load("mnist", tmp_path, split="train")
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=f"path .*lacks the test labels.*{expected}"):
        load("mnist", tmp_path)


def test_a_file_is_no_folder(tmp_path):
    file = write(tmp_path) / "t10k-images-idx3-ubyte"
    with pytest.raises(ValueError, match=r"ubyte' is a file; expected a folder with MNIST"):
        load("mnist", file)


def test_bad_split(tmp_path):
    with pytest.raises(ValueError, match="split must be one of 'train', 'test' or None, got 'va"):
        load("mnist", write(tmp_path), split="valid")


def test_official_test_set(shared_file):
    dataset = load("mnist", shared_file("mnist"))
    assert len(dataset) == 10_000
    # The published counts of each digit in the test set, and the mean of its pixels.
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert torch.bincount(dataset.labels).tolist() == counts
    assert dataset.images(range(10_000)).mean().item() == pytest.approx(0.1325, abs=1e-4)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("below", ["MNIST/raw", "raw"])
def test_the_folders_of_torchvision(tmp_path, below, suffix):
    (tmp_path / below).mkdir(parents=True)
    write(tmp_path / below, suffix=suffix)
    assert torch.equal(
        load("mnist", tmp_path).images(range(5)), load("mnist", tmp_path / below).images(range(5))
    )
