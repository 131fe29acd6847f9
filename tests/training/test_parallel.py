"""Training by two processes gives what one gives."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from _shared_batches import CASES
from _two_processes import PLAN, RUNS, SHARING, STOP
from filelock import FileLock

from pydisent import parallel
from pydisent.training import Plan, RunFolder, open_run, processes, train

ROOT = Path(__file__).parents[2]
LIMIT = 240  # seconds


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _environment(**more):
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """Let two processes do all of `_two_processes`; return their folder and results.

    Once, however many workers of pytest-xdist have a test that asks for it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "pair"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            folder.mkdir()
            _run_pair(folder)
    results = [json.loads((folder / f"{rank}.json").read_text()) for rank in "01"]
    for result in results:
        print(result["error"])
    return folder, results


def _run_pair(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    shared |= {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    script = Path(__file__).with_name("_two_processes.py")
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder)],
            env=_environment(**shared, RANK=rank, LOCAL_RANK=rank),
        )
        for rank in "01"
    ]
    try:
        for process in processes:
            process.wait(LIMIT)
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("check", [check.__name__ for check in [*RUNS, *SHARING]])
def test_two_processes(pair, check):
    for result in pair[1]:
        assert result["checks"].get(check, "not reached") is None, result["error"]


@pytest.mark.parametrize("case", CASES)
def test_half_batches_give_the_gradients_of_whole_ones(pair, case):
    first, other = pair[1]
    found = (first["cases"] | other["cases"]).get(case)
    assert found is not None, (first["error"], other["error"])
    for what, (where, error) in found.items():
        # Some losses are rounded to float32 on their way to the log.
        assert error < (1e-6 if what == "logs" else 1e-9), (what, where)


def _result(path):
    folder = RunFolder(path)
    latest = folder.checkpoints / (folder.checkpoints / "latest").read_text()
    tensors = [latest / f"{name}.safetensors" for name in ("model", "optimizers")]
    log = [{k: v for k, v in line.items() if k != "seconds"} for line in folder.read_log()]
    return [file.read_bytes() for file in tensors], log


def _assert_close(path, other):
    log, wanted = (_result(p)[1] for p in (path, other))
    assert len(log) == len(wanted) == PLAN["steps"] // 5
    for line, expected in zip(log, wanted):
        assert line.pop("phase") == expected.pop("phase")
        assert line == pytest.approx(expected, rel=1e-5, abs=1e-6)
    weights, expected = (open_run(p).system.state_dict() for p in (path, other))
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    path = tmp_path_factory.mktemp("alone") / "run"
    train(Plan.from_preset(**PLAN), path, accelerator="cpu", progress=False)
    return path


def test_two_devices_log_and_learn_what_one_does(pair, alone):
    whole = pair[0] / "whole"
    assert [open_run(path).environment["devices"] for path in (whole, alone)] == [2, 1]
    assert json.loads((whole / "config.json").read_text())["config"]["batch_size"] == 8
    _assert_close(whole, alone)


def test_resumed_equals_uninterrupted(pair):
    assert _result(pair[0] / "stopped") == _result(pair[0] / "whole")


def test_one_device_goes_on_where_two_stopped(pair, alone):
    left = pair[0] / "left"
    assert open_run(left).step == STOP
    train(Plan.from_preset(**PLAN), left, resume=True, accelerator="cpu", progress=False)
    assert open_run(left).environment["devices"] == 1
    _assert_close(left, alone)


def _start(path, *options):
    command = [sys.executable, "-m", "pydisent", "train", PLAN["system"], "--out", str(path)]
    return subprocess.Popen(
        [*command, "--accelerator", "cpu", *options],
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for_step(process, path, step):
    limit = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < limit:
        log = RunFolder(path).read_log()
        if log and log[-1]["step"] >= step:
            return
        time.sleep(0.002)
    pytest.fail(f"training ended or hung before step {step}: {process.communicate()}")


@pytest.fixture
def silenced(tmp_path):
    """Training of two processes, one of which has been made to answer no more."""
    path = tmp_path / "silenced"
    options = ("--preset", "smoke", "--steps", "2000", "--devices", "2", "--timeout", "10")
    process = _start(path, *options)
    _wait_for_step(process, path, 5)
    (other,) = psutil.Process(process.pid).children()
    other.suspend()
    yield process, other
    for each in (other, process):
        each.kill()


@pytest.mark.slow
def test_a_lost_process_ends_the_others_and_the_run_goes_on_bit_for_bit(tmp_path, pair, silenced):
    """One is killed, while others wait for one that does not answer."""
    path = tmp_path / "run"
    steps = ("--preset", "smoke", "--steps", str(PLAN["steps"]))
    process = _start(path, *steps, "--devices", "2")
    _wait_for_step(process, path, 20)
    (other,) = psutil.Process(process.pid).children()
    other.send_signal(signal.SIGKILL)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.endswith("has ended; continue from the last checkpoint with --resume\n")
    assert "Traceback" not in errors
    assert output.count(" -> ") == 1  # the first process alone speaks
    process = _start(path, "--resume")  # on as many devices as before
    output, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    assert output.count("trained: ") == 1
    assert open_run(path).environment["devices"] == 2
    assert _result(path) == _result(pair[0] / "whole")

    process, other = silenced
    process.wait(timeout=LIMIT)
    other.kill()  # it holds the output open
    _, errors = process.communicate()
    assert process.returncode == 1, errors
    assert errors.endswith("in time; continue from the last checkpoint with --resume\n")
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (0, "devices must be an integer >= 1, got 0"),
        (3, "batch_size must be divisible by devices = 3, which share it, got 8"),
    ],
)
def test_bad_devices_are_refused_before_anything_is_done(tmp_path, devices, message):
    with pytest.raises(ValueError, match=message):
        train(Plan.from_preset(**PLAN), tmp_path / "run", devices=devices)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_devices_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must be available, got 'cuda' and 2: "):
        train(Plan.from_preset(**PLAN), tmp_path / "run", devices=2, accelerator="cuda")


def test_alone_nothing_is_shared():
    x = torch.arange(3.0)
    for function in (parallel.own_rows, parallel.gather, parallel.total, parallel.average):
        assert function(x) is x
    torch.manual_seed(0)
    noise = torch.randn(3)
    torch.manual_seed(0)
    assert torch.equal(parallel.randn_like(x), noise)
    assert (parallel.rank(), parallel.processes()) == (0, 1)
    with pytest.raises(RuntimeError, match="must be initialised"), parallel.data_parallel():
        pass


def test_the_port_is_free_and_of_no_connection(monkeypatch):
    """One that is taken is passed over; none is of those that systems give to connections."""
    monkeypatch.setattr(processes, "_PORTS", range(24_000, 24_100))
    family = socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET
    with contextlib.ExitStack() as stack:
        taken = set()
        for port in range(24_000, 24_090):
            taker = stack.enter_context(socket.socket(family))
            with contextlib.suppress(OSError):
                taker.bind(("", port))
            taken.add(port)
        found = processes.free_port()
    assert found in range(24_090, 24_100)
