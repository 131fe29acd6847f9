"""Jobs on a Ray cluster of this machine; what holds on every engine is in _stand_ins."""

import importlib.util
import json
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import _stand_ins
import psutil
import pytest
import torch
from _stand_ins import PATIENT, job, python, run, start_driver, wait_for

from pydisent.cli import main
from pydisent.sweeps import ray_engine
from pydisent.sweeps.ray_engine import RayEngine
from pydisent.training import Plan, RunFolder, train
from pydisent.training.files import lock

if importlib.util.find_spec("ray") is None:
    pytest.skip("ray is not installed: pip install 'pydisent[sweep]'", allow_module_level=True)

STEPS = 240
on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a process outlives the Ray worker that started it"
)


@pytest.fixture(scope="module", autouse=True)
def no_cluster_of_the_users():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture(scope="module")
def cluster(no_cluster_of_the_users):
    """The address of a cluster with room for two jobs, to which this process is connected."""
    with RayEngine(2)._connected(threads=3) as ray:
        yield ray.get_runtime_context().gcs_address


@pytest.mark.usefixtures("cluster")
def test_jobs_run_in_order_and_say_how_they_ended(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.getcwd())"
    jobs = [
        job(Path("."), "own", python(code), python("print('pydisent: no'); raise SystemExit(1)")),
        job(Path("."), "fine", python(code)),
        job(Path("file"), "unwritable", python("pass")),
    ]
    Path("file").touch()
    outcomes = run(RayEngine(1), jobs)
    assert [(o.name, o.state) for o in outcomes] == [
        ("own", "running"),
        ("own", "failed"),
        ("fine", "running"),
        ("fine", "done"),
        ("unwritable", "failed"),
    ]
    assert outcomes[-1].error.startswith("NotADirectoryError: ")
    assert outcomes[1].error == "no (exit code 1); see own/output.log"
    lines = jobs[0].output.read_text().splitlines()
    assert lines[0].startswith(f"$ {sys.executable} -S -c")
    assert lines[1] == f"3 {tmp_path}"


@pytest.mark.usefixtures("cluster")
def test_so_many_at_a_time_and_no_more(tmp_path):
    _stand_ins.check_two_at_a_time(RayEngine(2), tmp_path, late=True)
    with pytest.raises(ValueError, match="workers must be an integer >= 1, got 0"):
        RayEngine(0)


@on_linux
@pytest.mark.usefixtures("cluster")
def test_a_job_whose_ray_worker_dies_saves_before_it_is_started_again(tmp_path):
    code = """
import os, pathlib, signal, sys, time
ready, saved = map(pathlib.Path, sys.argv[1:])
if ready.exists(): sys.exit(not saved.exists())
def save(*_):
    time.sleep(2)
    saved.touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
ready.touch()
os.kill(os.getppid(), signal.SIGKILL)
time.sleep(60)
"""
    killer = python("import os, time; os.kill(os.getppid(), 9); time.sleep(60)")
    jobs = [
        job(tmp_path, "once", python(code, tmp_path / "ready", tmp_path / "saved")),
        job(tmp_path, "ever", killer),
    ]
    outcomes = run(RayEngine(2), jobs)
    states = {name: [o.state for o in outcomes if o.name == name] for name in ("once", "ever")}
    # That one began whose worker dies at once may come too late to be told.
    assert states["once"] in (
        ["running", "interrupted", "running", "done"],
        ["interrupted", "running", "done"],
    )
    assert [state for state in states["ever"] if state != "running"] == [
        "interrupted",
        "interrupted",
        "failed",
    ]
    [failed] = [o for o in outcomes if o.state == "failed"]
    assert failed.error.startswith("its Ray worker died (ActorDiedError); see ")


def _kill_in_the_middle(path, whose, at_step):
    """Kill the training in a run folder, or the Ray worker above it, once it is at a step."""
    log, found = path / "log.jsonl", []
    limit = time.monotonic() + 300
    while not log.exists() or f'"step": {at_step},' not in log.read_text():
        assert time.monotonic() < limit, f"{path} never came to step {at_step}"
        if not found:  # looked for before that step, as looking takes longer than a few steps
            found = [
                process if whose == "training" else process.parent()
                for process in psutil.process_iter(["cmdline"])
                if {"train", str(path)} <= set(process.info["cmdline"] or ())
            ]
        time.sleep(0.002)
    for process in found:
        process.kill()


def _result(path):
    folder = RunFolder(path)
    latest = folder.checkpoints / (folder.checkpoints / "latest").read_text()
    assert latest.name == f"step-{STEPS:08}"
    kept = [(latest / f"{name}.safetensors").read_bytes() for name in ("model", "optimizers")]
    return kept, [{k: v for k, v in line.items() if k != "seconds"} for line in folder.read_log()]


