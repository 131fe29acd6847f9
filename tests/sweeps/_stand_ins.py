"""Processes of a few milliseconds that stand for trainings, and what every engine must do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pydisent.sweeps.engine import Job

ROOT = Path(__file__).parents[2]
# Says that it is ready, and on SIGTERM that it saved, as a training does.
PATIENT = """
import os, signal, sys, time, pathlib
ready = pathlib.Path(sys.argv[1])
def save(*_):
    time.sleep(0.2)
    ready.with_suffix(".saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
ready.touch()
for _ in range(1200):
    time.sleep(0.05)  # a signal just before a sleep is seen after it
"""
MEETING = """
import pathlib, sys, time
mine, other = map(pathlib.Path, sys.argv[1:])
mine.touch()
while not other.exists(): time.sleep(0.01)
"""


def python(code, *arguments):
    return (sys.executable, "-S", "-c", code, *map(str, arguments))


def job(tmp_path, name, *commands):
    return Job(name, commands, tmp_path / name / "output.log", threads=3)


def run(engine, jobs):
    outcomes = []
    assert engine.run(jobs, outcomes.append) is None
    return outcomes


def wait_for(*paths):
    limit = time.monotonic() + 60
    while not all(path.exists() for path in paths):
        assert time.monotonic() < limit, f"{paths} are not all there"
        time.sleep(0.01)


def check_two_at_a_time(engine, tmp_path, late=False):
    """Two wait for each other, so that one at a time would never end.

    `late` if the news that one has begun may come after the end of the other.
    """
    a, b = tmp_path / "one", tmp_path / "two"
    jobs = [job(tmp_path, "a", python(MEETING, a, b)), job(tmp_path, "b", python(MEETING, b, a))]
    running = peak = 0
    for outcome in run(engine, jobs + [job(tmp_path, name, python("pass")) for name in "cde"]):
        running += 1 if outcome.state == "running" else -1
        peak = max(peak, running)
    assert peak == 2 or (late and peak == 1)


def start_driver(engine, tmp_path):
    """Start a process whose engine has three patient jobs, two of them at work when it returns."""
    driver = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from _stand_ins import PATIENT, job, python
from pydisent.sweeps.engine import LocalEngine
from pydisent.sweeps.ray_engine import RayEngine
here = Path(sys.argv[1])
jobs = [job(here, name, python(PATIENT, here / name / "ready")) for name in "abc"]
print({engine}.run(jobs, lambda o: print(o.name, o.state)))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", driver, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(*(tmp_path / name / "ready" for name in "ab"))
    return process


def check_a_signal_lets_the_workers_save(engine, tmp_path, late=False):
    """`late` if the news that a job has begun may come after the signal, which ends all news."""
    process = start_driver(engine, tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: all of a terminal's processes get it
    output, errors = process.communicate(timeout=30)
    lines = output.splitlines()
    if late:
        begun, lines = lines[:-3], lines[-3:]
        assert set(begun) <= {"a running", "b running"}
        lines = ["a running", "b running", *lines]
    assert lines == ["a running", "b running", "a interrupted", "b interrupted", "2"], errors
    assert errors == ""
    assert all((tmp_path / name / "ready.saved").exists() for name in "ab")
    assert not (tmp_path / "c").exists()
