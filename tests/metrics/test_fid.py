import numpy as np
import pytest
import torch

from pydisent.metrics import FeatureNet, FixedFeatures, fid, frechet_distance


class Pixels(FeatureNet):
    """Features that are the pixels."""

    name = "pixels"

    def __init__(self):
        self.sizes = []

    def features(self, images):
        self.sizes.append(len(images))
        return images.flatten(1)


def covariance(size, seed, rank=None):
    root = np.random.default_rng(seed).normal(size=(size, rank or size + 3))
    return torch.from_numpy(root @ root.T / root.shape[1])


def vector(size, seed):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=size))


def test_gaussians_with_a_common_basis():
    """Where the covariances commute the distance is that of the standard deviations."""
    basis = torch.linalg.qr(covariance(6, 0)).Q
    one, other = (
        torch.rand(6, generator=torch.Generator().manual_seed(s)).double() for s in (0, 1)
    )
    other[2] = 0.0
    mean, other_mean = vector(6, 2), vector(6, 3)
    expected = (mean - other_mean).square().sum() + (one - other).square().sum()
    found = frechet_distance(
        mean, (basis * one**2) @ basis.T, other_mean, (basis * other**2) @ basis.T
    )
    assert found == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("rank", [None, 4])
def test_against_the_matrix_root(rank):
    linalg = pytest.importorskip("scipy.linalg")
    one, other = covariance(9, 4), covariance(9, 5, rank)
    root = linalg.sqrtm(one.numpy() @ other.numpy())
    expected = float(one.trace() + other.trace()) - 2 * np.trace(root).real
    zero = torch.zeros(9).double()
    assert frechet_distance(zero, one, zero, other) == pytest.approx(expected, rel=1e-6)


def test_it_is_a_squared_distance():
    triple = [(vector(5, s), covariance(5, s + 10)) for s in range(3)]
    root = [[frechet_distance(*a, *b) ** 0.5 for a in triple] for b in triple]
    assert max(root[i][i] for i in range(3)) < 1e-6
    assert root[0][1] == pytest.approx(root[1][0], rel=1e-9)
    assert root[0][1] < root[0][2] + root[2][1]


def test_scores_are_those_of_numpy():
    rng = np.random.default_rng(0)
    real, fake = (torch.from_numpy(rng.random((n, 1, 2, 3))) for n in (300, 200))
    fake = fake**2
    net = Pixels()
    found = fid(real, fake, features=net)
    tables = [images.flatten(1).numpy() for images in (real, fake)]
    statistics = [(t.mean(0), np.cov(t, rowvar=False)) for t in tables]
    expected = frechet_distance(
        *(torch.from_numpy(np.asarray(x)) for pair in statistics for x in pair)
    )
    assert found.score == pytest.approx(expected, rel=1e-10)
    assert found.details == {
        "distance": "pixels",
        "notice": None,
        "real": 300,
        "fake": 200,
        "features": 6,
        "singular": False,
    }
    assert max(net.sizes) == 64


def test_batches_do_not_matter():
    rng = np.random.default_rng(1)
    real, fake = (torch.from_numpy(1e3 + rng.random((150, 1, 2, 2))) for _ in range(2))
    whole = fid(real, fake, features=Pixels()).score
    parts = fid((b for b in real.split(7)), list(fake.split(100)), features=Pixels()).score
    assert parts == pytest.approx(whole, rel=1e-6)


def test_large_images_are_read_a_few_at_a_time():
    class Means(Pixels):
        def features(self, images):
            super().features(images)
            return images.mean((2, 3))

    images = torch.rand(9, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    net = Means()
    assert fid(images, images, features=net).score == pytest.approx(0, abs=1e-12)
    assert net.sizes == [4, 4, 1] * 2


def test_a_shift_of_all_features_alone_is_its_square():
    real = torch.rand(100, 1, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    assert fid(real, real + 0.25, features=Pixels()).score == pytest.approx(4 * 0.25**2, rel=1e-6)
    assert fid(real, real, features=Pixels()).score == pytest.approx(0, abs=1e-9)


def test_the_fixed_net_orders_degradations():
    generator = torch.Generator().manual_seed(0)
    real, other = (
        torch.rand(2, 400, 3, 4, 4, generator=generator)
        .repeat_interleave(4, 3)
        .repeat_interleave(4, 4)
    )
    scores = [
        fid(real, other * (1 - a) + a * torch.rand(other.shape, generator=generator)).score
        for a in (0.0, 0.1, 0.3)
    ]
    assert scores[0] < scores[1] < scores[2]
    details = fid(real, other).details
    assert (details["distance"], details["features"]) == ("fixed-features-1", 352)
    assert details["notice"] == FixedFeatures.notice


def test_too_few_images():
    images = torch.rand(6, 1, 2, 3).double()
    with pytest.warns(UserWarning, match="6 real and 6 made images by 6 features: a covariance is"):
        assert fid(images, images, features=Pixels()).details["singular"]
    for bad, words in ((images[:1], "got 1"), (images[:0], "got 0"), ([], "got 0")):
        with pytest.raises(ValueError, match=f"fake must be at least 2 images, {words}"):
            fid(images, bad, features=Pixels())


def test_bad_arguments():
    images = torch.rand(9, 1, 2, 3)
    with pytest.raises(TypeError, match="features must be a FeatureNet, got function"):
        fid(images, images, features=lambda x: x)
    with pytest.raises(ValueError, match="features of pixels must be finite"):
        fid(images, images / 0, features=Pixels())
    for bad, error, words in (
        (None, TypeError, "fake must be a Tensor or Tensors, got NoneType"),
        (images.numpy(), TypeError, "fake must be a Tensor or Tensors, got a ndarray"),
        ([images.numpy()], TypeError, "fake must be a Tensor or Tensors, got a ndarray"),
        (images[0], ValueError, r"fake must be \(N, 1 or 3, H, W\), got \(1, 2, 3\)"),
    ):
        with pytest.raises(error, match=words):
            fid(images, bad, features=Pixels())
    eye, zero = torch.eye(3), torch.zeros(3)
    for given, words in (
        ((zero, eye, torch.zeros(2), eye), r"other_mean must be \(3,\), got \(2,\)"),
        ((zero, eye[:2], zero, eye), r"covariance must be \(3, 3\), got \(2, 3\)"),
        ((zero, eye, zero, eye / 0), "other_covariance must be finite"),
    ):
        with pytest.raises(ValueError, match=words):
            frechet_distance(*given)
