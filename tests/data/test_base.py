import numpy as np
import pytest
import torch

import pydisent.data as data
from pydisent.data import ArrayDataset, FactorDataset, ImageDataset

RENDERED = ("sprites", "color-sprites", "shapes3d", "clevr-simple", "faces", "digits")


class Grid(FactorDataset):
    def __init__(self, sizes):
        super().__init__("grid", (1, 1, 1), [f"f{i}" for i in range(len(sizes))], sizes)

    def _read(self, indices):
        return torch.from_numpy(indices).float().reshape(-1, 1, 1, 1) / len(self)


def noise(n=3, channels=2, side=8):
    return np.random.default_rng(0).integers(0, 256, (n, channels, side, side), dtype=np.uint8)


@pytest.mark.parametrize("sizes", [(3, 6, 40, 32, 32), (1, 5), (4,), (2, 1, 3)])
def test_index_and_factors_are_inverse_bijections(sizes):
    grid = Grid(sizes)
    every = torch.arange(len(grid))
    factors = grid.factors(every)
    assert factors.dtype == torch.int64
    assert len(grid) == np.prod(sizes)
    assert torch.equal(grid.index(factors), every)
    by_hand = torch.cartesian_prod(*(torch.arange(s) for s in sizes)).reshape(len(grid), -1)
    assert torch.equal(factors, by_hand)


def test_sampled_factors_are_uniform_and_follow_the_seed():
    grid = Grid((3, 4))
    drawn = grid.sample_factors(12_000, np.random.default_rng(1))
    counts = torch.bincount(grid.index(drawn), minlength=12).double()
    assert ((counts - 1000) ** 2 / 1000).sum() < 31.3  # chi-square, 11 degrees, p = 0.001
    assert torch.equal(drawn, grid.sample_factors(12_000, np.random.default_rng(1)))


def test_sample_factors_refuses_other_generators():
    with pytest.raises(TypeError, match=r"generator.*numpy.random.Generator.*got Generator"):
        Grid((3, 4)).sample_factors(2, torch.Generator())
    with pytest.raises(ValueError, match="n must be an integer >= 0, got -1"):
        Grid((3, 4)).sample_factors(-1, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("indices", "error", "words"),
    [
        ([0.5], TypeError, "indices must be integers, got float64"),
        (torch.tensor([True]), TypeError, "indices must be integers, got bool"),
        ([[0]], ValueError, r"indices must have shape \(N,\), got \(1, 1\)"),
        ([0, 12], ValueError, r"indices must be in \[0, 12\), got values from 0 to 12"),
        ([-1], ValueError, r"indices must be in \[0, 12\)"),
    ],
)
def test_bad_indices(indices, error, words):
    with pytest.raises(error, match=words):
        Grid((3, 4)).images(indices)


@pytest.mark.parametrize(
    ("factors", "error", "words"),
    [
        ([[0.0, 1.0]], TypeError, "factors must be integers"),
        ([[0, 1, 2]], ValueError, r"factors must have shape \(N, 2\)"),
        ([0, 1], ValueError, r"factors must have shape \(N, 2\)"),
        ([[0, 4]], ValueError, r"factors must be in \[0, size\)"),
        ([[-1, 0]], ValueError, r"factors must be in \[0, size\)"),
    ],
)
def test_bad_factors(factors, error, words):
    with pytest.raises(error, match=words):
        Grid((3, 4)).index(factors)


def test_grid_with_an_empty_factor_is_refused():
    with pytest.raises(ValueError, match="factor_sizes must be an integer >= 1 for each"):
        Grid((3, 0))


def test_stored_bytes_come_out_as_fractions_of_white():
    array = noise()
    images = ArrayDataset("noise", array).images([2, 0])
    assert images.dtype == torch.float32
    np.testing.assert_allclose(images.double(), array[[2, 0]] / 255, atol=1e-7)


