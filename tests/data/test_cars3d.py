import numpy as np
import pytest

from pydisent.data import load
from pydisent.data.cars3d import Cars3D

io = pytest.importorskip("scipy.io")
CARS = 3


def arrays(car=0):
    """Views whose pixels say which they are: rows and columns matter, and channels."""
    rng = np.random.default_rng(car)
    return {"im": rng.integers(0, 256, (128, 128, 3, 24, 4), dtype=np.uint8)}


def write(folder, packed=True, cars=CARS, **changes):
    for car in range(cars):
        content = {k: v for k, v in (arrays(car) | changes).items() if v is not None}
        name = folder / f"car_{car + 1:03}_mesh.mat"
        name.parent.mkdir(parents=True, exist_ok=True)
        io.savemat(name, content, do_compression=packed)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write(tmp_path_factory.mktemp("cars"))


def test_images_and_factors(whole):
    dataset = Cars3D(whole, cars=CARS, image_size=128)
    assert (dataset.name, len(dataset), dataset.image_shape) == (
        "cars3d",
        4 * 24 * 3,
        (3, 128, 128),
    )
    assert dataset.factor_names == ("elevation", "azimuth", "car")
    for elevation, azimuth, car in ((0, 0, 0), (3, 23, 2), (1, 20, 1)):
        number = dataset.index([[elevation, azimuth, car]])
        by_hand = arrays(car)["im"][:, :, :, azimuth, elevation].transpose(2, 0, 1) / 255
        np.testing.assert_allclose(dataset.images(number)[0], by_hand, atol=1e-7)


@pytest.mark.parametrize("side", [None, 32])
def test_smaller_images_are_area_averages(whole, side):
    dataset = Cars3D(whole, cars=CARS, image_size=side)
    side = side or 64
    assert dataset.image_shape == (3, side, side)
    cell = 128 // side
    view = arrays(1)["im"][:, :, :, 5, 2].reshape(side, cell, side, cell, 3).mean((1, 3))
    image = dataset.images(dataset.index([[2, 5, 1]]))[0]
    np.testing.assert_allclose(image, view.transpose(2, 0, 1) / 255, atol=0.51 / 255)


def test_larger_images_are_bilinear(whole):
    assert Cars3D(whole, cars=CARS, image_size=256).images([0]).shape == (1, 3, 256, 256)


def test_the_folder_may_be_above(whole, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cars").symlink_to(whole)
    assert len(Cars3D(tmp_path, cars=CARS)) == len(Cars3D(tmp_path / "data", cars=CARS))


def test_the_official_number_is_the_default(whole, tmp_path):
    words = "must have 183 files car_NNN_mesh.mat, got 3, the last 'car_003_mesh.mat'; expected the"
    with pytest.raises(ValueError, match=words):
        load("cars3d", whole)
    with pytest.raises(FileNotFoundError, match=r"lacks car_NNN_mesh\.mat; expected the folder c"):
        load("cars3d", tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"im": None, "other": 1}, r"lacks the array 'im' and has \[\]"),
        ({"im": arrays()["im"][:, :, :, :, :3]}, r"im must be \(128, 128, 3, 24, 4\) uint8, got"),
        ({"im": np.zeros((128, 128, 3, 24, 4), np.int16)}, "is not a whole MATLAB .* declares"),
        ({"im": arrays()["im"].transpose(0, 1, 2, 4, 3)}, r"got \(128, 128, 3, 4, 24\) uint8"),
    ],
)
def test_wrong_arrays(tmp_path, changes, words):
    with pytest.raises(ValueError, match=rf"car_001_mesh\.mat'.*{words}"):
        Cars3D(write(tmp_path, cars=1, **changes), cars=1)
