import pytest
import torch
from _command_line import error_line, train_smoke

from pydisent import systems
from pydisent.cli import main
from pydisent.training import RunFolder, open_run


def test_train_writes_a_run(digits_run):
    run = open_run(digits_run)
    assert run.step == 30
    assert (run.config["data"], run.config["seed"]) == ("digits", 3)
    assert run.config["config"]["base"] == 2
    assert run.config["command"][0] == "pydisent"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "base=0"], "base must be an integer >= 1, got 0"),
        (["--set", "bass=4"], "did you mean 'base'"),
        (["--set", "base"], "must be KEY=VALUE"),
        (["--preset", "huge"], "preset must be one of 'smoke', 'quick', 'paper', got 'huge'"),
        (["--data", "cats"], "cats"),
        (["--data", "mnist", "--data-path", "/nowhere"], "/nowhere"),
        (["--steps", "0"], "steps must be an integer >= 1, got 0"),
        (["--threads", "0"], "threads must be an integer in [1, 1024], got 0"),
        (["--score-every", "5"], "metrics must be names of metrics, at least 1, got none"),
        (["--metrics", "mig"], "--score-every must be an integer >= 1, with --metrics, got None"),
        (["--score-every", "0", "--metrics", "mig"], "--score-every must be an integer >= 1"),
        (["--score-every", "5", "--metrics", "mgi"], "got 'mgi'"),
        (["--devices", "0"], "devices must be an integer >= 1, got 0"),
        (
            ["--devices", "3"],
            "must be divisible by devices = 3, which share it, got 8",
        ),
    ],
)
def test_bad_input_is_one_line_and_code_2(tmp_path, capsys, options, message):
    assert train_smoke(*options, "--out", str(tmp_path / "run")) == 2
    assert message in error_line(capsys)
    assert not (tmp_path / "run").exists()


def test_a_plan_in_a_file_trains_the_same_run(digits_run, tmp_path, capsys):
    out = ["--plan", str(digits_run / "config.json"), "--out", str(tmp_path / "run")]
    assert main(["train", *out, "--accelerator", "cpu"]) == 0
    same, other = open_run(digits_run), open_run(tmp_path / "run")
    for name, value in same.system.state_dict().items():
        assert torch.equal(other.system.state_dict()[name], value)
    assert main(["train", *out, "--accelerator", "cpu", "--resume"]) == 0
    capsys.readouterr()
    for options, words in (
        (["--seed", "4"], "must be given, got both"),
        (["--plan", str(tmp_path / "none.json")], "there is no none.json"),
    ):
        assert main(["train", *out, *options]) == 2
        assert words in error_line(capsys)
    assert main(["train"]) == 2
    assert "must be given, got neither" in error_line(capsys)


def test_unknown_system_and_option(tmp_path, capsys):
    assert train_smoke("--out", str(tmp_path / "run"), system="spectral-gna") == 2
    line = error_line(capsys)
    assert f"must be one of {', '.join(map(repr, systems.names()))}, got" in line
    assert "spectral-gna" in line
    assert train_smoke("--colour", "red") == 2
    assert main(["dance"]) == 2


def test_runs_are_not_overwritten_or_changed_silently(digits_run, capsys):
    out = ["--out", str(digits_run)]
    assert train_smoke("--data", "digits", *out) == 2
    assert "--resume" in error_line(capsys)
    for options, message in (
        (["--seed", "4"], "seed 3, not 4"),
        (["--data", "sprites"], "data digits, not sprites"),
        (["--set", "base=8"], "base 2, not 8"),
    ):
        assert train_smoke(*options, *out, "--resume") == 2
        assert message in error_line(capsys)
    assert main(["train", "spectral-gan", "--accelerator", "cpu", *out, "--resume"]) == 0


def test_a_resumed_run_keeps_its_threads(tmp_path):
    """Another number of threads would round differently."""
    out = ["--out", str(tmp_path / "run")]
    assert train_smoke("--threads", "1", *out) == 0
    torch.set_num_threads(2)
    assert train_smoke(*out, "--resume") == 0
    assert torch.get_num_threads() == 1
    assert open_run(tmp_path / "run").environment["threads"] == 1


def test_run_folder_default_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train_smoke(system="spectral-gan") == 0
    assert RunFolder(tmp_path / "runs" / "spectral-gan-sprites-smoke-0").is_run()


def test_scores_in_training_are_logged(tmp_path, capsys):
    options = ("--score-every", "10", "--metrics", "reconstruction", "mig/bins")
    assert train_smoke(*options, "--out", str(tmp_path / "run"), system="beta-vae") == 0
    capsys.readouterr()
    log = RunFolder(tmp_path / "run").read_log()
    scored = [line for line in log if "score/reconstruction" in line]
    last = open_run(tmp_path / "run").step
    assert [line["step"] for line in scored] == list(range(10, last + 1, 10))
    assert last >= 10
    assert all(line["score/mig/bins"] == 20 for line in scored)
