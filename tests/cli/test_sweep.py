import contextlib
import io
import json
import sys

import pytest
from _command_line import error_line

from pydisent._extras import install_command
from pydisent.cli import main
from pydisent.sweeps.engine import Outcome
from pydisent.training import open_run


def sweep(*options):
    return main(["sweep", "spectral-gan", "--preset", "smoke", "--accelerator", "cpu", *options])


def test_sweep_trains_scores_and_compares(tmp_path, capsys, monkeypatch):
    """The second call has nothing left to do but to compare again."""

    class Here:
        """Runs the command lines of jobs in this process: others test real ones."""

        def __init__(self, workers):
            pass

        def run(self, jobs, note):
            for job in jobs:
                with contextlib.redirect_stdout(io.StringIO()) as said:
                    done = all(main(command[3:]) == 0 for command in job.commands)
                job.output.write_text(said.getvalue())
                note(Outcome(job.name, "done" if done else "failed", 1.0))

    monkeypatch.setattr("pydisent.sweeps.engine.LocalEngine", Here)
    out = tmp_path / "sweep"
    options = ["--data", "digits", "--grid", "base=2", "--seeds", "7", "--out", str(out)]
    options += ["--metrics", "f-diagonal"]
    assert sweep(*options) == 0
    assert "[1/1] spectral-gan-base-2-seed-7: done after" in capsys.readouterr().out
    run = open_run(out / "spectral-gan-base-2-seed-7")
    assert (run.step, run.config["seed"], run.config["config"]["base"]) == (30, 7, 2)
    assert run.scores.keys() == {"f-diagonal"}
    assert (out / "comparison" / "comparison.md").is_file()
    log = (run.path / "output.log").read_text()
    assert sweep(*options) == 0
    assert "1 runs, 1 of them done before" in capsys.readouterr().out
    assert (run.path / "output.log").read_text() == log
    assert main(["compare", str(out)]) == 0
    assert "spectral-gan" in capsys.readouterr().out


def test_sweep_with_failures_has_code_1(tmp_path, capsys, monkeypatch):
    class Failing:
        def __init__(self, workers):
            self.workers = workers

        def run(self, jobs, note):
            for job in jobs:
                note(Outcome(job.name, "failed", 1.0, f"one of {self.workers} broke"))

    monkeypatch.setattr("pydisent.sweeps.engine.LocalEngine", Failing)
    out = tmp_path / "sweep"
    assert sweep("--out", str(out), "--seeds", "3,4", "--workers", "5") == 1
    assert (
        error_line(capsys)
        == "pydisent: 2 of 2 runs failed: spectral-gan-seed-3, spectral-gan-seed-4"
    )
    state = json.loads((out / "sweep.json").read_text())["runs"]["spectral-gan-seed-3"]
    assert (state["state"], state["error"]) == ("failed", "one of 5 broke")
    assert not (out / "comparison").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "0,x"], "seeds must be integers such as 0,1,2, got '0,x'"),
        (["--grid", "base"], "--grid must be KEY=VALUE, got 'base'"),
        (["--grid", "base=2", "base=4"], "--grid must give each key once, got base twice"),
        (["--grid", "bass=2"], "must name a setting of spectral-gan"),
        (["--workers", "0"], "workers must be an integer >= 1, got 0"),
        (["--threads", "0"], "threads must be an integer >= 1, got 0"),
        (["--metrics", "z-score"], "got 'z-score'"),
        (["--ray-address", "auto"], "ray_address must be given only with ray, got 'auto'"),
    ],
)
def test_bad_sweeps_are_one_line_and_code_2(tmp_path, capsys, options, message):
    assert sweep("--out", str(tmp_path / "sweep"), *options) == 2
    assert message in error_line(capsys)
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_on_ray_says_what_it_needs(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    assert sweep("--out", str(tmp_path / "sweep"), "--engine", "ray") == 2
    words = f"pydisent: this needs the package ray: {install_command('sweep')}"
    assert error_line(capsys) == words
    assert not (tmp_path / "sweep").exists()


def test_compare_needs_runs(tmp_path, capsys):
    assert main(["compare"]) == 2
    assert "runs must be at least one run folder" in error_line(capsys)
    assert main(["compare", str(tmp_path / "nowhere")]) == 2
    assert "there is no run folder" in error_line(capsys)
