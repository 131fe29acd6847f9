import gzip
import struct
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from pydisent.data import ObservedFactorDataset, load, load_test
from pydisent.data._registry import SOURCES
from pydisent.data.smallnorb import PARTS, SmallNORB

SIZES = (2, 3, 2, 4, 2)  # categories, toys, elevations, azimuths, lightings
COUNT = 96


def matrix(array):
    """A binary matrix as its authors wrote it."""
    magic = {np.dtype("u1"): 0x1E3D4C55, np.dtype("<i4"): 0x1E3D4C54}[array.dtype]
    sizes = (*array.shape, *(1 for _ in range(3 - array.ndim)))
    return struct.pack(f"<II{len(sizes)}I", magic, array.ndim, *sizes) + array.tobytes()


def arrays(part="train"):
    """In some order; toys are numbered as in the official parts."""
    rng = np.random.default_rng(len(part))
    toys = {"train": (4, 6, 7), "test": (0, 1, 2)}[part]
    views = rng.permutation(np.indices(SIZES).reshape(5, -1).T)
    info = np.column_stack([np.array(toys)[views[:, 1]], views[:, 2], 2 * views[:, 3], views[:, 4]])
    images = rng.integers(0, 256, (COUNT, 2, 96, 96), dtype=np.uint8)
    return {"dat": images, "cat": views[:, 0].astype("<i4"), "info": info.astype("<i4")}


def write(folder, parts=("train", "test"), suffix="", **changes):
    folder.mkdir(exist_ok=True)
    for part in parts:
        for kind, array in (arrays(part) | changes).items():
            data = matrix(array) if isinstance(array, np.ndarray) else array
            file = folder / f"{PARTS[part]}-{kind}.mat{suffix}"
            file.write_bytes(gzip.compress(data, 1) if suffix else data)
    return folder


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_images_and_factors(tmp_path, suffix):
    dataset = SmallNORB(write(tmp_path, suffix=suffix), sizes=SIZES, image_size=96)
    assert isinstance(dataset, ObservedFactorDataset)
    assert (dataset.name, len(dataset)) == ("smallnorb", 2 * COUNT)
    assert (dataset.image_shape, dataset.split) == ((1, 96, 96), "all")
    assert dataset.factor_names == ("category", "elevation", "azimuth", "lighting")
    assert dataset.factor_sizes == (2, 2, 4, 2)
    assert dataset.factor_classes == ("category",)
    for number, part, row in ((3, "train", 3), (COUNT + 7, "test", 7)):
        stored = arrays(part)
        np.testing.assert_allclose(
            dataset.images([number])[0, 0], stored["dat"][row, 0] / 255, atol=1e-7
        )
        _, elevation, azimuth, lighting = stored["info"][row]
        expected = [stored["cat"][row], elevation, azimuth // 2, lighting]
        assert dataset.factors([number])[0].tolist() == expected
    # Each combination once for each of the toys.
    _, counts = torch.unique(dataset.factors(range(2 * COUNT)), dim=0, return_counts=True)
    assert counts.tolist() == [6] * 32


def test_splits(tmp_path):
    write(tmp_path)
    for split in ("train", "test"):
        dataset = SmallNORB(tmp_path, split=split, sizes=SIZES)
        assert (len(dataset), dataset.split, dataset.image_shape) == (COUNT, split, (1, 64, 64))
    with pytest.raises(ValueError, match="split must be one of 'train', 'test', 'all' or None"):
        SmallNORB(tmp_path, split="extra")


def test_all_images_leave_none_to_test_on(tmp_path, monkeypatch):
    small = replace(SOURCES["smallnorb"], opener=partial(SmallNORB, sizes=SIZES))
    monkeypatch.setitem(SOURCES, "smallnorb", small)
    write(tmp_path)
    assert load_test("smallnorb", tmp_path) is None
    assert len(load_test("smallnorb", tmp_path, split="train")) == COUNT
    assert load("smallnorb", tmp_path, split="train", image_size=8).image_shape == (1, 8, 8)


def test_a_third_is_an_area_average(tmp_path):
    dataset = SmallNORB(write(tmp_path), sizes=SIZES, image_size=32)
    by_hand = arrays()["dat"][5, 0].reshape(32, 3, 32, 3).mean((1, 3)) / 255
    np.testing.assert_allclose(dataset.images([5])[0, 0], by_hand, atol=0.51 / 255)


def test_the_official_sizes_are_the_default(tmp_path):
    words = r"training-cat\.mat' must be of shape \(24300,\), got \(96,\)"
    with pytest.raises(ValueError, match=words):
        load("smallnorb", write(tmp_path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"cat": arrays()["cat"][:-1]},
            r"training-cat\.mat' must be of shape \(96,\), got \(95,\)",
        ),
        ({"cat": arrays()["info"]}, r"cat\.mat' must be a matrix 0x1e3d4c54 with 1 axes, got .* 2"),
        ({"dat": arrays()["dat"][:, :1]}, r"dat\.mat' must be of shape \(96, 2, 96, 96\), got"),
        ({"cat": arrays()["cat"] + 1}, r"cat\.mat': category must be in \[0, 2\), got others"),
        ({"info": arrays()["info"] + 1}, r"info\.mat': elevation must be in \[0, 2\), got others"),
        (
            {"info": arrays()["info"] | np.array([0, 0, 1, 0], "<i4")},
            r"info\.mat': azimuth must be even and at most 6, got others",
        ),
        ({"cat": arrays()["cat"] * 0}, r"info\.mat': rows must be all combinations of 3 toys with"),
        ({"dat": matrix(arrays()["dat"])[:-9]}, r"dat\.mat' is cut short: it ends within its"),
        ({"dat": matrix(arrays()["dat"]) + b"x"}, r"dat\.mat' must be of no more than \(96, 2"),
        ({"dat": b"\x55\x4c"}, r"dat\.mat' is cut short"),
    ],
)
def test_wrong_files(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        SmallNORB(write(tmp_path, **changes), sizes=SIZES)


def test_missing_files(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"lacks smallnorb-5x01235.*-dat\.mat; expected a f"
    ):
        SmallNORB(write(tmp_path, ["train"]), sizes=SIZES)