@pytest.mark.slow
@on_linux
@pytest.mark.usefixtures("cluster")
def test_a_sweep_with_killed_workers_ends_as_if_nothing_had_been(tmp_path, capfd):
    out, threads = tmp_path / "sweep", torch.get_num_threads()
    torch.set_num_threads(1)
    for seed in (0, 1):
        plan = Plan.from_preset("vae", "sprites", "smoke", seed=seed, steps=STEPS)
        train(plan, tmp_path / f"whole-{seed}", accelerator="cpu", progress=False)
    torch.set_num_threads(threads)
    killers = [
        threading.Thread(target=_kill_in_the_middle, args=(out / f"vae-seed-{seed}", whose, 25))
        for seed, whose in enumerate(("training", "worker"))
    ]
    for killer in killers:
        killer.start()
    options = (
        f"--preset smoke --steps {STEPS} --seeds 0,1 --accelerator cpu --workers 2 --threads 1"
    )
    metrics = ["--metrics", "reconstruction"]
    arguments = ["sweep", "vae", *options.split(), *metrics, "--out", str(out)]
    assert main([*arguments, "--engine", "ray"]) == 0
    said = capfd.readouterr().out
    for seed, why in enumerate(("killed by SIGKILL", "its Ray worker died")):
        [line] = [x for x in said.splitlines() if f"vae-seed-{seed}: interrupted after" in x]
        assert why in line
        assert _result(out / f"vae-seed-{seed}") == _result(tmp_path / f"whole-{seed}")
        output = RunFolder(out / f"vae-seed-{seed}").output.read_text()
        assert output.count(" -m pydisent train ") == 2
    assert "│ vae    │ 0 1   │" in said
    assert "(raylet)" not in said
    assert (out / "comparison" / "comparison.md").is_file()
    states = json.loads((out / "sweep.json").read_text())["runs"].values()
    assert [state["state"] for state in states] == ["done", "done"]
    assert main(arguments) == 0  # The engine is no part of what a sweep is.
    assert "2 runs, 2 of them done before" in capfd.readouterr().out


def test_a_signal_lets_the_workers_save_on_a_cluster_that_ends_with_them(tmp_path):
    _stand_ins.check_a_signal_lets_the_workers_save("RayEngine(2)", tmp_path, late=True)


@pytest.mark.usefixtures("cluster")
def test_jobs_that_wait_for_room_on_a_cluster_never_begin_after_a_signal(tmp_path):
    assert threading.current_thread() is threading.main_thread()  # or the signal would kill it
    ready = [tmp_path / name / "ready" for name in "abc"]
    jobs = [job(tmp_path, path.parent.name, python(PATIENT, path)) for path in ready]

    def stop():
        wait_for(*ready[:2])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    outcomes = []
    assert RayEngine(3).run(jobs, outcomes.append) == signal.SIGTERM
    *begun, first, second = [o.state for o in outcomes]
    assert (first, second) == ("interrupted", "interrupted")
    assert begun in (["running"] * count for count in range(3))  # the news may come too late
    assert all(path.with_suffix(".saved").exists() for path in ready[:2])
    assert not ready[2].exists()


@on_linux
def test_what_a_killed_sweep_has_at_work_ends(tmp_path, cluster):
    driver = start_driver(f"RayEngine(2, {cluster!r})", tmp_path)
    for moment in ("before", "after"):
        limit = time.monotonic() + 20 * (moment == "after")
        for name in "ab":
            with (tmp_path / name / "output.log").open("ab") as output:
                while not (free := lock(output)) and time.monotonic() < limit:
                    time.sleep(0.01)
            assert free == (moment == "after")
        driver.kill()
    driver.communicate()


@pytest.mark.slow
@on_linux
def test_a_sweep_whose_own_cluster_dies_ends_with_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_health_check_period_ms", "300")  # or it would take Ray 15 seconds
    driver = start_driver("RayEngine(2)", tmp_path)
    (raylet,) = [p for p in psutil.Process(driver.pid).children() if p.name() == "raylet"]
    raylet.kill()
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert errors.splitlines()[-1].startswith("ConnectionError: the Ray cluster has ended: ")
    for name in "ab":
        assert (tmp_path / name / "ready.saved").exists()
    assert not (tmp_path / "c").exists()


def test_bad_addresses_are_refused_at_once(tmp_path, capfd, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{unused.getsockname()[1]}"
    for address, words in (
        ("nowhere", "ray_address must be HOST:PORT, ray://HOST:PORT or auto, got 'nowhere'"),
        (closed, f"no Ray cluster answers at {closed}: "),
        (f"ray://{closed}", f"no Ray cluster answers at ray://{closed}: "),
    ):
        options = ["--preset", "smoke", "--out", str(tmp_path / "sweep"), "--engine", "ray"]
        assert main(["sweep", "vae", *options, "--ray-address", address]) == 2
        assert words in capfd.readouterr().err
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert main(["sweep", "vae", *options]) == 2
        assert words in capfd.readouterr().err
        monkeypatch.undo()
    assert not (tmp_path / "sweep").exists()
    monkeypatch.setattr(ray_engine, "_CONNECT", 0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ConnectionError, match=r"no Ray cluster answers at 127.* timed out"):
            RayEngine(1, f"127.0.0.1:{silent.getsockname()[1]}")


@pytest.mark.usefixtures("cluster")
def test_jobs_for_which_no_machine_is_large_enough_are_refused(tmp_path):
    large = replace(job(tmp_path, "a", python("pass")), threads=7)
    with pytest.raises(ValueError, match="threads must be at most 6, the CPU cores of the la"):
        run(RayEngine(1), [large])
