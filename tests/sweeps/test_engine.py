"""Jobs that are processes on this machine."""

import sys
import time

import _stand_ins
import pytest
from _stand_ins import PATIENT, job, python, wait_for

from pydisent.sweeps import engine as engines
from pydisent.sweeps.engine import LocalEngine, LocalWorker


def run(workers, jobs):
    return _stand_ins.run(LocalEngine(workers), jobs)


def test_commands_run_in_order_and_what_they_print_is_kept(tmp_path):
    code = "import os, sys; print(sys.argv[1], os.environ['OMP_NUM_THREADS'])"
    again = job(tmp_path, "a", python(code, "first"), python(code, "second"))
    for _ in range(2):
        outcomes = run(1, [again])
        assert [(o.name, o.state, o.error) for o in outcomes] == [
            ("a", "running", None),
            ("a", "done", None),
        ]
        assert outcomes[1].seconds > 0
    lines = again.output.read_text().splitlines()
    assert [line for line in lines if line[0] != "$"] == ["first 3", "second 3"] * 2
    assert lines[0].startswith(f"$ {sys.executable} -S -c")


def test_a_failure_stops_its_job_alone_and_says_why(tmp_path):
    late = tmp_path / "late"
    touch = python("import pathlib, sys; pathlib.Path(sys.argv[1]).touch()", late)
    jobs = [
        job(
            tmp_path,
            "own",
            python("print('pydisent: loss is nan'); print('x'); raise SystemExit(1)"),
            touch,
        ),
        job(tmp_path, "crash", python("1 / 0")),
        job(tmp_path, "killed", python("import os; os.kill(os.getpid(), 9)")),
        job(tmp_path, "silent", python("raise SystemExit(3)")),
        job(tmp_path, "fine", python("print('pydisent: all well')")),
    ]
    outcomes = {o.name: o for o in run(2, jobs) if o.state != "running"}
    assert {name: o.state for name, o in outcomes.items()} == {
        "own": "failed", "crash": "failed", "killed": "failed", "silent": "failed", "fine": "done"
    }  # fmt: skip
    assert not late.exists()
    assert outcomes["own"].error.startswith("loss is nan (exit code 1); see ")
    assert "ZeroDivisionError: division by zero (exit code 1)" in outcomes["crash"].error
    assert outcomes["killed"].error.startswith("killed by SIGKILL; see ")
    assert outcomes["silent"].error.startswith("exit code 3; see ")
    assert str(outcomes["own"]).startswith("own: failed after 0 s: loss is nan")


def test_what_is_killed_is_started_again_after_the_others(tmp_path):
    code = """
import os, pathlib, sys
tries = pathlib.Path(sys.argv[1])
with tries.open("a") as file: file.write("x")
if len(tries.read_text()) < int(sys.argv[2]): os.kill(os.getpid(), 9)
"""
    jobs = [
        job(tmp_path, "twice", python(code, tmp_path / "twice" / "tries", 3)),
        job(tmp_path, "ever", python(code, tmp_path / "ever" / "tries", 9)),
        job(tmp_path, "other", python("pass")),
    ]
    outcomes = run(1, jobs)
    ends = [(o.name, o.state) for o in outcomes if o.state != "running"]
    assert ends == [
        ("twice", "interrupted"),
        ("ever", "interrupted"),
        ("other", "done"),
        ("twice", "interrupted"),
        ("ever", "interrupted"),
        ("twice", "done"),
        ("ever", "failed"),
    ]
    assert all("killed by SIGKILL; see" in o.error for o in outcomes if o.state == "interrupted")
    assert [(o.name, o.state) for o in outcomes[::2]] == [(name, "running") for name, _ in ends]


def test_a_job_has_one_process_at_a_time_whoever_started_it(tmp_path, monkeypatch):
    """A former one, as of a sweep that was killed, is waited for; but not for ever."""
    pytest.importorskip("fcntl")
    saved = tmp_path / "ready.saved"
    former = LocalWorker(job(tmp_path, "a", python(PATIENT, tmp_path / "ready")))
    assert former.advance().state == "running"
    wait_for(tmp_path / "ready")
    code = "import pathlib, sys; assert pathlib.Path(sys.argv[1]).exists()"
    again = LocalWorker(job(tmp_path, "a", python(code, saved)))
    assert again.advance() is None
    monkeypatch.setattr(engines, "OUTPUT_LOCK_TIMEOUT", 0.0)
    outcome = again.advance()
    assert outcome.state == "failed"
    assert outcome.error.startswith("another process has ")
    monkeypatch.undo()
    former.terminate()
    while again.advance() is None:
        time.sleep(0.01)
    while (outcome := again.advance()) is None:
        time.sleep(0.01)
    assert outcome.state == "done", outcome.error
    former.wait()


def test_so_many_at_a_time_and_no_more(tmp_path):
    _stand_ins.check_two_at_a_time(LocalEngine(2), tmp_path)
    with pytest.raises(ValueError, match="workers must be an integer >= 1, got 0"):
        LocalEngine(0)


def test_a_signal_lets_the_workers_save(tmp_path):
    _stand_ins.check_a_signal_lets_the_workers_save("LocalEngine(2)", tmp_path)


def test_an_error_of_the_caller_leaves_no_process_behind(tmp_path):
    ready = tmp_path / "a" / "ready"

    def note(outcome):
        wait_for(ready)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        LocalEngine(1).run([job(tmp_path, "a", python(PATIENT, ready))], note)
    assert ready.with_suffix(".saved").exists()
