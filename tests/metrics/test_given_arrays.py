"""Scores depend neither on how numbers are stored nor on what the definitions leave out."""

import warnings

import numpy as np
import pytest
import torch

from pydisent import metrics
from pydisent.data.indices import integer_array, plain_array

RNG = np.random.default_rng(0)
FACTORS = np.stack([RNG.integers(0, size, 150) for size in (2, 3, 7, 25)], 1)
NOISE = RNG.normal(size=(150, 6))
CODES = np.concatenate([FACTORS + 0.1 * NOISE[:, :4], NOISE[:, 4:]], 1)
EVEN, ODD = slice(0, None, 2), slice(1, None, 2)


def halves(metric, **options):
    """A metric of two tables, as one of a table whose odd rows are for testing."""
    return lambda c, f: metric(c[EVEN], f[EVEN], c[ODD], f[ODD], **options)


QUANTITIES = {
    "mcc": metrics.mcc,
    "sap": lambda c, f: metrics.sap(c, f, continuous=range(4)),
    "sap, tested": halves(metrics.sap, continuous=range(4)),
    "sap by correlation": lambda c, f: metrics.sap(c, f, variant="continuous"),
}
BINNED = {"irs": metrics.irs}
TREES = {
    "dci": lambda c, f: metrics.dci(c[EVEN], f[EVEN, 1:3]),
    "dci_es": halves(metrics.dci_es, trees=2, depths=(1, 8)),
    "dci_es of quantities": halves(metrics.dci_es, continuous=range(4), trees=2, depths=(1, 8)),
}
CLASSES = {
    "mig": metrics.mig,
    "modularity": metrics.modularity,
    "irs of all values": lambda c, f: metrics.irs(c, f, bins=None),
    "sap of classes": metrics.sap,
}
METRICS = QUANTITIES | BINNED | TREES | CLASSES
STORAGES = {
    "negated": lambda x: torch._neg_view(torch.tensor(-x)),
    "of a conjugate": lambda x: torch.complex(0 * torch.tensor(x), -torch.tensor(x)).conj().imag,
    "real part": lambda x: torch.complex(torch.tensor(x), torch.tensor(x)).real,
    "with gradient": lambda x: torch.tensor(x, requires_grad=True),
    "transposed": lambda x: torch.tensor(x.T.copy()).T,
    "Fortran": np.asfortranarray,
    "backwards": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "big-endian": lambda x: x.astype(">f8"),
    "lists": lambda x: x.tolist(),
    "nothing masked": np.ma.masked_invalid,
}


@pytest.fixture(scope="module")
def plain():
    return {name: metric(CODES, FACTORS) for name, metric in METRICS.items()}


@pytest.mark.parametrize("storage", STORAGES)
def test_codes_are_the_same_numbers_in_any_storage(storage, plain):
    stored = STORAGES[storage]
    for name in ("mig", "mcc", "sap by correlation"):
        assert METRICS[name](stored(CODES), FACTORS) == plain[name]
    nats = np.ones((1, 6))
    assert metrics.udr([stored(CODES)] * 2, [stored(nats)] * 2) == metrics.udr(
        [CODES] * 2, [nats] * 2
    )
    masks = RNG.uniform(size=(6, 5))
    given = stored(masks)
    wide = [[[row]] for row in given] if storage == "lists" else given[:, None, None]
    assert metrics.mask_overlap(wide).details["peak"] == [masks.max(1).mean()]


@pytest.mark.parametrize("storage", ["negated", "transposed", "backwards", "lists"])
def test_factors_are_the_same_numbers_in_any_storage(storage):
    assert metrics.mcc(CODES, STORAGES[storage](FACTORS)) == metrics.mcc(CODES, FACTORS)
    attributes = STORAGES[storage](FACTORS % 2)
    found = metrics.attribute_classification(CODES, attributes, CODES, FACTORS % 2)
    assert found == metrics.attribute_classification(CODES, FACTORS % 2, CODES, FACTORS % 2)


