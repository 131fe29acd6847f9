"""What a metric gives to the caller's functions is theirs, and what it reports is plain."""

import json

import numpy as np
import pytest
import torch

from pydisent import metrics
from pydisent.data import FactorDataset


class Pixels(FactorDataset):
    """Images whose pixels are the factors, scaled to [0, 1]."""

    def __init__(self):
        super().__init__("pixels", (1, 1, 3), ("a", "b", "c"), (3, 5, 4))

    def _read(self, indices):
        scaled = self.factors(indices) / (torch.tensor(self.factor_sizes) - 1)
        return scaled.float()[:, None, None, :]


def perfect(images):
    return images.flatten(1)


def entangled(images):
    return torch.sin(3 * images.flatten(1).cumsum(1))


GRID = Pixels()
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.rand(12, 1, 8, 8, generator=GENERATOR)
CODES = torch.randn(12, 4, generator=GENERATOR)
LABELS = torch.arange(12) % 3
WEIGHT = torch.randn(4, 64, generator=GENERATOR)


def in_place(function):
    """A function that does the same, and then writes to what it was given."""

    def writing(x):
        result = function(x.clone())
        x.mul_(0.5)
        return result

    return writing


def buffered(function):
    """A function that does the same, and returns it in memory that its next call writes to."""
    memory = {}

    def reusing(x):
        result = function(x)
        kept = memory.setdefault(result.shape[1:], torch.empty(64, *result.shape[1:]).to(result))
        return kept[: len(result)].copy_(result)

    return reusing


def encode(images):
    return images.flatten(1) @ WEIGHT.T / 8


def decode(codes):
    return torch.sigmoid(codes @ WEIGHT).view(-1, 1, 8, 8)


def classify(images):
    return images.flatten(1)[:, :3] - 0.5


class Pooled(metrics.FeatureNet):
    name, notice = "pooled", None

    def __init__(self, change):
        self.change = change

    def features(self, images):
        return self.change(lambda x: x.flatten(1)[:, :3] ** 2)(images)


class Plain(metrics.PerceptualDistance):
    name, squared, threshold = "plain", True, 0.0

    def __init__(self, change):
        self.change = change

    def distance(self, first, second):
        return self.change(lambda x: (x - second).square().mean((1, 2, 3)))(first)


CALLS = {
    "reconstruction_error": lambda of: metrics.reconstruction_error(of(lambda x: 0.9 * x), GRID),
    "encode_dataset": lambda of: metrics.encode_dataset(of(perfect), GRID, batch_size=7).sum(),
    "factor_vae_score": lambda of: metrics.factor_vae_score(
        of(entangled), GRID, train_votes=50, eval_votes=20
    ),
    "class_swaps": lambda of: metrics.class_swaps(
        of(encode),
        of(decode),
        IMAGES,
        LABELS,
        of(classify),
        factors=[0, 2],
        pairs=20,
        batch_size=5,
    ),
    "attribute_flips": lambda of: metrics.attribute_flips(
        of(encode),
        of(decode),
        IMAGES,
        of(classify),
        factors=[0, 1, 3],
        alpha=2.0,
        batch_size=5,
    ),
    "tpl": lambda of: metrics.tpl(of(decode), CODES, segments=4),
    "ppl": lambda of: metrics.ppl(of(decode), lambda n: CODES[:n], pairs=6, epsilon=0.1),
    "accumulated_distance": lambda of: metrics.accumulated_distance(
        of(decode), CODES[0], (0, 1), [0.0, 45.0], size=3
    ).sum(),
    "fid": lambda of: metrics.fid(IMAGES.split(5), (0.5 * IMAGES).split(5), features=Pooled(of)),
    "steps": lambda of: Plain(of).steps(IMAGES).sum(),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("change", [in_place, buffered])
def test_functions_may_write_to_what_they_were_given_and_returned(name, change):
    images, codes = IMAGES.clone(), CODES.clone()
    assert CALLS[name](change) == CALLS[name](lambda function: function)
    assert torch.equal(IMAGES, images)
    assert torch.equal(CODES, codes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.to_sparse(), "encode's codes must be a strided tensor, got layout"),
        (lambda x: x + 0j, "encode must return real codes, got torch.complex64"),
    ],
)
def test_codes_that_cannot_be_read_are_refused(change, words):
    with pytest.raises(TypeError, match=words):
        metrics.encode_dataset(lambda x: change(perfect(x)), GRID)


