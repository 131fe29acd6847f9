from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from _pixel_runs import Grid, Run, System, attributed

from pydisent.data import ArrayDataset, ObservedFactorDataset, Subset
from pydisent.evaluation.metrics import reconstruction
from pydisent.evaluation.registry import METRICS
from pydisent.evaluation.scoring import MetricsFailedError, applicable, metric_names, score

pytest.importorskip("sklearn")
FACTORS = ("z-diff", "factor-vae", "sap", "mig", "dci", "modularity", "irs", "mcc")
PERCEPTUAL = ("tpl", "ppl", "fid")


def observed():
    """Two of three images of a grid, with their factors."""
    grid = Grid()
    rows = np.random.default_rng(0).permutation(240)[:160]
    meanings = [list(map(str, range(size))) for size in grid.factor_sizes]
    values = grid.factors(rows)
    return ObservedFactorDataset(Subset(grid, rows), values, grid.factor_names, meanings)


def test_which_metrics_fit():
    plain = ArrayDataset("plain", np.zeros((9, 1, 2, 2), np.uint8))
    assert applicable(Run(Grid())) == (*FACTORS, "reconstruction")
    assert applicable(Run(plain)) == ("reconstruction",)
    assert applicable(Run(attributed())) == ("reconstruction", "attributes")  # others if named
    assert applicable(Run(observed())) == (*FACTORS, "reconstruction")
    leading = SimpleNamespace(config=SimpleNamespace(k=2))
    assert applicable(Run(plain, plan=leading)) == ("f-diagonal", "reconstruction")
    assert applicable(Run(ArrayDataset("seen", np.zeros((9, 3, 8, 9), np.uint8)))) == (
        "reconstruction",
        *PERCEPTUAL,
    )
    assert set(metric_names()) >= {*FACTORS, *PERCEPTUAL, "f-diagonal", "reconstruction"}


def test_metrics_that_tell_factors_or_codes_apart_need_two_of_them():
    """They were chosen where no metric was named, and then failed."""
    grid = Grid()
    rows = range(60)
    single = ObservedFactorDataset(Subset(grid, rows), grid.factors(rows)[:, 3:], ["d"], ["0123"])
    apart = {"z-diff", "dci", "modularity"}
    assert set(applicable(Run(observed()))) - set(applicable(Run(single))) == apart
    scores = score(Run(single), applicable(Run(single)))
    assert scores.keys() == {*FACTORS, "reconstruction"} - apart
    with pytest.raises(ValueError, match="at least 2 factors"):
        score(Run(single), ["modularity"])
    narrow = Run(observed())
    narrow.system.code_names = ("p",)
    assert set(applicable(Run(observed()))) - set(applicable(narrow)) == {"dci"}


def test_a_perfect_code_scores_as_it_should_and_is_made_once():
    run = Run(Grid())
    scores = score(run, FACTORS)
    assert run.dataset.read == 240
    for name in ("z-diff", "factor-vae", "mig", "dci", "modularity", "irs", "mcc"):
        # Samples of the grid, not all of it: other codes know a little by chance.
        assert scores[name]["score"] > 0.98, name
    chance = np.mean([1 / size for size in (4, 3, 5, 4)])
    assert scores["sap"]["score"] == pytest.approx(1 - chance, abs=0.03)
    assert scores["sap"]["details"].keys() >= {"svm", "continuous", "matrix"}
    assert scores["sap"]["details"]["continuous"] > 0.95
    for name in ("factor-vae", "sap", "mig", "dci", "modularity", "irs", "mcc"):
        assert scores[name]["details"]["codes"] == ["p", "q", "r", "s"]
        assert scores[name]["details"]["factors"] == ["a", "b", "c", "d"]


def test_metrics_that_are_measured_if_they_are_named():
    """Of few samples: InfoMEC and the forests of DCI-ES."""
    assert not {"infomec", "dci-es"} & set(applicable(Run(Grid())))
    assert METRICS["dci-es"].slow
    scores = score(Run(Grid()), ("infomec", "dci-es", "mcc"))
    assert scores["infomec"]["score"] > 0.98
    assert scores["infomec"]["details"]["compactness"] > 0.98
    assert scores["mcc"]["details"]["spearman"] > 0.99
    details = scores["dci-es"]["details"]
    assert details["informativeness"] > 0.99
    assert details["quantities"] == ["a", "b", "c", "d"]
    assert details["size"] == 1
    for one in scores.values():
        assert one["details"]["codes"] == ["p", "q", "r", "s"]


