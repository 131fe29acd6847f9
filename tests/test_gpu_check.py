"""The unattended check of a GPU, on its dry run."""

import contextlib
import io
import json
import runpy
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import torch

from pydisent.ops.registry import REGISTRY

BENCH = Path(__file__).parents[1] / "bench"

NAMES = ("build", "ceilings", "probes", "headline", "suite", "tests", "compile", "memcheck",
         "racecheck")  # fmt: skip


@pytest.fixture
def in_process(bench):
    """Runs the stages' commands without the seconds that each takes to import torch."""

    def execute(stage, work, log, limit):
        told, command = io.StringIO(), stage.command
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            if "pytest" in command:
                assert command[-3:] == sorted(set(command[-3:]))
                code = pytest.main(["-p", "no:xdist", "--collect-only", *command[3:]])
            elif len(command) > 1 and command[1].startswith("bench/"):
                code = bench(Path(command[1]).stem).main(command[2:])
            else:
                code = subprocess.call(command, cwd=work)
        log.write(told.getvalue().encode())
        return code

    return execute


@pytest.fixture
def stubbed(bench, monkeypatch):
    """The check with stages that are only noted, on a machine that has a Hopper GPU."""
    module, noted = bench("gpu_check"), []
    monkeypatch.setattr(module, "prepare", lambda *_: None)
    monkeypatch.setattr(module, "architecture", lambda: "9.0a")

    def execute(stage, work, log, limit):
        noted.append((stage, limit))
        log.write(b"some lines\n--- table ---\na row\n")
        return int(stage.command == ["false"])

    return lambda *arguments: module.main([*map(str, arguments)], execute), noted


@pytest.mark.slow
def test_dry_run_goes_through_every_stage(bench, in_process, tmp_path, capsys):
    check = bench("gpu_check")
    assert check.main(["--dry-run", "--out", str(tmp_path)], in_process) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "All stages passed."
    assert [line.split()[0] for line in lines[-10:-1]] == list(NAMES)
    assert (tmp_path / "summary.txt").read_text() in "\n".join(lines) + "\n"
    files = [p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()]
    results = {"gpu_ceilings.json", "gpu_probes.json", "gpu_stages.json", "gpu_suite.json"}
    assert {path.name for path in files} == results | {"check.json", "log.txt", "summary.txt"}
    assert max(len(path.parts) for path in files) <= 2
    told = json.loads((tmp_path / "check.json").read_text())
    assert [stage["name"] for stage in told["stages"]] == list(NAMES)
    assert told["environment"]["torch"] == torch.__version__
    (folder,) = {path.parent for path in tmp_path.glob("*/*.json")}
    found = {path.name: json.loads(path.read_text()) for path in folder.iterdir()}
    assert all(result["environment"]["backends"] for result in found.values())
    rows = found["gpu_suite.json"]["rows"]
    assert [row["op"] for row in rows] == [
        "gaussian_kl", "activation_tangent_", "doubling_convolution"] * 2  # fmt: skip
    for row in rows:
        if row["op"] == "doubling_convolution":
            assert row["torchs_own"]
            continue
        last = list(row["seconds"].values())[-1]
        assert last.keys() == {"pydisent", "reference", "torch.compile"}
        assert all(times["how"] == "graph" and times["host"] > 0 for times in last.values())
    stages = found["gpu_stages.json"]
    assert not stages["failed"]
    assert {row["part"] for row in stages["parts"]} >= {"trace", "J pass", "Gram", "whole"}
    assert {row["way"] for row in stages["updates"]} >= {"none", "gram_fp32", "listing_1"}
    # The whole update with the penalty is one graph.
    graphed = [row for row in stages["updates"] if row["way"] == "gram_graph_fp32"]
    assert [row["how"] for row in graphed] == ["graph"]
    probes = found["gpu_probes.json"]["rows"]
    assert {"Gram", "all eigenvectors"} <= {row["name"] for row in probes if "p50" in row}


def test_each_stage_that_fails_stops_no_other(stubbed, tmp_path, monkeypatch, capsys):
    check, noted = stubbed
    for name in NAMES:
        noted.clear()
        monkeypatch.setenv("GPU_CHECK_FAIL", name)
        assert check("--out", tmp_path, "--dry-run") == 1
        assert [stage.name for stage, _ in noted] == list(NAMES)
        assert capsys.readouterr().out.splitlines()[-1] == f"FAILED: {name}"
        states = json.loads((tmp_path / "check.json").read_text())["stages"]
        assert [s["name"] for s in states if not s["state"].startswith("passed")] == [name]


