import pickle
import sys

import numpy as np
import pytest
import torch

from pydisent.data import load
from pydisent.data.three_d_shapes import ThreeDShapes

h5py = pytest.importorskip("h5py")

SIZES = (2, 3, 2, 2, 4, 3)
COUNT = 288
LAYOUTS = {
    "plain": {},
    "packed": {"chunks": (50, 16, 16, 1), "compression": "gzip"},
    "whole chunks": {"chunks": (1, 64, 64, 3)},
}


def grid(sizes):
    ends = ((0, 0.9), (0, 0.9), (0, 0.9), (0.75, 1.25), (0, 3), (-30, 30))
    values = [np.linspace(*end, size) for end, size in zip(ends, sizes)]
    return np.stack([axis.ravel() for axis in np.meshgrid(*values, indexing="ij")], 1)


def arrays():
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 64, 64, 3), dtype=np.uint8)
    return {"images": images, "labels": grid(SIZES)}


def write(path, layout="plain", **changes):
    with h5py.File(path, "w") as file:
        for key, value in (arrays() | changes).items():
            if value is not None:
                options = LAYOUTS[layout] if key == "images" else {}
                file.create_dataset(key, data=value, **options)
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "small.h5"


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_and_factors(file, monkeypatch, cache, layout, kept):
    if not kept:
        monkeypatch.setenv("PYDISENT_CACHE", "off")
    dataset = ThreeDShapes(write(file, layout), factor_sizes=SIZES)
    assert (dataset.name, len(dataset), dataset.image_shape) == ("3dshapes", COUNT, (3, 64, 64))
    numbers = [*np.random.default_rng(1).permutation(COUNT)[:100].tolist(), 5, 0, 5, COUNT - 1]
    images = dataset.images(numbers)
    assert images.dtype == torch.float32
    by_hand = arrays()["images"][numbers].transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(images.double(), by_hand, atol=1e-7)
    assert dataset.images([]).shape == (0, 3, 64, 64)
    assert cache.exists() == (kept and layout != "plain")
    # A label's place among its factor's values is the factor.
    factors = [np.unique(column, return_inverse=True)[1] for column in grid(SIZES).T]
    np.testing.assert_array_equal(dataset.factors(range(COUNT)), np.stack(factors, 1))


def test_a_packed_file_is_unpacked_once(file, cache, monkeypatch):
    write(file, "packed")
    first = ThreeDShapes(file, factor_sizes=SIZES).images(range(COUNT))
    monkeypatch.setattr(ThreeDShapes, "_unpack", None)
    assert torch.equal(ThreeDShapes(file, factor_sizes=SIZES).images(range(COUNT)), first)
    assert len(list(cache.iterdir())) == 1


def test_half_size(file):
    dataset = ThreeDShapes(write(file), factor_sizes=SIZES, image_size=32)
    by_hand = arrays()["images"][:7].reshape(7, 32, 2, 32, 2, 3).mean((2, 4)) / 255
    images = dataset.images(range(7)).double()
    np.testing.assert_allclose(images, by_hand.transpose(0, 3, 1, 2), atol=1e-6)


def test_workers_get_their_own_copy(file):
    dataset = ThreeDShapes(write(file), factor_sizes=SIZES)
    first = dataset.images([3, 1])
    assert torch.equal(pickle.loads(pickle.dumps(dataset)).images([3, 1]), first)


def test_the_official_sizes_are_the_default(file, monkeypatch):
    """A file of the official layout whose images were never written, so that it is small."""
    monkeypatch.setenv("PYDISENT_CACHE", "off")
    sizes = (10, 10, 10, 8, 4, 15)
    with h5py.File(file, "w") as opened:
        shape = (480_000, 64, 64, 3)
        opened.create_dataset("images", shape, np.uint8, chunks=(1, 64, 64, 3), fillvalue=51)
        opened["labels"] = grid(sizes)
    dataset = load("3dshapes", file)
    assert dataset.factor_sizes == sizes
    names = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
    assert dataset.factor_names == names
    expected = torch.full((2, 3, 64, 64), 0.2)
    torch.testing.assert_close(dataset.images([479_999, 7]), expected)


def test_another_grid_is_refused(file):
    with pytest.raises(ValueError, match=r"images must be \(480000, 64, 64, 3\) uint8, got \(288"):
        load("3dshapes", write(file))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": None}, r"lacks 'images' and has \['labels'\]"),
        ({"labels": None}, r"lacks 'labels' and has \['images'\]"),
        ({"images": np.zeros((COUNT, 3, 64, 64), np.uint8)}, r"images must be .*\(288, 3, 64"),
        ({"images": np.zeros((COUNT, 64, 64, 3), np.float32)}, "images must be .*got .*float32"),
        ({"images": np.zeros((COUNT - 1, 64, 64, 3), np.uint8)}, r"images must be .*\(287"),
        ({"labels": grid(SIZES)[:, :5]}, r"labels must be \(288, 6\) float64, got \(288, 5\)"),
        ({"labels": grid(SIZES).astype(np.float32)}, "labels must be .*float32"),
        ({"labels": grid(SIZES)[::-1]}, "last factor fastest; those of floor_hue do not"),
        ({"labels": grid(SIZES)[:, ::-1]}, "last factor fastest; those of floor_hue do not"),
        ({"labels": grid(SIZES)[[*range(2, -1, -1), *range(3, COUNT)]]}, "those of orientation"),
        ({"labels": np.where(grid(SIZES) == 0.75, np.nan, grid(SIZES))}, "those of scale"),
    ],
)
def test_wrong_arrays(file, changes, words):
    with pytest.raises(ValueError, match=words) as raised:
        ThreeDShapes(write(file, **changes), factor_sizes=SIZES)
    assert str(raised.value).startswith(f"path {str(file)!r} is not the official 3D Shapes file")


def test_a_group_in_the_place_of_an_array(file):
    with h5py.File(file, "w") as opened:
        opened.create_group("images")
        opened["labels"] = grid(SIZES)
    with pytest.raises(ValueError, match="it lacks 'images'"):
        ThreeDShapes(file, factor_sizes=SIZES)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_a_file_cut_short(file, keep):
    data = write(file).read_bytes()
    file.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ValueError, match=r"path .*is not the official 3D Shapes file"):
        ThreeDShapes(file, factor_sizes=SIZES)


@pytest.mark.parametrize("kept", [True, False])
def test_damaged_images(file, cache, monkeypatch, kept):
    if not kept:
        monkeypatch.setenv("PYDISENT_CACHE", "off")
    write(file, "packed")
    with h5py.File(file) as opened:
        place = opened["images"].id.get_chunk_info(0)
    data = bytearray(file.read_bytes())
    data[place.byte_offset : place.byte_offset + 40] = bytes(40)
    file.write_bytes(data)
    dataset = ThreeDShapes(file, factor_sizes=SIZES)
    with pytest.raises(ValueError, match=r"path .*small\.h5' is damaged"):
        dataset.images([0])
    assert not kept or not list(cache.iterdir())


def test_not_such_a_file(file, tmp_path):
    file.write_bytes(b"not an HDF5 file")
    with pytest.raises(ValueError, match=r"path .*is not the official 3D Shapes file"):
        load("3dshapes", file)
    with pytest.raises(ValueError, match=r"path .*is a folder; expected the official 3D Shapes"):
        load("3dshapes", tmp_path)


def test_without_h5py(file, monkeypatch):
    write(file)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        ImportError, match=r"3dshapes needs the package h5py: pip install .*\[data\]"
    ):
        load("3dshapes", file)
