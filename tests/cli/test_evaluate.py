import json
import shutil
import warnings
from dataclasses import replace

import pytest
from _command_line import error_line, train_smoke

from pydisent.cli import main
from pydisent.training import Plan, open_run, train
from pydisent.training.checkpoint import latest_checkpoint


@pytest.fixture
def few_images(monkeypatch):
    """Let TPL, PPL and FID look at fewer images."""
    for name, count in (("TRAVERSED_IMAGES", 1), ("PAIRS", 50), ("IMAGES", 400)):
        monkeypatch.setattr(f"pydisent.evaluation.metrics.perception.{name}", count)


@pytest.mark.usefixtures("few_images")
def test_evaluate(digits_run, capsys):
    assert main(["evaluate", str(digits_run)]) == 0
    output = capsys.readouterr().out
    assert "digits has no ground-truth factors" in output
    assert "f-diagonal" in output
    scores = json.loads((digits_run / "scores.json").read_text())
    assert scores.keys() == {"f-diagonal", "reconstruction", "tpl", "ppl", "fid"}
    assert 0 < scores["f-diagonal"]["score"] < 1
    assert "by fixed-features-1: tpl, fid" in output
    assert "not with published TPL, PPL, FID or LPIPS" in output.replace("\n", " ")
    unread = [["--vgg16", "/nowhere"], ["--lpips", "/nowhere"], ["--inception", "/nowhere"]]
    for option in unread:
        assert main(["evaluate", str(digits_run), *option]) == 2
        assert "/nowhere" in error_line(capsys)
    assert main(["evaluate", str(digits_run), "--metrics", "z-diff"]) == 2
    assert "got 'z-diff', which needs" in error_line(capsys)
    assert main(["evaluate", str(digits_run), "--metrics", "z-score"]) == 2
    assert "one of 'f-diagonal', 'f-diagonal-all', 'z-diff', 'factor-vae'" in error_line(capsys)


def test_evaluate_draws_codes_against_factors(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pydisent.evaluation.scoring.MAX_IMAGES", 3000)
    assert train_smoke("--out", str(tmp_path / "run"), "--set", "base=2") == 0
    assert main(["evaluate", str(tmp_path / "run"), "--metrics", "mig", "sap"]) == 0
    output = capsys.readouterr().out.replace("\n", "")
    assert str(tmp_path / "run" / "figures" / "matrices.png") in output
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores.keys() == {"mig", "sap"}
    assert scores["mig"]["details"]["factors"] == ["shape", "scale", "orientation", "x", "y"]
    assert scores["mig"]["details"]["samples"] == 10_000
    assert (tmp_path / "run" / "figures" / "matrices.png").read_bytes()[:4] == b"\x89PNG"


def test_unfinished_runs_are_said(tmp_path):
    plan = replace(Plan.from_preset("vae", "digits", "smoke", steps=4), checkpoint_every=2)
    folder = train(plan, tmp_path / "run", accelerator="cpu", progress=False)
    command = ["evaluate", str(folder.path), "--metrics", "reconstruction"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(command) == 0
    folder.scores.unlink()
    shutil.rmtree(latest_checkpoint(folder.checkpoints))
    resume = f"pydisent train vae --out {folder.path} --resume"
    with pytest.warns(UserWarning, match=f"run is unfinished, 2 of 4 updates: {resume}"):
        assert main(command) == 0


@pytest.mark.usefixtures("few_images")
def test_evaluate_by_part_and_variant(digits_run, tmp_path, capsys, monkeypatch):
    for name, count in (("TRAVERSALS", 4), ("PAIRS", 60)):
        monkeypatch.setattr(f"pydisent.evaluation.metrics.perception.PUBLISHED_{name}", count)
    assert main(["evaluate", str(digits_run), "--split", "test"]) == 2
    assert "split must be 'auto' or 'train' for spectral-gan on digits" in error_line(capsys)
    assert main(["evaluate", str(digits_run), "--metrics", "ppl", "--published"]) == 0
    output = capsys.readouterr().out
    assert "ppl (published counts)" in output
    (digits_run / "scores.json").unlink()
    folder = tmp_path / "run"
    held = ["--data", "digits", "--steps", "2", "--out", str(folder)]
    assert train_smoke(*held, system="jacobian-ae") == 0
    for part in ("train", "test"):
        command = ["evaluate", str(folder), "--metrics", "reconstruction", "--split", part]
        assert main(command) == 0
        found = json.loads((folder / "scores.json").read_text())["reconstruction"]["details"]
        assert found["split"] == part
        kept = open_run(folder)
        sizes = {"train": len(kept.dataset), "test": len(kept.held_out)}
        assert found["images"] == sizes[part]
    assert "reconstruction (test images)" in capsys.readouterr().out


@pytest.mark.usefixtures("few_images")
def test_evaluate_keeps_what_it_could_score(digits_run, capsys, monkeypatch):
    def fail(run):
        raise ValueError("run is odd")

    monkeypatch.setattr("pydisent.evaluation.metrics.alignment.alignment_summary", fail)
    (digits_run / "scores.json").unlink(missing_ok=True)
    assert main(["evaluate", str(digits_run)]) == 2
    captured = capsys.readouterr()
    assert "reconstruction" in captured.out.split("scores")[-1]
    error = "pydisent: 1 of 5 metrics failed: f-diagonal: run is odd"
    assert captured.err.strip() == error
    kept = json.loads((digits_run / "scores.json").read_text()).keys()
    assert kept == {"reconstruction", "tpl", "ppl", "fid"}


def test_a_generator_without_its_encoder_says_so(tmp_path, capsys):
    plan = Plan.from_preset("spectral-gan", preset="smoke", settings={"encoder_steps": 0})
    folder = train(plan, tmp_path / "run", accelerator="cpu", progress=False)
    assert main(["evaluate", str(folder.path), "--metrics", "factor-vae"]) == 2
    assert "cannot encode" in error_line(capsys)


def test_a_score_of_masks(masked_run, digits_run, capsys):
    found = open_run(masked_run).scores["mask-overlap"]
    assert 0 <= found["score"] <= 1
    size = len(open_run(masked_run).system.code_names)
    assert [len(found["details"][name]) for name in ("by_pair", "centre", "peak")] == [size] * 3
    assert main(["evaluate", str(digits_run), "--metrics", "mask-overlap"]) == 2
    assert "which needs a system with masks of its codes" in error_line(capsys)


@pytest.mark.usefixtures("few_images")
def test_select_scores_and_ranks(digits_run, tmp_path, capsys):
    (digits_run / "scores.json").unlink(missing_ok=True)
    assert train_smoke("--data", "digits", "--out", str(digits_run.parent / "more" / "b")) == 0
    capsys.readouterr()
    assert main(["select", str(digits_run.parent)]) == 0
    output = capsys.readouterr().out
    assert output.count("scoring") == 2
    assert "TPL by distance fixed-features-1, threshold 0.13, segments 48" in output
    found = json.loads((digits_run.parent / "selection.json").read_text())
    assert {one["run"] for one in found["ranked"]} == {"digits", "more/b"}
    scores = json.loads((digits_run / "scores.json").read_text())
    (own,) = (one for one in found["ranked"] if one["run"] == "digits")
    assert own["tpl"] == scores["tpl"]["score"]
    assert main(["select", str(digits_run.parent), "--active", "1000"]) == 0
    output = capsys.readouterr().out
    assert "scoring" not in output
    assert "fewer than 1000 active dimensions" in output
    assert main(["select", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in error_line(capsys)
