"""Every entry at its smallest, from its plan to its page; runs that entries share are made once."""

import html
import importlib
import json
import re

import pytest
from _inline import InlineEngine

from pydisent import reproduce
from pydisent.metrics import sample_codes
from pydisent.reproduce.runs import Scale
from pydisent.reproduce.training import Training, finish

# Not the function of that name in `pydisent.metrics`.
z_diff_module = importlib.import_module("pydisent.metrics.z_diff")
_FEWER = {
    "pydisent.evaluation.metrics.edits.ATTRIBUTE_TRAIN": 60,
    "pydisent.evaluation.metrics.edits.ATTRIBUTE_TEST": 40,
    "pydisent.evaluation.metrics.edits.CLASSIFIER_TRAIN": 60,
    "pydisent.evaluation.metrics.edits.FLIP_VALIDATION": 4,
    "pydisent.evaluation.metrics.edits.FLIP_TEST": 8,
    "pydisent.evaluation.metrics.reconstruction.RECONSTRUCTED": 40,
    "pydisent.metrics._boosting.STAGES": 5,
    "pydisent.evaluation.metrics.perception.TRAVERSALS": 1,
    "pydisent.evaluation.metrics.perception.TRAVERSED_IMAGES": 1,
    "pydisent.evaluation.metrics.perception.PAIRS": 32,
    "pydisent.evaluation.metrics.perception.IMAGES": 64,
}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("reproduce")


@pytest.fixture(autouse=True)
def fewer(monkeypatch, short_eigenpaths):
    for name in ("train", "test"):
        monkeypatch.setitem(sample_codes.__kwdefaults__, name, 200)
    for variant in z_diff_module.TRAIN_POINTS:
        monkeypatch.setitem(z_diff_module.TRAIN_POINTS, variant, 320)
    monkeypatch.setitem(z_diff_module.z_diff.__kwdefaults__, "test_points", 100)
    for name, value in _FEWER.items():
        monkeypatch.setattr(name, value)


@pytest.mark.in_turn
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("entry", reproduce.entries(), ids=lambda entry: entry.name)
def test_from_plan_to_page(entry, out, monkeypatch):
    # Each of 512 colours must be among the images.
    images = 5000 if any(case.data == "color-dsprites" for case in entry.cases) else 500
    monkeypatch.setattr("pydisent.evaluation.scoring.MAX_IMAGES", images)
    scale, engine = Scale("smoke"), InlineEngine()
    if not any(scale.data(case) for case in entry.cases):
        pytest.skip(f"{entry.name} has no built-in data")
    training = Training(engine, "cpu", say=lambda line: None)
    (page,) = reproduce.reproduce([entry], scale, out, training, "the command")
    text = page.read_text()
    assert entry.title in html.unescape(text)
    assert "the command" in text
    assert "Missing here" not in text, re.findall("Missing here.*", text)
    result = json.loads((page.parent / "result.json").read_text())
    for case, measured in zip([c for c in entry.cases if scale.data(c)], result["cases"]):
        for run in measured["runs"]:
            # Details may be undefined for models that have learned nothing.
            wanted = {c.key for c in case.columns if not re.search("/|mask-|f-diagonal", c.key)}
            assert wanted <= run["scores"].keys()
    done = reproduce.Reproduction(entry, scale, out)
    assert done.state() == "done"
    before = len(engine.commands)
    assert finish(done.cases(), training) is None
    assert len(engine.commands) == before
