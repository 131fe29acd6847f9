import json
from pathlib import Path

import pytest

from pydisent import reproduce
from pydisent.cli import main
from pydisent.sweeps.engine import LocalEngine
from pydisent.training import Plan


def test_all_entries_are_listed_with_their_state(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["reproduce", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for entry in reproduce.entries():
        assert entry.name in said
    for part in reproduce.unavailable():
        assert part.title in said
    assert "not run" in said


def test_an_entry_is_made_and_a_failure_is_named(tmp_path, capsys, monkeypatch):
    command = ["reproduce", "ramesh/figure4", "--scale", "smoke", "--out", str(tmp_path)]
    assert main(command) == 0
    folder = tmp_path / "smoke" / "ramesh-figure4"
    result = json.loads((folder / "result.json").read_text())
    assert result["cases"][0]["measured"]["relative"]["1"].keys() == {"2", "4", "8"}
    assert "pydisent" in (folder / "index.html").read_text()
    capsys.readouterr()
    monkeypatch.setattr(LocalEngine, "run", lambda *_: 15)
    command = ["reproduce", "kumar/table1", "--scale", "smoke", "--out", str(tmp_path)]
    assert main(command) == 128 + 15


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["kumar/table9"], "entry must be one of "),
        (["kumar/table1", "--official", "celebaa=x"], "official must be one of"),
        (["kumar/table1", "--official", "mnist=x"], "official must be one of 'celeba', 'dsprites'"),
        (["kumar/table1", "--official", "celeba"], "--official must be KEY=VALUE"),
        (["kumar/table1", "--seeds", "0,0"], "seeds must be different integers"),
        (["kumar/table1", "--scale", "paper"], "official must give the data of kumar/table1"),
    ],
)
def test_bad_input_is_refused_before_any_work(tmp_path, capsys, options, words):
    assert main(["reproduce", *options, "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("entries", [["ramesh/table1", "--no-missing"], []])
def test_records_that_are_only_read_are_there(tmp_path, capsys, entries):
    for wrong in (tmp_path / "mistyped", Path(__file__)):
        command = ["reproduce", *entries, "--records", str(wrong), "--out", str(tmp_path / "out")]
        assert main(command) == 2
        assert f"records must be an existing folder, got {wrong}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_records_are_no_file(tmp_path, capsys):
    command = ["reproduce", "ramesh/table1", "--records", __file__, "--out", str(tmp_path)]
    assert main(command) == 2
    assert "records must be a folder, got" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_mirroring_is_a_flag_with_a_third_choice(tmp_path, capsys):
    options = ["--preset", "smoke", "--data", "digits", "--steps", "1"]
    for flag, mirror in (("--mirror", True), ("--no-mirror", False)):
        out = tmp_path / flag
        assert main(["train", "vae", *options, flag, "--out", str(out)]) == 0
        plan = Plan.from_json(json.loads((out / "config.json").read_text()))
        assert plan.mirror is mirror
