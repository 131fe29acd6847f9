"""Real processes, killed and signalled."""

import json
import random
import signal
import time

import pytest
from warm import Process

from pydisent.training import Plan, train

STEPS = 60


def _start(path, *options):
    command = ["train", "spectral-gan", "--preset", "smoke", "--threads", "1"]
    return Process(*command, "--steps", str(STEPS), "--out", str(path), *options)


def _wait_for_step(process, path, step):
    log = path / "log.jsonl"
    limit = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < limit:
        lines = log.read_text().splitlines()[:-1] if log.exists() else []
        if lines and json.loads(lines[-1])["step"] >= step:
            return
        time.sleep(0.002)
    pytest.fail(f"training ended or hung before step {step}: {process.communicate()}")


def _result(path):
    latest = (path / "checkpoints" / "latest").read_text()
    weights = (path / "checkpoints" / latest / "model.safetensors").read_bytes()
    moments = (path / "checkpoints" / latest / "optimizers.safetensors").read_bytes()
    lines = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    return weights, moments, [{k: v for k, v in x.items() if k != "seconds"} for x in lines]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    plan = Plan.from_preset("spectral-gan", preset="smoke", steps=STEPS)
    train(plan, path, threads=1, progress=False)
    return _result(path)


@pytest.mark.slow
def test_killed_twice_at_random_moments(tmp_path, uninterrupted):
    seed = random.SystemRandom().randrange(2**32)
    draw = random.Random(seed)
    path = tmp_path / "run"
    moments = [(step, draw.uniform(0, 0.05)) for step in sorted(draw.sample(range(STEPS - 20), 2))]
    for step, delay in moments:
        process = _start(path, "--resume")
        _wait_for_step(process, path, step)
        time.sleep(delay)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"ended before the kill, seed {seed}"
    process = _start(path, "--resume")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, (seed, errors)
    assert _result(path) == uninterrupted, f"seed {seed}, killed after {moments}"


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_save_and_exit(tmp_path, uninterrupted, signum, code):
    path = tmp_path / "run"
    process = _start(path)
    _wait_for_step(process, path, 25)
    process.send_signal(signum)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert f"pydisent train spectral-gan --out {path} --resume" in output.replace("\n", "")
    assert "Traceback" not in errors
    step = json.loads((path / "log.jsonl").read_text().splitlines()[-1])["step"]
    latest = (path / "checkpoints" / "latest").read_text()
    assert int(latest.removeprefix("step-")) >= step
    if signum != signal.SIGTERM:
        return  # Each further process costs seconds, and all signals are saved alike.
    process = _start(path, "--resume")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert _result(path) == uninterrupted