@pytest.mark.parametrize(
    ("array", "error", "words"),
    [
        (np.ones((3, 1, 4, 4)), TypeError, "uint8, from 0 to 255, got ndarray of float64"),
        (torch.rand(3, 1, 4, 4), TypeError, "uint8, from 0 to 255, got Tensor of torch.float32"),
        ([[0]], TypeError, "uint8, from 0 to 255, got list of no dtype"),
        (np.zeros((3, 4, 4), np.uint8), ValueError, r"\(N, C, H, W\), .* got \(3, 4, 4\)"),
        (np.zeros((3, 32, 32, 3), np.uint8), ValueError, r"1 to 4 channels C if .*\(3, 32, 32, 3"),
        (np.zeros((0, 1, 4, 4), np.uint8), ValueError, r"at least 1 image.* got \(0, 1, 4, 4\)"),
    ],
)
def test_only_bytes_with_the_channels_first_are_images(array, error, words):
    """Numbers in [0, 1] would be divided by 255, a height taken for channels."""
    with pytest.raises(error, match=f"array must be .*{words}"):
        ArrayDataset("mine", array)


@pytest.mark.parametrize("count", [1, 3, 7, 50])
def test_any_number_of_channels_is_taken_on_the_axis_that_is_named(count):
    array = noise(4, count, 8)
    whole = torch.tensor(array.tolist()) / 255
    last = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    turned = whole.flip(2, 3)
    for given, name, expected in (
        (array, "first", whole),
        (last, "last", whole),
        (last[:, ::-1, ::-1], "last", turned),
    ):
        dataset = ArrayDataset("noise", given, channels=name)
        assert dataset.image_shape == (count, 8, 8)
        assert torch.equal(dataset[[3, 0]], expected[[3, 0]])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"labels": torch.arange(2)}, ValueError, r"labels must have shape \(3,\), got \(2,\)"),
        ({"labels": torch.zeros(3, 1).long()}, ValueError, r"labels must have shape \(3,\)"),
        ({"labels": torch.rand(3)}, TypeError, "labels must be torch.int64, got torch.float32"),
        ({"labels": [0, 1, 2]}, TypeError, "labels must be a torch.Tensor, got list"),
        ({"white": 0}, ValueError, r"white must be an integer in \[1, 255\], got 0"),
        ({"white": 16}, ValueError, "array must be at most white = 16, got 2[0-9][0-9]"),
        ({"channels": "middle"}, ValueError, "channels must be one of 'first', 'last'"),
    ],
)
def test_what_describes_the_images_must_fit_them(options, error, words):
    """A label too few was a wrong label, or an IndexError, when an image was read."""
    with pytest.raises(error, match=words):
        ArrayDataset("mine", noise(), **options)


def test_attributes_must_fit_images_and_names():
    class Mine(ImageDataset):
        def _read(self, indices):
            return torch.zeros(len(indices), 1, 4, 4)

    shape = (1, 4, 4)
    assert Mine("mine", shape, 3, attributes=torch.ones(3, 1).bool(), attribute_names=["a"])
    for attributes in (torch.ones(2, 1).bool(), torch.ones(3, 2).bool()):
        with pytest.raises(ValueError, match=r"attributes must have shape \(3, 1\)"):
            Mine("mine", shape, 3, attributes=attributes, attribute_names=["a"])
    with pytest.raises(TypeError, match=r"attributes must be torch\.bool, got torch.float32"):
        Mine("mine", shape, 3, attributes=torch.ones(3, 1), attribute_names=["a"])


def test_masked_entries_are_not_images():
    masked = np.ma.masked_array(noise(), noise() > 128)
    with pytest.raises(ValueError, match="array must not have masked entries"):
        ArrayDataset("mine", masked)


@pytest.mark.parametrize("side", [1, 2, 4])
def test_shrinking_is_the_average_over_areas(side):
    array = noise()
    small = ArrayDataset("noise", array, image_size=side)
    cell = 8 // side
    by_hand = (array / 255).reshape(3, 2, side, cell, side, cell).mean((3, 5))
    assert small.image_shape == (2, side, side)
    np.testing.assert_allclose(small.images(range(3)).double(), by_hand, atol=1e-6)


