import sys

import pytest
import torch
from _command_line import error_line

from pydisent.cli import main
from pydisent.cli._side_by_side import RunsFailedError
from pydisent.sweeps.engine import Outcome


@pytest.fixture
def engines(monkeypatch):
    """Engines that run command lines in this process; how many jobs each would run at once."""
    made = []

    class Here:
        def __init__(self, workers):
            made.append(workers)

        def run(self, jobs, note):
            for job in jobs:
                note(Outcome(job.name, "running"))
                for command in job.commands:
                    assert command[:3] == (sys.executable, "-m", "pydisent")
                    code = main(command[3:])
                note(
                    Outcome(job.name, "failed" if code else "done", 1.0, "broke" if code else None)
                )

    monkeypatch.setattr("pydisent.sweeps.engine.LocalEngine", Here)
    return made


@pytest.mark.slow
@pytest.mark.usefixtures("short_eigenpaths", "engines")
def test_demo_compares_both_and_does_nothing_twice(tmp_path, capsys, monkeypatch):
    # The metrics of codes encode three quarters of a million images.
    monkeypatch.setattr("pydisent.evaluation.scoring.applicable", lambda run: ("f-diagonal",))
    command = ["demo", "--preset", "smoke", "--out", str(tmp_path)]
    assert main(command) == 0
    output = capsys.readouterr().out
    assert "f-diagonal" in output
    assert str(tmp_path / "report" / "index.html") in output.replace("\n", "")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "spectral-gan" in page
    written = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/checkpoints/*/*")}
    assert len({p.parents[2].name for p in written}) == 2
    assert output.index("data.png") < output.index("spectral-gan: running")
    for name in ("data.png", "spectral-gan/figures/traversals.png", "plain-gan/figures"):
        assert (tmp_path / name).exists()
        assert f"wrote {tmp_path / name}" in output.replace("\n", "")
    assert main(command) == 0
    assert "running" not in capsys.readouterr().out
    assert written == {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/checkpoints/*/*")}
    assert main([*command, "--seed", "1"]) == 2
    assert "seed 0, not 1" in error_line(capsys)


@pytest.mark.usefixtures("short_eigenpaths")
@pytest.mark.parametrize(
    ("cores", "threads", "at_once"), [(1, 1, 1), (2, 1, 2), (8, 4, 2), (2, 2, 1)]
)
def test_demo_divides_the_cores(tmp_path, monkeypatch, capsys, engines, cores, threads, at_once):
    def nothing(plans, out, **options):
        raise RunsFailedError("spectral-gan: failed")

    monkeypatch.setattr("pydisent.cli._side_by_side.train_and_score", nothing)
    monkeypatch.setattr("pydisent.sweeps.engine.cores", lambda: cores)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    command = ["demo", "--preset", "smoke", "--out", str(tmp_path), "--threads", str(threads)]
    assert main(command) == 1
    assert error_line(capsys) == "pydisent: spectral-gan: failed"
    assert engines == [at_once]
