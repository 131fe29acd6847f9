"""How many codes are active, and what is said where at most one is."""

import numpy as np
import pytest

from pydisent import _notice
from pydisent.metrics import dci, factor_vae_score, irs, mig, modularity, sap, z_diff
from pydisent.metrics._active import active_codes

TABLES = {
    "mig": mig,
    "modularity": modularity,
    "irs": irs,
    "dci": dci,
    "sap": sap,
    "sap svm": lambda *tables: sap(*tables, variant="svm"),
    "sap continuous": lambda *tables: sap(*tables, variant="continuous"),
}
SCALED = ("sap", "sap svm")  # depend on the scale of codes


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(_notice, "_given", set())


def codes(*stds, count=600):
    """Codes with exactly these standard deviations, and two factors of which the first two know."""
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 3, (count, 2))
    noise = rng.normal(size=(count, len(stds)))
    noise[:, :2] = factors[:, : len(stds)] + 0.1 * noise[:, :2]
    return (noise - noise.mean(0)) / noise.std(0) * np.array(stds), factors


def test_the_threshold_is_absolute_or_a_share():
    table, _ = codes(1, 0.06, 0.04, 0.0)
    assert active_codes(table, 0.05).tolist() == [True, True, False, False]
    assert active_codes(table, None).tolist() == [True, True, False, False]
    assert active_codes(table / 10, 0.05).tolist() == [True, False, False, False]
    assert active_codes(table / 10, None).tolist() == [True, True, False, False]
    assert not active_codes(np.zeros((9, 2)), None).any()
    assert not active_codes(np.zeros((9, 2)), 0.0).any()
    # A constant with the noise of float32, however alike in all codes.
    rounded = 1e3 * (1 + 1e-7 * np.random.default_rng(0).normal(size=(9, 2)))
    assert not active_codes(rounded, None).any()


@pytest.mark.parametrize("name", TABLES)
def test_table_metrics_warn_of_one_active_code(name, recwarn):
    pytest.importorskip("sklearn")
    metric = TABLES[name]
    two = metric(*codes(1, 1, 0.01))
    assert two.details["active_codes"] == 2
    assert "notice" not in two.details
    assert not recwarn.list
    with pytest.warns(UserWarning, match="pydisent: at most one code is active"):
        one = metric(*codes(1, 0.02, 0.01))
    assert one.details["active_codes"] == 1
    assert one.details["notice"].startswith("at most one code is active")
    metric(*codes(1, 0.02, 0.01))  # says so once
    assert not recwarn.list
    small = metric(*codes(0.02, 0.02, 0.02))
    assert small.details["active_codes"] == (0 if name in SCALED else 3)


def test_the_jump_of_sap_with_the_scale_is_said():
    """Two codes that know a factor each, where the threshold cuts off both, one, or none."""
    table, factors = codes(0.051, 0.049)
    with pytest.warns(UserWarning, match=r"standard deviation of at least 0\.05: .* jump with the"):
        scores = [sap(table * scale, factors) for scale in (0.9, 1.0, 1.1)]
    assert [found.details["active_codes"] for found in scores] == [0, 1, 2]
    assert ["notice" in found.details for found in scores] == [True, True, False]
    assert scores[0].score == 0
    assert scores[2].score == pytest.approx(sap(table, factors, prune_std=0).score)
    assert "notice" not in sap(table * 0.9, factors, prune_std=0).details


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        (z_diff, {"train_points": 100, "test_points": 50, "pairs": 4}),
        (factor_vae_score, {"train_votes": 100, "eval_votes": 50}),
    ],
)
def test_metrics_of_draws(small_grid, encoders, metric, options, recwarn):
    scales = {2: (1, 1, 0, 0, 0), 1: (1, 0.01, 0.01, 0.01, 0.01), 0: (0.01,) * 5}
    for count, scale in scales.items():
        weight = encoders.perfect(small_grid.images([0])).new_tensor(scale)
        found = metric(lambda x, w=weight: encoders.perfect(x) * w, small_grid, **options).details
        assert found["active_codes"] == count
        assert ("notice" in found) == (count < 2)
    (warned,) = recwarn.list  # once, for both
    assert "at most one code is active" in str(warned.message)


def test_the_threshold_is_the_metrics_own(small_grid, encoders):
    def encode(images):
        return encoders.perfect(images) * 0.2  # standard deviations of 0.06 to 0.1

    found = factor_vae_score(encode, small_grid, train_votes=50, eval_votes=0, variant="zhu")
    assert found.details["active_codes"] == found.details["num_active_dims"] < 5
    found = factor_vae_score(encode, small_grid, train_votes=50, eval_votes=0)
    assert found.details["active_codes"] == 5