UNREADABLE = [
    (torch.ones(3, 2).to_sparse(), TypeError, "must be a strided tensor, got layout"),
    (torch.ones(3, 2, device="meta"), TypeError, "must hold data, got a tensor on the meta"),
    (np.ma.masked_less(np.arange(6).reshape(3, 2), 2), ValueError, "masked entries, got 2"),
]


@pytest.mark.parametrize(("values", "error", "words"), UNREADABLE)
def test_what_is_not_there_is_not_counted(values, error, words):
    with pytest.raises(error, match=f"^x {words}|^x must not have {words}"):
        plain_array(values, "x")
    for metric in (metrics.mig, metrics.mcc, metrics.sap):
        with pytest.raises(error, match=f"^codes .*{words}"):
            metric(values, FACTORS[:3])
        with pytest.raises(error, match=f"^factors .*{words}"):
            metric(CODES[:3], values)
    with pytest.raises(error, match=f"^masks .*{words}"):
        metrics.mask_overlap(values)


def test_integers_beyond_64_bits_with_a_sign_are_refused():
    assert integer_array(np.array([2**63 - 1], np.uint64), "x") == 2**63 - 1
    with pytest.raises(ValueError, match=rf"^x must be below 2\*\*63, got {2**63}$"):
        integer_array(np.array([1, 2**63], np.uint64), "x")


def test_masks_are_real():
    with pytest.raises(TypeError, match=r"^masks must be real numbers, got complex128$"):
        metrics.mask_overlap(np.ones((1, 1, 2, 2)) * 1j)


@pytest.mark.parametrize("origin", [-(2**63), 10**12, 2**62])
@pytest.mark.parametrize("name", METRICS)
def test_scores_do_not_depend_on_the_origin_of_factors(name, origin, plain):
    found = METRICS[name](CODES, FACTORS + origin)
    assert found.score == pytest.approx(plain[name].score, abs=1e-12)


def squared_correlations(codes, values):
    return np.corrcoef(codes.T, values.T)[: codes.shape[1], codes.shape[1] :] ** 2


@pytest.mark.parametrize("name", QUANTITIES)
def test_a_quantity_is_measured_by_its_values(name):
    """Expected: NumPy's correlation with the values, which are far from equally spaced."""
    values = FACTORS**3
    matrix = np.array(QUANTITIES[name](CODES, values).details["matrix"])
    rows = ODD if "tested" in name else slice(None)
    expected = squared_correlations(CODES[rows], values[rows])
    expected = np.sqrt(expected) if name == "mcc" else expected
    np.testing.assert_allclose(matrix, expected, atol=1e-12)
    assert np.abs(squared_correlations(CODES, FACTORS) - expected).max() > 0.05


def test_forests_of_quantities_predict_their_values():
    from sklearn.ensemble import RandomForestRegressor

    values = FACTORS**3
    found = TREES["dci_es of quantities"](CODES, values + 10**12).details["losses"][-1]
    for j, loss in enumerate(found):
        forest = RandomForestRegressor(2, max_depth=8, random_state=0)
        forest.fit(CODES[EVEN], values[EVEN, j])
        best = 1 - forest.score(CODES[ODD], values[ODD, j])
        assert loss == pytest.approx(best, rel=1e-9)


def test_irs_bins_the_range_of_a_factor_with_many_values():
    values = FACTORS**3
    edges = np.linspace(0, 24**3, 21)
    binned = np.digitize(values[:, 3], edges[:-1])
    assert len(np.unique(binned)) < 20 < len(np.unique(values[:, 3]))
    by_hand = np.column_stack([values[:, :3], binned])
    found, expected = metrics.irs(CODES, values), metrics.irs(CODES, by_hand, bins=None)
    np.testing.assert_allclose(found.details["matrix"], expected.details["matrix"], atol=1e-12)


@pytest.mark.parametrize("exponent", [-20, -40, 3])
@pytest.mark.parametrize("name", ["mig", "modularity", "irs", "mcc", *TREES])
def test_scores_do_not_depend_on_the_scale_of_codes(name, exponent, plain):
    """A power of two alters no digit."""
    found = METRICS[name](np.ldexp(CODES, exponent), FACTORS)
    assert found.score == plain[name].score


