import json
from dataclasses import replace

import pytest
import torch

from pydisent import data
from pydisent.data import ImageDataset
from pydisent.evaluation.scored_run import read_run
from pydisent.training import Plan, Run, RunFolder, open_run, train


@pytest.fixture(scope="module")
def run_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    plan = Plan.from_preset("spectral-gan", preset="smoke", command=("pydisent", "train"))
    return train(plan, path, accelerator="cpu", progress=False).path


def test_a_finished_run(run_path):
    run = open_run(run_path)
    assert run.step == 30
    assert run.plan.system == run.system.name == "spectral-gan"
    assert run.plan.config.latent_size == 4
    assert run.plan.command == ("pydisent", "train")
    assert run.config == run.plan.to_json()
    assert run.environment.keys() == {
        "python", "torch", "pydisent", "platform", "cpu", "threads", "gpu", "backends", "devices",
        "native_bf16",
    }  # fmt: skip
    assert [line["step"] for line in run.log] == [5, 10, 15, 20, 25, 30]
    assert run.scores is None
    assert not run.system.training
    assert isinstance(run.dataset, ImageDataset)
    images = run.dataset.images(torch.arange(3))
    assert run.system.decode(run.system.encode(images)).shape == images.shape


def test_scores_accumulate(run_path):
    folder = RunFolder(run_path)
    folder.add_scores({"a": {"score": 0.5, "details": {}}})
    folder.add_scores({"b": {"score": 1.0, "details": {}}})
    assert open_run(run_path).scores.keys() == {"a", "b"}
    folder.scores.unlink()


def test_scores_of_other_weights_are_left_out(run_path):
    """A run that was scored, then resumed, or read from an earlier checkpoint."""
    folder = RunFolder(run_path)
    folder.add_scores({"a": {"score": 0.5, "details": {}}}, step=25)
    folder.add_scores({"b": {"score": 1.0, "details": {}}}, step=30)
    folder.add_scores({"c": {"score": 2.0, "details": {}}})  # as recorded by earlier versions
    with pytest.warns(UserWarning, match="other weights than those of step 30.*: a of step 25$"):
        assert folder.read_scores().keys() == {"b", "c"}
    assert open_run(run_path).scores.keys() == {"b", "c"}
    assert read_run(run_path).scores.keys() == {"b", "c"}
    with pytest.warns(UserWarning, match="other weights than those of step 25.*: b of step 30$"):
        assert open_run(run_path, step=25).scores.keys() == {"a", "c"}
    folder.scores.unlink()


def test_what_is_missing_is_named(run_path, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no run folder"):
        open_run(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        open_run(tmp_path)
    (tmp_path / "config.json").write_text((run_path / "config.json").read_text())
    with pytest.raises(FileNotFoundError, match="has no checkpoint yet"):
        open_run(tmp_path)
    config = json.loads((run_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"format": 2}))
    with pytest.raises(ValueError, match="format must be 1, got 2"):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("former", "present", "settings"),
    [("gan", "spectral-gan", {"penalty_weight": 0.0}), ("infogan", "ps-sc", {"ps_weight": 0.0})],
)
def test_a_run_keeps_its_system_when_a_name_passes_to_another(tmp_path, former, present, settings):
    plan = Plan.from_preset(present, preset="smoke", settings=settings)
    folder = RunFolder(tmp_path)
    folder.config.write_text(json.dumps(plan.to_json() | {"system": former}))
    assert Plan.from_json(folder.read_config()) == plan
    newer = Plan.from_preset(former, preset="smoke")
    folder.config.write_text(json.dumps(newer.to_json()))
    assert Plan.from_json(folder.read_config()) == newer


def test_a_former_checkpoint_can_be_opened(run_path, tmp_path):
    last = open_run(run_path)
    former = open_run(run_path, step=25)
    assert (last.step, former.step) == (30, 25)
    assert not torch.equal(
        next(last.system.encoder.parameters()), next(former.system.encoder.parameters())
    )
    with pytest.raises(FileNotFoundError, match="no checkpoint of step 7, only 25, 30"):
        open_run(run_path, step=7)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_run_opens_its_data_as_it_trained_on_them(tmp_path, monkeypatch, recorded):
    """With all that names them; runs from before a part or a crop was recorded as they were."""
    asked = []
    monkeypatch.setattr(data, "load", lambda **options: asked.append(options) or "the data")
    monkeypatch.setattr(data, "load_test", lambda **options: asked.append(options))
    monkeypatch.setattr(data, "hold_out", lambda dataset, share: (dataset, None))
    named = {"partial": True, "split": "all", "crop": 178, "image_size": 32}
    named |= {"factors": str(tmp_path / "table.csv"), "bins": 5}
    plan = Plan.from_preset("vae", "celeba", "smoke", data_path=tmp_path, **named)
    config = plan.to_json() | {"held_out": 0.0}
    if not recorded:
        for name in ("partial", "split", "crop", "mirror", "factors", "bins", "note"):
            del config[name]
        named |= {"partial": False, "split": None, "crop": None, "factors": None, "bins": None}
    run = Run(tmp_path, Plan.from_json(config), {}, [], None, None, 0)
    assert run.dataset == "the data"
    assert run.held_out is None
    assert asked == 2 * [{"name": "celeba", "path": str(tmp_path), **named}]


def test_a_remark_tells_what_differs_from_the_preset():
    plan = Plan.from_preset("spectral-gan", "sprites")
    assert plan.remark() == plan.note
    changed = Plan.from_preset(
        "spectral-gan", "sprites", image_size=64, steps=20, settings={"k": 6, "penalty_weight": 0.5}
    )
    assert changed.note == plan.note
    said = changed.remark().removeprefix(plan.note)
    assert said == "; here penalty_weight = 0.5, k = 6, image_size = 64, steps = 20"
    assert replace(changed, note=changed.remark()).remark() == changed.remark()
    assert replace(changed, note="").remark() == said.removeprefix("; ")
