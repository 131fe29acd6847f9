import numpy as np
import pytest
import torch

from pydisent.data import FactorDataset


class FactorGrid(FactorDataset):
    """Images of one row whose pixels are the factors, scaled to [0, 1]: codes can be exact."""

    def __init__(self, sizes, names=("shape", "scale", "orientation", "x", "y")):
        super().__init__("grid", (1, 1, len(sizes)), names[: len(sizes)], sizes)
        self.reads = []

    def _read(self, indices):
        self.reads.append(indices)
        scaled = self.factors(indices) / (torch.tensor(self.factor_sizes) - 1)
        return scaled.float()[:, None, None, :]


class Encoders:
    """From such images to codes."""

    @staticmethod
    def perfect(images):
        return images.flatten(1)

    @staticmethod
    def constant(images):
        return torch.full((len(images), 5), 0.3)

    @staticmethod
    def doubled(images):
        return images.flatten(1).repeat(1, 2)

    @staticmethod
    def rotated(images):
        mix = np.linalg.qr(np.random.default_rng(5).normal(size=(5, 5)))[0]
        return images.flatten(1).double() @ torch.from_numpy(mix)

    @staticmethod
    def noisy(images):
        """Noise that is a function of the image, three times as wide as the factors."""
        codes = images.flatten(1)
        generator = np.random.default_rng(6)
        waves = torch.from_numpy(generator.normal(size=(5, 5)) * 5000).float()
        return codes + torch.sin(codes @ waves) * 3

    @staticmethod
    def entangled(images):
        """A fixed random code of each factor combination: a table, looked up by its hash."""
        waves = torch.from_numpy(np.random.default_rng(7).normal(size=(5, 4)) * 3)
        return torch.sin(images.flatten(1).double() @ waves)


@pytest.fixture(scope="session")
def table():
    """Codes of a whole small grid by an encoder's name, and its factors: exactly independent."""

    def codes(name, sizes=(3, 4, 5, 2, 6)):
        small = FactorGrid(sizes)
        images = small.images(range(len(small)))
        factors = small.factors(range(len(small))).numpy()
        return getattr(Encoders, name)(images).double().numpy(), factors

    return codes


@pytest.fixture(scope="session")
def mixture():
    """Fixed random codes that know something about several factors, with ties and a constant."""
    rng = np.random.default_rng(11)

    def draw(count):
        factors = rng.integers(0, (3, 2, 7, 24), size=(count, 4)) - 1  # any integers, from any one
        mixed = factors @ np.random.default_rng(12).normal(size=(4, 3)) * [1.0, 5.0, 0.2]
        exact = np.stack([factors[:, 2] * 3.0, np.full(count, 0.1)], 1)
        codes = np.concatenate([mixed + rng.normal(size=(count, 3)), exact], 1)
        return codes, factors

    return (*draw(600), *draw(400))


@pytest.fixture
def grid():
    return FactorGrid((3, 6, 40, 32, 32))


@pytest.fixture
def small_grid():
    return FactorGrid((3, 4, 5, 2, 6))


@pytest.fixture
def make_grid():
    return FactorGrid


@pytest.fixture
def encoders():
    return Encoders


@pytest.fixture
def record(monkeypatch):
    """Keep what a metric drew: the factor shared, the images drawn, all that were encoded."""

    def watch(module):
        seen = {}
        draw, table = module.draw_sharing, module.CodeTable

        def draw_sharing(dataset, factor, shape, rng, pool):
            seen["factor"], seen["drawn"] = factor, draw(dataset, factor, shape, rng, pool)
            return seen["drawn"]

        def code_table(encode, dataset, *draws, **options):
            seen["draws"] = draws
            return table(encode, dataset, *draws, **options)

        monkeypatch.setattr(module, "draw_sharing", draw_sharing)
        monkeypatch.setattr(module, "CodeTable", code_table)
        return seen

    return watch