def test_with_a_gpu_it_builds_for_it_and_watches_the_kernels(stubbed, tmp_path):
    check, noted = stubbed
    assert check("--out", tmp_path) == 0
    stages = {stage.name: stage for stage, _ in noted}
    commands = {name: " ".join(stage.command) for name, stage in stages.items()}
    assert "TORCH_CUDA_ARCH_LIST=9.0a" in commands["build"]
    assert "setup.py build_ext --inplace" in commands["build"]
    assert "--only triton" in " ".join(stages["build"].beside[0])
    assert "--suite gpu" in commands["suite"]
    assert "--compiled" not in commands["suite"]
    assert "--compiled" in commands["compile"]
    assert commands["memcheck"].startswith("compute-sanitizer --tool memcheck")
    assert "--only" not in commands["memcheck"]
    assert commands["racecheck"].endswith("--only native")
    for name in ("memcheck", "racecheck"):
        assert stages[name].environment["PYTORCH_NO_CUDA_MEMORY_CACHING"] == "1"
    assert not any("--device cpu" in command for command in commands.values())


def test_all_of_it_ends_in_time(stubbed, tmp_path, capsys):
    check, noted = stubbed
    assert check("--out", tmp_path) == 0
    least = {stage.name: stage.least for stage, _ in noted}
    for number, (stage, limit) in enumerate(noted):
        assert limit <= stage.most
        assert limit <= 420 - sum(least[name] for name in NAMES[number + 1 :])
        if stage.limits:  # it is told to end before it is stopped
            assert float(stage.command[-1]) < limit
    assert sum(least.values()) <= 420
    capsys.readouterr()
    noted.clear()
    assert check("--out", tmp_path, "--seconds", 0) == 0
    assert not noted
    assert capsys.readouterr().out.splitlines()[-1] == "LEFT OUT: " + " ".join(NAMES)


@pytest.mark.parametrize(
    ("code", "said", "state"),
    [
        (1, "Error: Device not supported.", "left out, compute-sanitizer does not support"),
        (127, "compute-sanitizer is not installed", "left out"),
        (9, "ERROR SUMMARY: 1 error", "failed with status 9"),
        (None, "", "failed, stopped after"),
    ],
)
def test_what_a_sanitizer_says(bench, tmp_path, code, said, state):
    module = bench("gpu_check")
    check = module.Check(
        tmp_path, time.monotonic() + 100, lambda *_: (_[2].write(said.encode()) and None) or code
    )
    check.go(module.Stage("memcheck", 20, 1, ["x"]), tmp_path, 0)
    assert check.outcomes[0].state.startswith(state)


def test_a_stage_is_a_process_that_ends(bench, tmp_path):
    module = bench("gpu_check")

    def status(limit, *command, beside=()):
        with (tmp_path / "log").open("w+b") as log:
            stage = module.Stage("some", 1, 1, list(command), list(beside))
            code = module.run(stage, tmp_path, log, limit)
            log.seek(0)
            return code, log.read().decode()

    assert status(20, "sh", "-c", "echo told; exit 3") == (3, "told\n")
    assert status(20, "no-such-command-there") == (127, "no-such-command-there is not installed\n")
    begun = time.monotonic()
    child = ["sh", "-c", "sleep 60 & echo $! > child; wait"]
    assert status(0.5, "sleep", "60", beside=[child])[0] is None
    assert time.monotonic() - begun < 30
    child = int((tmp_path / "child").read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(child)
        while time.monotonic() - begun < 30 and process.status() != "zombie":
            time.sleep(0.01)
        assert process.status() == "zombie"  # its new parent may not look after it


def test_the_copy_that_is_built_has_its_own_kernels(bench, tmp_path):
    bench("gpu_check").prepare(tmp_path, False)
    assert not list(tmp_path.rglob("_C.*"))
    package = tmp_path / "pydisent" / "triton_kernels"
    (kernels,) = runpy.run_path(package / "__init__.py")["__path__"]
    assert Path(kernels).samefile(tmp_path / "triton_kernels")
    assert (Path(kernels) / "gates.py").exists()
    assert (tmp_path / "setup.py").exists()


def test_without_a_gpu_it_says_so(bench, monkeypatch, tmp_path, capsys):
    module = bench("gpu_check")
    monkeypatch.setattr(module, "PYTHON", "/bin/false")
    assert module.main(["--out", str(tmp_path)]) == 2
    assert "no torch that sees a CUDA device" in capsys.readouterr().err


def test_what_is_torchs_own_by_the_sources(bench, monkeypatch, capsys):
    """No red row, and no kernel that a build lost by accident."""
    cuda = {path.stem for path in (BENCH.parent / "csrc" / "cuda").glob("*.cu")}
    own = {name for name, op in REGISTRY.items()
           if not op.spec.triton and op.spec.family not in cuda}  # fmt: skip
    assert "doubling_convolution" in own
    assert {name for name in REGISTRY if bench("_work").is_torchs_own(name)} == own
    sanitized = bench("_sanitized")
    monkeypatch.setattr(sanitized, "implementations", lambda op, device: set())
    command = ["--device", "cpu", "--ops", "doubling_convolution"]
    assert sanitized.main(command) == 0
    assert "doubling_convolution: torch's own" in capsys.readouterr().out
    assert sanitized.main([*command, "cumax"]) == 1
    assert "no kernel of cumax cumax_backward" in capsys.readouterr().err
