"""The unattended check of a GPU, on its dry run; and the suite that it measures with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pydisent.ops.registry import REGISTRY

BENCH = Path(__file__).parents[1] / "bench"


def check(out, **environment):
    return subprocess.run(
        ["bash", str(BENCH / "gpu_check.sh"), "--dry-run"],
        env={**os.environ, "OUT": str(out), "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_dry_run_goes_through_every_stage(tmp_path):
    done = check(tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "All stages passed."
    assert (tmp_path / "out" / "summary.txt").read_text() in done.stdout
    head = next(i for i, line in enumerate(lines) if line.startswith("op  "))
    rows = [line.split()[0] for line in lines[head + 1 : -2]]
    assert rows == ["gaussian_kl", "activation_tangent_"] * 2  # in fp32 and in bf16
    files = [p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*") if p.is_file()]
    names = {path.name for path in files}
    logs = {"build.log", "tests.log", "memcheck.log", "suite.log"}
    assert names == logs | {"gpu_suite.json", "summary.txt"}
    assert max(len(path.parts) for path in files) <= 2
    assert "gaussian_kl: native, triton" in (tmp_path / "out" / "memcheck.log").read_text()
    assert str(tmp_path) not in next((tmp_path / "out").rglob("*.json")).read_text()


def test_a_stage_that_fails_stops_no_other(tmp_path):
    done = check(tmp_path, GPU_CHECK_FAIL="build memcheck suite")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "FAILED: build memcheck suite"
    assert f"passed ({tmp_path}/tests.log)" in done.stdout
    assert "skipped" in (tmp_path / "tests.log").read_text()


PYTHON_STUB = """#!/usr/bin/env bash
# Says that there is a Hopper GPU, and notes what it is asked to run.
echo "$TORCH_CUDA_ARCH_LIST ${PYTORCH_NO_CUDA_MEMORY_CACHING:-} $*" >>"$CALLS"
[[ "$*" == *get_device_capability* ]] && echo 9.0
[[ "$*" == *bench/run.py* ]] && printf 'ceilings: none\nop  \na row\n'
exit 0
"""
SANITIZER_STUB = """#!/usr/bin/env bash
[[ $2 == memcheck ]] && exit 9
echo 'Device not supported'
exit 1
"""


def test_with_a_gpu_it_builds_for_it_and_watches_the_kernels(tmp_path):
    """The ways that a dry run does not go, with tools that only note what is asked of them."""
    for name, text in {"python": PYTHON_STUB, "compute-sanitizer": SANITIZER_STUB}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["bash", str(BENCH / "gpu_check.sh")],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHON": str(tmp_path / "python"),
            "CALLS": str(tmp_path / "calls"),
            "OUT": str(tmp_path / "out"),
            "TORCH_CUDA_ARCH_LIST": "",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert lines[-1] == "FAILED: memcheck", done.stdout + done.stderr
    assert done.returncode == 1
    assert lines[-3:-1] == ["op  ", "a row"]
    assert any(line.startswith("memcheck ") and "status 9" in line for line in lines)
    assert any(line.startswith("racecheck ") and "does not support" in line for line in lines)
    calls = (tmp_path / "calls").read_text()
    assert "9.0a  setup.py build_ext --inplace" in calls
    assert "-m pytest -p no:cacheprovider -m gpu -n 8 tests/ops/test_registry.py" in calls
    assert "bench/run.py --suite gpu --limit 5" in calls


def test_without_a_gpu_it_says_so(tmp_path):
    done = subprocess.run(
        ["bash", str(BENCH / "gpu_check.sh")],
        env={**os.environ, "OUT": str(tmp_path), "PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "no torch that sees a CUDA device" in done.stderr


def test_every_op_has_a_problem_and_its_work(bench):
    work = bench("_work")
    for name in work.OPS:
        spec = REGISTRY[name].spec
        args = work.problem(name, "tiny", torch.float32, "cpu")
        forward = work.work(name, args)
        assert min(forward) > 0
        if not spec.written:
            both = work.work(name, args, backward=True)
            assert both > forward
            assert both[1] > forward[1]
        for size in ("tiny", "small", "medium", "large"):
            assert len(getattr(spec.sizes, size)) == len(spec.sizes.axes.split())


def test_work_of_a_pass_counted_by_hand(bench):
    """B 4, d 3: each number in float32 is read, or written, once."""
    work = bench("_work").work
    mu, logvar, noise = (torch.zeros(4, 3) for _ in range(3))
    numbers = 4 * mu.numel()
    assert work("gaussian_kl", (mu, logvar))[0] == 3 * numbers
    assert work("gaussian_kl", (mu, logvar), True)[0] == (3 + 5) * numbers
    # Two gradients and three inputs are read, and three gradients written.
    assert work("reparameterized_sample", (mu, logvar, noise), True)[0] == (5 + 8) * numbers


def test_no_time_is_told_of_what_fails_its_gate(bench, monkeypatch, tmp_path, capsys):
    run = bench("run")
    command = ["--suite", "cpu", "--size", "tiny", "--seconds", "0.001", "--backend", "none"]
    command += ["--ops", "gaussian_kl", "band_gate", "--results", str(tmp_path)]
    real = run.contenders

    def wrong(name, options):
        found = real(name, options)
        if name == "gaussian_kl":
            right = found["pydisent"]
            found["pydisent"] = lambda *args: 1.1 * right(*args)
        return found

    monkeypatch.setattr(run, "contenders", wrong)
    assert run.main(command) == 1
    told = capsys.readouterr()
    assert "RED: gaussian_kl gaussian_kl" in told.err
    (path,) = tmp_path.glob("*/cpu_suite.json")
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == 4
    for row in rows:
        assert ("seconds" in row) == (row["op"] == "band_gate")
        assert row["gate"]["reference"]["passes"]
    good = next(row for row in rows if row["op"] == "band_gate")
    assert good["seconds"]["both"].keys() == {"pydisent", "reference"}
    assert 0 < good["work"]["both"]["share"] < 1


def test_a_suite_out_of_time_names_what_it_left_out(bench, tmp_path, capsys):
    command = ["--suite", "cpu", "--size", "tiny", "--seconds", "0.001", "--backend", "none"]
    assert bench("run").main([*command, "--limit", "0", "--results", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*/cpu_suite.json")
    assert len(json.loads(path.read_text())["left_out"]) == 2 * len(bench("_work").OPS)
    assert "left out: the time was up" in capsys.readouterr().out


@pytest.fixture
def measured(bench, tmp_path, monkeypatch):
    """Results of a suite of two ops, in a folder that stands for the committed one."""
    readme = bench("readme")
    command = ["--suite", "cpu", "--size", "tiny", "--seconds", "0.001", "--backend", "eager"]
    command += ["--ops", "gaussian_kl", "activation_tangent_", "--results", str(tmp_path)]
    assert bench("run").main(command) == 0
    (path,) = tmp_path.glob("*/cpu_suite.json")
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    return readme, path


def test_the_suite_has_a_row_an_op_and_a_picture(measured, bench, tmp_path):
    readme, path = measured
    suite, result = bench("_suite"), json.loads(path.read_text())
    lines = suite.table(result)
    rows = [line for line in lines if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == ["gaussian_kl", "activation_tangent_"]
    assert all(row.count("×)") == 2 and row.count(" %") == 2 for row in rows)
    assert "\n".join(lines).strip() in readme.tables()
    suite.draw_roofline(result, tmp_path / "roofline.png")
    assert (tmp_path / "roofline.png").stat().st_size > 5000
    del result["rows"][0]["seconds"]  # of gaussian_kl in fp32
    result["alignment"] = [
        {"k": 8, "iterations": 1, "batch": 32, "way": "gram_fp32", "relative_cost": 1.51},
        {"k": 8, "iterations": 1, "batch": 32, "way": "listing_1", "failed": "out of memory"},
    ]
    lines = suite.table(result)
    assert any("`gaussian_kl`" in line and "not measured" in line for line in lines)
    assert "| 8 | 1 | 1.5× | out of memory |" in lines


def test_what_no_gpu_has_measured_is_told(measured):
    readme, path = measured
    result = json.loads(path.read_text())
    told = readme.coverage_lines()[0]
    assert "has not run on a GPU yet" in told
    assert "`gaussian_kl`" in told
    path.unlink()
    result["environment"]["gpu"] = "NVIDIA Some"
    for device in ("cpu", "cuda"):
        changed = json.dumps(result | {"device": device})
        path.with_name("gpu_suite.json").write_text(changed)
        told = readme.coverage_lines()[0]
        assert told.startswith("Measured on: NVIDIA Some.")
        assert ("`gaussian_kl`" in told) == (device == "cpu")
        assert "`cumax`" in told