def test_reconstructions_are_real():
    message = "^reconstruct must return real images, got torch.complex64"
    with pytest.raises(TypeError, match=message):
        metrics.reconstruction_error(lambda x: x + 0j, GRID)


RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(60, 3)), RNG.integers(0, 3, (60, 2))
INT, FLOAT = np.int64, np.float32
OPTIONS = {
    "mig": lambda: metrics.mig(*TABLE, bins=INT(5)),
    "irs": lambda: metrics.irs(*TABLE, bins=INT(5), quantile=FLOAT(0.5)),
    "sap": lambda: metrics.sap(*TABLE, continuous=np.array([0, 1]), prune_std=FLOAT(0.0)),
    "dci": lambda: metrics.dci(*TABLE, seed=INT(3)),
    "dci_es": lambda: metrics.dci_es(
        *TABLE, *TABLE, continuous=np.array([1]), depths=np.array([1, 2]), trees=INT(2),
        seed=INT(1),
    ),
    "infomec": lambda: metrics.infomec(*TABLE, discrete_codes=np.False_, seed=INT(0)),
    "udr": lambda: metrics.udr(
        [TABLE[0]] * 2, [np.ones(3)] * 2, kl_threshold=FLOAT(0.5), seed=INT(0)
    ),
    "factor_vae_score": lambda: metrics.factor_vae_score(
        perfect, GRID, batch=INT(8), train_votes=INT(40), eval_votes=INT(20), seed=INT(1),
        prune_std=FLOAT(0.1), batch_size=INT(64),
    ),
    "z_diff": lambda: metrics.z_diff(
        perfect, GRID, pairs=INT(4), train_points=INT(64), test_points=INT(32),
        seed=INT(1), max_images=INT(50),
    ),
    "tpl": lambda: metrics.tpl(decode, CODES, segments=INT(4), span=FLOAT(2), threshold=FLOAT(0.5)),
    "ppl": lambda: metrics.ppl(
        decode, lambda n: CODES[:n], pairs=INT(6), epsilon=FLOAT(0.1), seed=INT(2)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_details_are_plain_numbers_whatever_the_options_were(name):
    result = OPTIONS[name]()
    assert type(result.score) is float
    read = json.loads(json.dumps(result.details))
    assert read == result.details


@pytest.mark.parametrize("continuous", [(0.0,), (True,), np.array([0.5]), "0"])
def test_columns_are_integers(continuous):
    for metric in (metrics.sap, lambda *t, **k: metrics.dci_es(*t, *t, **k)):
        with pytest.raises(TypeError, match=r"^continuous must be integers"):
            metric(*TABLE, continuous=continuous)


SEEDED = {
    "dci": lambda seed: metrics.dci(*TABLE, seed=seed),
    "dci_es": lambda seed: metrics.dci_es(*TABLE, *TABLE, seed=seed),
    "infomec": lambda seed: metrics.infomec(*TABLE, seed=seed),
    "factor_vae_score": lambda seed: metrics.factor_vae_score(perfect, GRID, seed=seed),
    "z_diff": lambda seed: metrics.z_diff(perfect, GRID, seed=seed),
    "sample_codes": lambda seed: metrics.sample_codes(perfect, GRID, seed=seed),
    "encode_once": lambda seed: metrics.encode_once(perfect, GRID, max_images=5, seed=seed),
    "ppl": lambda seed: metrics.ppl(decode, lambda n: CODES[:n], pairs=6, seed=seed),
    "class_swaps": lambda seed: metrics.class_swaps(
        encode, decode, IMAGES, LABELS, classify, factors=[0], seed=seed
    ),
}


@pytest.mark.parametrize("name", SEEDED)
def test_seeds_are_integers_that_are_not_negative(name):
    for seed, error in ((-1, ValueError), (None, TypeError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match=r"^seed must be an integer"):
            SEEDED[name](seed)