@pytest.mark.parametrize("estimator", ["presorted", "gbt"])
def test_trees_see_a_code_of_any_scale(estimator):
    small = CODES * [1, 2.0**-30, 1, 2.0**-50, 1, 1]
    for test in ((), (small[ODD], FACTORS[ODD, :2])):
        found = metrics.dci(small[EVEN], FACTORS[EVEN, :2], *test, estimator=estimator, seed=3)
        wide = [x * [1, 2.0**30, 1, 2.0**50, 1, 1] if x.shape[1] == 6 else x for x in test]
        plain = metrics.dci(CODES[EVEN], FACTORS[EVEN, :2], *wide, estimator=estimator, seed=3)
        assert found.details["importance"] == plain.details["importance"]
        assert found.details["informativeness"] == plain.details["informativeness"]


@pytest.mark.parametrize("similarity", ["lasso", "spearman"])
def test_udr_of_codes_of_any_scale(similarity):
    nats, other = np.ones((2, 6)), CODES[:, ::-1] + 0.1 * NOISE
    plain = metrics.udr([CODES, other], nats, similarity=similarity)
    for exponent in (-600, 100):
        found = metrics.udr([np.ldexp(CODES, exponent), other], nats, similarity=similarity)
        assert found.score == pytest.approx(plain.score, abs=1e-12)
    with pytest.raises(ValueError, match=r"^seed must be an integer in"):
        metrics.udr([CODES, other], nats, similarity=similarity, seed=-1)


MEAN, EYE = torch.zeros(3), torch.eye(3)
SKEWED = torch.eye(3) + torch.ones(3, 3).triu(1)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"covariance": SKEWED}, ValueError, "^covariance must be symmetric, got entries that dif"),
        ({"other_covariance": -EYE}, ValueError, "^other_covariance must be positive semidefinite"),
        ({"covariance": EYE + 1j}, TypeError, "^covariance must be real, got torch.complex64"),
        ({"covariance": EYE.numpy()}, TypeError, "^covariance must be a torch.Tensor, got ndarray"),
        ({"mean": [0.0] * 3}, TypeError, "^mean must be a torch.Tensor, got list"),
        ({"mean": MEAN[:0]}, ValueError, r"^mean must be \(F,\), F >= 1, got \(0,\)"),
    ],
)
def test_what_is_no_gaussian_has_no_frechet_distance(change, error, words):
    given = {"mean": MEAN, "covariance": EYE, "other_mean": MEAN, "other_covariance": EYE}
    assert metrics.frechet_distance(**given) == 0
    with pytest.raises(error, match=words):
        metrics.frechet_distance(**(given | change))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_covariances_of_rounded_statistics_are_accepted(dtype):
    features = torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    rounded = features.T.cov().to(dtype)  # singular: eigenvalues of either sign, but for rounding
    assert torch.linalg.eigvalsh(rounded.double())[0] < 0
    for given in (rounded, rounded.double()) if dtype == torch.float32 else (rounded,):
        assert metrics.frechet_distance(*(torch.zeros(64), given) * 2) == pytest.approx(0, abs=0.1)


IMAGES = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_autocast_does_not_alter_a_distance_or_features():
    def scores():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few images for FID
            fid = metrics.fid(IMAGES, 0.9 * IMAGES).score
        squared = metrics.FixedFeatures(squared=True).distance(IMAGES, 0.99 * IMAGES).tolist()
        return fid, squared

    plain = scores()
    with torch.autocast("cpu", torch.bfloat16):
        assert scores() == plain
        assert torch.is_autocast_enabled("cpu")


def test_autocast_does_not_alter_a_trained_classifier(monkeypatch):
    monkeypatch.setenv("PYDISENT_CACHE", "off")
    labels = torch.arange(12) % 2

    def weights():
        net = metrics.trained_classifier(IMAGES, labels, name="x", updates=2)
        return torch.cat([p.flatten() for p in net.parameters()])

    plain = weights()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(weights(), plain)
