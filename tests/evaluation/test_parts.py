"""Of which images a score is, by which variant, of how many: recorded, said, and not mixed."""

import json

import numpy as np
import pytest
import torch
from _pixel_runs import Grid, Run, attributed
from _written_runs import write_run

from pydisent.data import ArrayDataset
from pydisent.evaluation import compare, score
from pydisent.evaluation.conditions import conditions_of, title
from pydisent.evaluation.metrics import perception
from pydisent.reports import write_comparison


def plain(level, count=60):
    return ArrayDataset("plain", np.full((count, 1, 2, 2), level, np.uint8))


@pytest.mark.parametrize(
    ("split", "level", "part"),
    [("auto", 102, "test"), ("test", 102, "test"), ("train", 204, "train")],
)
def test_reconstructions_are_of_images_that_training_did_not_see(split, level, part):
    """The decoder halves each pixel, so that the error tells which images were decoded."""
    run = Run(plain(204), held_out=plain(102))
    found = score(run, ("reconstruction",), split=split)["reconstruction"]
    assert found["score"] == pytest.approx((level / 255 / 2) ** 2, rel=1e-5)
    assert found["details"]["split"] == part


def test_where_training_saw_all_images_it_is_said_or_refused():
    run = Run(plain(204))
    assert score(run, ("reconstruction",))["reconstruction"]["details"]["split"] == "train"
    with pytest.raises(ValueError, match="split must be 'auto' or 'train' for pixels on plain"):
        score(run, ("reconstruction",), split="test")
    with pytest.raises(ValueError, match="as training saw all images"):
        score(Run(Grid()), ("mig",), split="test")
    with pytest.raises(ValueError, match="split must be one of 'auto', 'train', 'test'"):
        score(run, ("reconstruction",), split="validation")
    assert score(Run(Grid()), ("mig", "z-diff"))["z-diff"]["details"]["split"] == "train"


def test_attributes_are_learned_on_training_images_and_tested_on_others():
    """In the test images the first attribute is turned round: nothing learned of it holds."""
    unseen = attributed()
    unseen.attributes = unseen.attributes.clone()
    unseen.attributes[:, 0] = ~unseen.attributes[:, 0]
    run = Run(attributed(), held_out=unseen)
    found = score(run, ("attributes",))["attributes"]
    assert found["details"]["accuracy"][0] == 0
    assert found["details"]["split"] == "test"
    assert (found["details"]["samples"], found["details"]["test_samples"]) == (600, 600)
    assert score(run, ("attributes",), split="train")["attributes"]["details"]["accuracy"][0] == 1


def test_variants_are_scores_of_their_own():
    """By their definitions: a line predicts a quantity that is the code itself perfectly."""
    run = Run(Grid())
    run.dataset.factor_names = ("shape", "scale", "x", "y")
    names = ("sap", "sap-kumar", "sap-svm", "sap-continuous")
    found = score(run, names)
    details = {name: found[name]["details"] for name in names}
    assert details["sap-kumar"]["quantities"] == ["scale", "x", "y"]
    matrix = np.array(details["sap-kumar"]["matrix"])
    np.testing.assert_allclose(matrix.diagonal(), 1, atol=1e-9)
    thresholds = np.array(details["sap"]["matrix"])
    np.testing.assert_array_equal(matrix[:, 0], thresholds[:, 0])  # the class
    # By thresholds a code that knows nothing is right once in as many values as there are.
    assert thresholds[1, 2] == pytest.approx(1 / 5, abs=0.03)
    assert matrix[1, 2] == pytest.approx(0, abs=0.01)
    assert found["sap-svm"]["score"] == details["sap"]["svm"]
    assert found["sap-continuous"]["score"] == details["sap"]["continuous"]
    said = [title(name, conditions_of(name, details[name])) for name in names]
    assert said == ["sap (thresholds)", *names[1:]]
    classifiers = score(run, ("z-diff", "z-diff-kumar", "z-diff-kumar-squared-hinge"))
    said = [title(n, conditions_of(n, entry["details"])) for n, entry in classifiers.items()]
    assert said == ["z-diff (higgins)", "z-diff-kumar", "z-diff-kumar-squared-hinge"]


class Shades:
    """Two codes, of which the first is the image's brightness."""

    name, device, code_names = "shades", torch.device("cpu"), ["z1", "z2"]

    def sample_code(self, n, generator=None):
        return torch.randn(n, 2, generator=generator)

    def decode(self, codes):
        return torch.sigmoid(codes[:, :1, None, None]).repeat(1, 1, 8, 8)


class ShadesVAE(Shades):
    posterior = None


