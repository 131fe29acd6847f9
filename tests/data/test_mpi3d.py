import pickle

import numpy as np
import pytest
import torch

from pydisent.data import load, mpi3d
from pydisent.data.mpi3d import MPI3D

SIZES = (2, 3, 2, 1, 3, 2, 4)
COUNT = 288


def arrays():
    shape = (COUNT, 64, 64, 3)
    return {"images": np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)}


def write(path, packed=False, **changes):
    contents = {k: v for k, v in (arrays() | changes).items() if v is not None}
    (np.savez_compressed if packed else np.savez)(path, **contents)
    return path


@pytest.fixture(params=[False, True], ids=["stored", "packed"])
def file(tmp_path, request):
    return write(tmp_path / "mpi3d_toy.npz", request.param)


def test_images_and_factors(file):
    dataset = MPI3D(file, factor_sizes=SIZES)
    assert (dataset.name, len(dataset), dataset.image_shape) == ("mpi3d", COUNT, (3, 64, 64))
    numbers = [287, 0, 30, 30]
    images = dataset.images(numbers)
    assert images.dtype == torch.float32
    by_hand = arrays()["images"][numbers].transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(images, by_hand, atol=1e-7)
    # The vertical axis fastest, as in reshape([..., 40, 40]) of the authors.
    order = np.arange(COUNT).reshape(SIZES)
    assert dataset.index([[1, 2, 0, 0, 1, 1, 3]]).item() == order[1, 2, 0, 0, 1, 1, 3]
    assert dataset.factor_names[-2:] == ("horizontal_axis", "vertical_axis")
    small = MPI3D(file, factor_sizes=SIZES, image_size=32).images([5])
    by_hand = arrays()["images"][5].reshape(32, 2, 32, 2, 3).mean((1, 3)).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(small[0], by_hand, atol=1e-6)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy.images(numbers), images)


def test_packed_images_are_unpacked_once(tmp_path, cache, monkeypatch):
    file = write(tmp_path / "a.npz", packed=True)
    MPI3D(file, factor_sizes=SIZES).images([0])
    (kept,) = cache.glob("mpi3d-*.npy")
    assert kept.stat().st_size >= COUNT * 64 * 64 * 3
    monkeypatch.setattr(MPI3D, "_unpack", None)
    MPI3D(file, factor_sizes=SIZES).images([0])
    monkeypatch.setenv("PYDISENT_CACHE", "off")
    dataset = MPI3D(file, factor_sizes=SIZES)
    with pytest.raises(ValueError, match=r"a\.npz' is compressed, and there is no cache with room"):
        dataset.images([0])
    assert len(MPI3D(write(tmp_path / "b.npz"), factor_sizes=SIZES).images([0])) == 1


def test_the_official_grids_are_the_default(tmp_path):
    words = r"\(1036800, 64, 64, 3\) or \(460800, 64, 64, 3\) uint8 in C order; got \(288, 64"
    with pytest.raises(ValueError, match=rf"a\.npz' is not an official MPI3D file.*{words}"):
        load("mpi3d", write(tmp_path / "a.npz"))


def test_the_number_of_images_says_which_grid(tmp_path, monkeypatch):
    """6 and 6 colours and shapes in 1 036 800 images, or 4 and 4 in 460 800 (Gondal et al.)."""
    assert mpi3d.SIMPLE == (6, 6, 2, 3, 3, 40, 40)
    assert mpi3d.COMPLEX == (4, 4, 2, 3, 3, 40, 40)
    other = (1, 3, 2, 1, 3, 2, 4)
    monkeypatch.setattr(mpi3d, "SIMPLE", SIZES)
    monkeypatch.setattr(mpi3d, "COMPLEX", other)
    assert load("mpi3d", write(tmp_path / "a.npz")).factor_sizes == SIZES
    half = write(tmp_path / "b.npz", images=arrays()["images"][:144])
    assert load("mpi3d", half).factor_sizes == other


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": None, "other": np.zeros(3)}, r"lacks \['images'\] and has \['other'\]"),
        ({"images": np.zeros((COUNT, 3, 64, 64), np.uint8)}, r"got \(288, 3, 64, 64\)"),
        ({"images": np.zeros((COUNT - 1, 64, 64, 3), np.uint8)}, r"got \(287, 64"),
        ({"images": np.zeros((COUNT, 64, 64, 3), np.float32)}, "got .*float32"),
        ({"images": np.zeros((3, 64, 64, COUNT), np.uint8).T}, "in Fortran order"),
    ],
)
def test_wrong_arrays(tmp_path, changes, words):
    file = write(tmp_path / "a.npz", **changes)
    with pytest.raises(ValueError, match=rf"a\.npz' is not an official MPI3D file.*{words}"):
        MPI3D(file, factor_sizes=SIZES)


def test_cut_short(tmp_path):
    whole = write(tmp_path / "a.npz", packed=True).read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a\.npz' is not an official MPI3D file"):
        MPI3D(tmp_path / "a.npz", factor_sizes=SIZES)
