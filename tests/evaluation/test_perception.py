from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from pydisent.data import ArrayDataset
from pydisent.evaluation.metrics import perception
from pydisent.evaluation.perception import TPL_SETTINGS, Perception
from pydisent.evaluation.scoring import score
from pydisent.metrics import FixedFeatures, fid, ppl, tpl


class System:
    """Three codes: brightness, a stripe's brightness, and one that does nothing."""

    name, device, code_names = "stripes", torch.device("cpu"), ["z1", "z2", "z3"]

    def sample_code(self, n, generator=None):
        return torch.randn(n, 3, generator=generator)

    def decode(self, codes):
        assert not torch.is_grad_enabled()
        shade = torch.sigmoid(codes)[:, :, None, None]
        images = shade[:, :1].repeat(1, 1, 16, 16)
        images[:, :, 4:7] = shade[:, 1:2]
        return images


@dataclass
class Run:
    dataset: object
    system: System = field(default_factory=System)
    plan: object = None


@pytest.fixture
def run(monkeypatch):
    for name, value in (("IMAGES", 400), ("PAIRS", 50), ("TRAVERSALS", 6)):
        monkeypatch.setattr(perception, name, value)
    images = np.random.default_rng(0).integers(0, 256, (500, 1, 16, 16))
    return Run(ArrayDataset("noise", images.astype(np.uint8)))


def codes(count, seed=0):
    return System().sample_code(count, torch.Generator().manual_seed(seed))


def test_scores_are_those_of_the_metrics(run):
    found = score(run, ("tpl", "ppl", "fid"))
    decode = torch.no_grad()(run.system.decode)
    lengths = tpl(decode, codes(6))
    assert found["tpl"]["score"] == pytest.approx(lengths.score)
    details = found["tpl"]["details"]
    assert details["per_dimension"] == pytest.approx(lengths.details["per_dimension"])
    assert (details["active"], details["samples"], details["codes"]) == (2, 6, ["z1", "z2", "z3"])
    assert found["ppl"]["score"] == pytest.approx(ppl(decode, codes, pairs=50).score)
    numbers = np.random.default_rng(0).choice(500, 400, replace=False)
    real = run.dataset.images(np.sort(numbers))
    assert found["fid"]["score"] == pytest.approx(fid(real, decode(codes(400))).score)
    assert (found["fid"]["details"]["real"], found["fid"]["details"]["fake"]) == (400, 400)
    for entry in found.values():
        assert entry["details"]["distance"].startswith("fixed-features-1")
        assert entry["details"]["notice"] == FixedFeatures.notice


def test_the_seed_and_the_threshold(run):
    def scores(**options):
        return {k: v["score"] for k, v in score(run, ("tpl", "ppl", "fid"), **options).items()}

    assert scores() == scores()
    other = scores(seed=1)
    assert all(other[name] != value for name, value in scores().items())
    strict = score(run, ("tpl",), perception=Perception(threshold=3.0))["tpl"]
    lengths = strict["details"]["per_dimension"]
    assert strict["score"] == pytest.approx(sum(x for x in lengths if x >= 3))
    assert strict["details"]["threshold"] == 3


def test_many_codes_take_fewer_traversals(run, monkeypatch):
    monkeypatch.setattr(perception, "TRAVERSED_IMAGES", 49 * 3 * 5)
    assert score(run, ("tpl",))["tpl"]["details"]["samples"] == 5
    monkeypatch.setattr(perception, "TRAVERSED_IMAGES", 1)
    assert score(run, ("tpl",))["tpl"]["details"]["samples"] == 4


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """VGG16 and LPIPS in their official layouts, random."""
    folder = tmp_path_factory.mktemp("weights")
    generator = torch.Generator().manual_seed(0)
    state, number, channels = {}, 0, 3
    for widths in ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3):
        for width in widths:
            shape = (width, channels, 3, 3)
            state[f"features.{number}.weight"] = torch.randn(shape, generator=generator) * 0.05
            state[f"features.{number}.bias"] = torch.zeros(width)
            number, channels = number + 2, width
        number += 1
    torch.save(state, folder / "vgg16.pth")
    lin = {f"lin{k}.model.1.weight": torch.ones(1, c, 1, 1) / c
           for k, c in enumerate((64, 128, 256, 512, 512))}  # fmt: skip
    torch.save(lin, folder / "lpips.pth")
    return folder


def test_vgg16_scores_tpl_and_ppl(run, weights, monkeypatch):
    monkeypatch.setattr("pydisent.evaluation.perception.SEGMENTS", 3)
    nets = Perception(weights / "vgg16.pth", weights / "lpips.pth", threshold=0.01)
    found = score(run, ("tpl", "ppl", "fid"), perception=nets)
    assert found["tpl"]["details"]["distance"] == "vgg16-lpips"
    assert found["ppl"]["details"]["distance"] == "vgg16-lpips"
    assert found["fid"]["details"]["distance"] == "fixed-features-1"
    assert found["tpl"]["details"]["notice"] is None
    assert found["tpl"]["details"]["segments"] == 3
    assert nets.tpl_settings() == {key: found["tpl"]["details"][key] for key in TPL_SETTINGS}


def test_what_is_wrong_is_said_before_any_work(run, weights, tmp_path):
    kept = {}
    for nets, names, words in (
        (
            Perception(vgg16=weights / "vgg16.pth"),
            ("ppl", "tpl"),
            "threshold must be given for TPL",
        ),
        (Perception(threshold=float("nan")), ("ppl", "tpl"), "threshold must be finite and >= 0"),
        (Perception(lpips=weights / "lpips.pth"), ("fid",), "lpips must be given with vgg16"),
        (Perception(vgg16=weights / "lpips.pth"), ("ppl",), "lacks features.0.weight"),
        (Perception(inception=weights / "vgg16.pth"), ("ppl", "fid"), "lacks fc.weight"),
    ):
        with pytest.raises(ValueError, match=words):
            score(run, names, perception=nets, keep=kept.update)
    with pytest.raises(FileNotFoundError, match=r"inception must be a file of weights, got .*none"):
        score(run, ("fid",), perception=Perception(inception=tmp_path / "none"))
    assert not kept
    # What a metric does not need is not read.
    assert score(run, ("ppl",), perception=Perception(inception=tmp_path / "none")).keys() == {
        "ppl"
    }