@pytest.mark.parametrize("side", [1, 2, 4, 8, 16])
def test_whole_ratios_give_what_adaptive_areas_give(side):
    """The fast path against the general one, up to the bound of summing so many in float32."""
    dataset = ArrayDataset("noise", noise(5, 3, 32), image_size=side)
    full = ArrayDataset("noise", noise(5, 3, 32)).images(range(5))
    general = torch.nn.functional.interpolate(full, (side, side), mode="area")
    bound = 2 * (32 // side) ** 2 * 2**-24
    torch.testing.assert_close(dataset.images(range(5)), general, rtol=0, atol=bound)


@pytest.mark.parametrize("side", [3, 5, 7])
def test_other_ratios_average_areas_that_overlap(side):
    image = ArrayDataset("noise", noise(), image_size=side).images([0])[0, 0].double()
    stored = noise()[0, 0] / 255
    edges = [(i * 8 // side, -(-(i + 1) * 8 // side)) for i in range(side)]
    by_hand = [[stored[a:b, c:d].mean() for c, d in edges] for a, b in edges]
    np.testing.assert_allclose(image, by_hand, atol=1e-6)


def test_attributes_are_none_where_there_are_none():
    dataset = ArrayDataset("noise", noise())
    assert dataset.attributes is None
    assert dataset.attribute_names == ()


def test_a_grid_that_int64_cannot_number_is_refused():
    assert len(Grid((2**31, 2**31))) == 2**62
    with pytest.raises(ValueError, match=r"fewer than 2\^63 images"):
        Grid((2**31, 2**32))


def test_enlarging_keeps_flat_images_flat_and_the_range():
    flat = ArrayDataset("flat", np.full((1, 1, 4, 4), 51, np.uint8), image_size=9).images([0])
    torch.testing.assert_close(flat, torch.full((1, 1, 9, 9), 0.2))
    large = ArrayDataset("noise", noise(), image_size=20).images(range(3))
    assert large.min() >= 0
    assert large.max() <= 1


def test_no_indices_give_an_empty_batch():
    for size in (None, 3, 20):
        dataset = ArrayDataset("noise", noise(), image_size=size)
        assert dataset.images([]).shape == (0, *dataset.image_shape)


@pytest.mark.parametrize(
    ("size", "error"), [(0, ValueError), (-4, ValueError), (32.0, TypeError), (True, TypeError)]
)
def test_bad_image_size(size, error):
    with pytest.raises(error, match="image_size must be"):
        data.load("sprites", image_size=size)


def test_load_names():
    from_files = "dsprites 3dshapes mnist svhn chairs chair-masks celeba images".split()
    from_files += "color-dsprites noisy-dsprites scream-dsprites mpi3d cars3d smallnorb".split()
    assert set(data.names()) == {*RENDERED, *from_files, "ffhq", "lsun"}
    for name in RENDERED:
        assert data.load(name).name == name
    with pytest.raises(ValueError, match=r"name must be one of 'sprites', 'color-.*got 'sprits'"):
        data.load("sprits")


@pytest.mark.parametrize("name", RENDERED)
def test_load_refuses_a_path_that_would_be_ignored(name, tmp_path):
    with pytest.raises(ValueError, match="path must be None"):
        data.load(name, tmp_path)


def test_load_refuses_a_split_that_would_be_ignored():
    for name in (
        "sprites",
        "color-sprites",
        "shapes3d",
        "digits",
        "dsprites",
        "3dshapes",
        "images",
    ):
        with pytest.raises(ValueError, match=r"split must be None for .*, which has no splits"):
            data.load(name, split="train")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dsprites", "dsprites_ndarray"),
        ("3dshapes", "3dshapes.h5"),
        ("mnist", "t10k-images-idx3-ubyte"),
        ("svhn", "train_32x32.mat"),
        ("chairs", "MODEL/renders"),
        ("celeba", "list_attr_celeba"),
        ("images", "folder with pictures"),
        ("color-dsprites", "dsprites_ndarray"),
        ("scream-dsprites", "picture of Munch's The Scream"),
        ("ffhq", "images1024x1024"),
        ("lsun", "bedroom_train_lmdb"),
        ("mpi3d", "mpi3d_toy.npz"),
        ("cars3d", "nips2015-analogy-data"),
        ("smallnorb", "smallnorb-5x46789x9x18x6x2x96x96-training"),
    ],
)
def test_missing_paths_say_which_files_are_expected(name, words, tmp_path):
    with pytest.raises(ValueError, match=rf"path must be given.*{words}"):
        data.load(name)
    with pytest.raises(FileNotFoundError, match=rf"path.*does not exist.*{words}"):
        data.load(name, tmp_path / "nowhere")