def test_factors_that_were_observed():
    scores = score(Run(observed()), FACTORS)
    for name in FACTORS:
        details = scores[name]["details"]
        assert "were observed in 160 images; a factor is fixed at the value" in details["observed"]
    assert scores["z-diff"]["score"] > 0.95
    assert scores["factor-vae"]["score"] > 0.95
    assert scores["mig"]["details"]["samples"] == 106
    assert scores["sap"]["details"]["test_samples"] == 54
    assert "observed" not in score(Run(Grid()), ("mig",))["mig"]["details"]


def test_attributes_are_factors_too():
    """Every pixel tells the first attribute, none the second."""
    scores = score(Run(attributed()), ("z-diff", "sap"))
    assert scores["z-diff"]["score"] > 0.98
    matrix = np.array(scores["sap"]["details"]["matrix"])
    assert matrix[:, 0] == pytest.approx(1)
    assert matrix[:, 1].max() < 0.7
    assert scores["sap"]["details"]["factors"] == ["bright", "noise"]
    assert "attributes count as factors" in scores["z-diff"]["details"]["observed"]


def test_few_active_codes_are_noted_and_not_warned_of(recwarn):
    class Dim(System):
        def encode(self, images):
            return images.flatten(1) * torch.tensor([1, 0.01, 0.01, 0.01])

    scores = score(Run(Grid(), Dim()), ("z-diff", "sap", "mig", "irs"))
    assert [scores[name]["details"]["active_codes"] for name in scores] == [1] * 4
    assert len({scores[name]["details"]["notice"] for name in scores}) == 2
    assert not [w for w in recwarn.list if "active" in str(w.message)]


def test_a_pool_is_named(monkeypatch):
    run = Run(Grid())
    scores = score(run, ("z-diff", "mig"), max_images=150)
    assert run.dataset.read == 150
    for name in scores:
        assert scores[name]["details"]["images_drawn_from"] == 150
    assert score(Run(Grid()), ("mig",))["mig"]["details"]["images_drawn_from"] == 240


def test_a_metric_that_fails_does_not_stop_the_others():
    run, kept = Run(Grid((4, 3, 1, 4))), {}
    with pytest.raises(MetricsFailedError, match=r"^8 of 9 metrics failed: ") as failure:
        score(run, applicable(run), keep=kept.update)
    assert kept.keys() == {"reconstruction"}
    for name in FACTORS:
        assert f"{name}: " in str(failure.value)
    assert "z-diff: dataset must have at least 2 values" in str(failure.value)
    assert "mig: factors must take at least two values each; column 2 is 0" in str(failure.value)


def test_each_score_is_kept_as_soon_as_it_is_made(monkeypatch):
    def interrupted(subject):
        raise KeyboardInterrupt

    monkeypatch.setitem(METRICS, "irs", replace(METRICS["irs"], measure=interrupted))
    kept = {}
    with pytest.raises(KeyboardInterrupt):
        score(Run(Grid()), ("mig", "modularity", "irs", "dci"), keep=kept.update)
    assert kept == score(Run(Grid()), ("mig", "modularity"))


def test_reconstruction(monkeypatch):
    monkeypatch.setattr(reconstruction, "RECONSTRUCTED", 100)
    run = Run(Grid())
    found = score(run, ("reconstruction",))["reconstruction"]
    numbers = np.random.default_rng(0).choice(240, 100, replace=False)
    expected = (run.dataset.images(numbers) * 0.5).square().mean().item()
    assert found["score"] == pytest.approx(expected, rel=1e-6)
    assert found["details"]["images"] == 100


def test_attributes():
    found = score(Run(attributed()), ("attributes",))["attributes"]
    assert found["details"]["attributes"] == ["bright", "noise"]
    assert (found["details"]["samples"], found["details"]["test_samples"]) == (400, 200)
    bright, noise = found["details"]["accuracy"]
    assert bright == 1
    assert noise < 0.75
    assert found["score"] == pytest.approx((bright + noise) / 2)


def test_what_does_not_fit_is_refused_before_any_work():
    run = Run(Grid())
    for name, words in (
        ("attributes", "for pixels on grid, got 'attributes', which needs a data set with attrib"),
        ("f-diagonal", "which needs a system with the setting k"),
        ("tpl", "for pixels on grid, got 'tpl', which needs images of one or three channels and"),
        ("tpl-2", "metric must be one of 'f-diagonal', 'f-diagonal-all', 'z-diff'.*, got 'tpl-2'"),
    ):
        with pytest.raises(ValueError, match=words):
            score(run, ("mig", name))
    assert run.dataset.read == 0