@pytest.mark.filterwarnings("ignore:FID of")
@pytest.mark.parametrize(("system", "segments"), [(Shades(), 48), (ShadesVAE(), 50)])
def test_published_counts(monkeypatch, system, segments):
    assert perception.PUBLISHED_TRAVERSALS == 300
    assert perception.PUBLISHED_VAE_SEGMENTS == 50
    assert perception.PUBLISHED_PAIRS == perception.PUBLISHED_IMAGES == 50_000
    for name, count in (("TRAVERSALS", 9), ("PAIRS", 40), ("IMAGES", 70)):
        monkeypatch.setattr(perception, f"PUBLISHED_{name}", count)
        monkeypatch.setattr(perception, name, count + 1)
    told = {}
    run = Run(ArrayDataset("grey", np.full((90, 1, 8, 8), 99, np.uint8)), system=system)
    run.dataset._array[:] += np.arange(90, dtype=np.uint8)[:, None, None, None]
    found = score(
        run,
        ("tpl", "ppl", "fid"),
        published=True,
        progress=lambda name, done, total: told.setdefault(name, []).append((done, total)),
    )
    details = {name: entry["details"] for name, entry in found.items()}
    assert (details["tpl"]["samples"], details["tpl"]["segments"]) == (9, segments)
    assert details["ppl"]["pairs"] == 40
    assert (details["fid"]["real"], details["fid"]["fake"]) == (70, 70)
    for name, entry in details.items():
        assert entry["counts"] == "published"
        assert "published counts" in title(name, conditions_of(name, entry))
        done, totals = zip(*told[name])
        assert done[-1] == totals[0] == totals[-1]
        assert list(done) == sorted(done)
    usual = score(run, ("ppl", "fid"))
    assert usual["ppl"]["details"]["pairs"] == 41
    assert "counts" not in usual["fid"]["details"]


def scored(path, seed, **details):
    run = write_run(path, {}, seed=seed)
    entries = {name: {"score": 1.0 + seed, "details": about} for name, about in details.items()}
    (run / "scores.json").write_text(json.dumps(entries))
    return run


def test_scores_of_different_conditions_are_not_in_one_mean(tmp_path):
    old = scored(tmp_path / "old", 0, reconstruction={}, sap={"variant": "thresholds"})
    new = scored(tmp_path / "new", 1, reconstruction={"split": "test"}, sap={"variant": "kumar"})
    comparison = compare([old, new])
    assert comparison.header == (
        "system", "seeds", "reconstruction (training images)", "reconstruction (test images)",
        "sap (thresholds)", "sap (kumar)",
    )  # fmt: skip
    assert comparison.rows() == [
        ("beta-vae", "0 1", "1.000 (1)", "2.000 (1)", "1.000 (1)", "2.000 (1)")
    ]
    assert len([r for r in comparison.remarks() if "not comparable" in r]) == 2
    assert not any("lacks" in remark for remark in comparison.remarks())
    # What an older score does not say was always so: the same column.
    same = scored(tmp_path / "same", 2, reconstruction={"split": "train"})
    comparison = compare([old, same])
    assert comparison.metrics == ("reconstruction", "sap")
    assert comparison.header[2] == "reconstruction (training images)"
    assert comparison.rows()[0][2] == "2.000 ± 1.414 (2)"


@pytest.mark.parametrize(
    ("metric", "one", "other"),
    [
        ("fid", {"real": 70, "fake": 70}, {"real": 50_000, "fake": 50_000}),
        ("tpl", {"segments": 48}, {"segments": 48, "counts": "published"}),
        ("ppl", {"pairs": 40}, {"pairs": 50_000}),
        ("mig", {"images_drawn_from": 100_000}, {"images_drawn_from": 737_280}),
    ],
)
def test_nor_are_those_of_different_counts(tmp_path, metric, one, other):
    runs = [scored(tmp_path / str(s), s, **{metric: d}) for s, d in enumerate((one, other))]
    assert len(compare(runs).metrics) == 2
    runs = [scored(tmp_path / f"{s}b", s, **{metric: other}) for s in range(2)]
    assert compare(runs).metrics == (metric,)


def test_the_pictures_axis_is_the_error_that_most_runs_have(tmp_path):
    runs = [
        scored(tmp_path / str(s), s, reconstruction={"split": part}, mig={})
        for s, part in enumerate(("train", "test", "test"))
    ]
    comparison = compare(runs)
    assert comparison.reconstruction == "reconstruction (test images)"
    names = [path.name for path in write_comparison(comparison, tmp_path / "out")]
    assert "tradeoff.png" in names
