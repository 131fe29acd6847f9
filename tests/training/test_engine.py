"""Processes of a few milliseconds stand for trainings."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pydisent.training.engine import Job, LocalEngine

ROOT = Path(__file__).parents[2]
# Says that it is ready, and on SIGTERM that it saved, as a training does.
PATIENT = """
import signal, sys, time, pathlib
ready = pathlib.Path(sys.argv[1])
def save(*_):
    time.sleep(0.2)
    ready.with_suffix(".saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
ready.touch()
time.sleep(60)
"""


def python(code, *arguments):
    return (sys.executable, "-S", "-c", code, *map(str, arguments))


def job(tmp_path, name, *commands):
    return Job(name, commands, tmp_path / name / "output.log", threads=3)


def run(workers, jobs):
    outcomes = []
    assert LocalEngine(workers).run(jobs, outcomes.append) is None
    return outcomes


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


def test_so_many_at_a_time_and_no_more(tmp_path):
    """Each waits for the other, so that one at a time would never end."""
    code = (
        "import pathlib, sys, time\n"
        "mine, other = map(pathlib.Path, sys.argv[1:])\n"
        "mine.touch()\n"
        "while not other.exists(): time.sleep(0.01)\n"
    )
    a, b = tmp_path / "one", tmp_path / "two"
    jobs = [job(tmp_path, "a", python(code, a, b)), job(tmp_path, "b", python(code, b, a))]
    rest = [job(tmp_path, name, python("pass")) for name in "cde"]
    running = peak = 0
    for outcome in run(2, jobs + rest):
        running += 1 if outcome.state == "running" else -1
        peak = max(peak, running)
    assert peak == 2
    with pytest.raises(ValueError, match="workers is 0; accepted: an integer >= 1"):
        LocalEngine(0)


def test_a_signal_lets_the_workers_save(tmp_path):
    driver = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_engine import PATIENT, LocalEngine, job, python
here = Path(sys.argv[1])
jobs = [job(here, name, python(PATIENT, here / name / "ready")) for name in "abc"]
print(LocalEngine(2).run(jobs, lambda o: print(o.name, o.state)))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", driver, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    ready = [tmp_path / name / "ready" for name in "ab"]
    limit = time.monotonic() + 60
    while not all(path.exists() for path in ready) and time.monotonic() < limit:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: all of a terminal's processes get it
    output, _ = process.communicate(timeout=30)
    assert all(path.with_suffix(".saved").exists() for path in ready)
    lines = output.splitlines()
    assert lines[-1] == str(int(signal.SIGINT))
    assert lines[:-1] == ["a running", "b running", "a interrupted", "b interrupted"]
    assert not (tmp_path / "c").exists()


def test_an_error_of_the_caller_leaves_no_process_behind(tmp_path):
    ready = tmp_path / "a" / "ready"

    def note(outcome):
        while not ready.exists():
            time.sleep(0.01)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        LocalEngine(1).run([job(tmp_path, "a", python(PATIENT, ready))], note)
    assert ready.with_suffix(".saved").exists()
