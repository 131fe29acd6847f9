"""Verify and time every kernel on the local NVIDIA GPU, without network access.

    python bench/gpu_check.py [--dry-run] [--out FOLDER] [--seconds 420]

In this order: builds the kernels for that GPU in a temporary folder, measures the machine's limits
(``_probes.py``), the alignment penalty part by part (``_stages.py``) and every op (``run.py``),
runs the tests marked gpu, times torch.compile if time remains, and runs every kernel under
compute-sanitizer: memcheck, and racecheck for the CUDA C++ kernels (it mistakes Triton's reductions
for races). Everything ends within ``--seconds``. A failed stage does not stop the others; the last
line lists failures. Each stage writes its results when it ends, to FOLDER/<machine> and
FOLDER/check.json; log.txt has the output, and summary.txt the tables. To add them to the README and
docs/gpu.md, copy the machine's folder to bench/results, and run make results.

It needs Python with torch, Triton and pytest, setuptools, pybind11, ninja, a C++ compiler and nvcc.
``--dry-run`` takes the same paths on the CPU, with the existing extension and tiny sizes.
GPU_CHECK_FAIL names stages that are made to fail, for the tests of this file.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

ROOT = Path(__file__).resolve().parents[1]
TABLE = "--- table ---"
PYTHON = sys.executable
BUILT = """import pydisent
report = pydisent.backends()
print(report)
assert report["cuda"]["active"] and report["triton"]["active"]"""


@dataclass
class Stage:
    """A command with its maximum seconds, and the minimum reserved for it.

    Commands in ``beside`` run at the same time, to compile into a cache; they end with the stage.
    """

    name: str
    most: int
    least: int
    command: list[str]
    beside: list[list[str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    limits: bool = False  # whether the command takes --limit


@dataclass
class Outcome:
    """Outcome of a stage, and the end of its output."""

    name: str
    state: str
    seconds: float
    said: list[str]

    def __str__(self) -> str:
        return f"{self.name:10} {self.seconds:4.0f} s  {self.state}: {(self.said or [''])[0][:90]}"


def bench(name: str, *options: str, dry: bool) -> list[str]:
    tiny = ["--device", "cpu", "--size", "tiny", "--seconds", "0.0005"] if dry else []
    return [PYTHON, f"bench/{name}.py", *options, *tiny]


def stages(out: Path, dry: bool, gpu_tests: list[str], arch: str, jobs: int) -> list[Stage]:
    """All stages in order; ``arch`` is the GPU's architecture."""
    few = ["--ops", "gaussian_kl", "activation_tangent_", "doubling_convolution"] if dry else []
    results = ["--results", str(out)]
    quick = [] if dry else ["--seconds", "0.03"]

    def suite(*options: str) -> list[str]:
        return bench("run", "--suite", "gpu", *options, *few, *results, *quick, dry=dry)

    watched = [PYTHON, "bench/_sanitized.py", *few]
    watched += ["--device", "cpu", "--samples", "1"] if dry else []
    compiled = suite("--compiled", *(["--backend", "eager"] if dry else []))
    workers = ["-n", str(min(jobs, 12))] if importlib.util.find_spec("xdist") and not dry else []
    # Set by env, as commands beside the build have no compiled kernels and must not be strict.
    command = ["env", "PYDISENT_CUDA=1", "PYDISENT_STRICT=1", f"TORCH_CUDA_ARCH_LIST={arch}",
               f"MAX_JOBS={jobs}", "bash", "-c",
               '"$0" setup.py build_ext --inplace && "$0" -c "$1"', PYTHON, BUILT]  # fmt: skip
    triton = [PYTHON, "bench/_sanitized.py", "--only", "triton", "--samples", "999", "--jobs"]
    warm = [] if dry else [[*compiled, "--warm", str(i), "4"] for i in range(4)]
    interpreted = {"TRITON_INTERPRET": "1"} if dry else {}
    found = [
        Stage("build", 160, 60, ["ls", "-l", "pydisent"] if dry else command,
              [] if dry else [[*triton, str(max(2, jobs // 2))]]),
        Stage("ceilings", 25, 10, bench("_probes", "ceilings", *results, *quick, dry=dry)),
        Stage("probes", 50, 20, bench("_probes", "probes", *results, *quick, dry=dry), limits=True),
        Stage("headline", 75, 35, bench("_stages", *results, dry=dry), limits=True),
        Stage("suite", 80, 40, suite(), limits=True),
        Stage("tests", 110, 40,
              [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-m", "gpu", *workers, *gpu_tests],
              warm, {"TORCHINDUCTOR_COMPILE_THREADS": "4"}),
        Stage("compile", 80, 0, compiled, limits=True),
    ]  # fmt: skip
    for tool, kernels, most, least in (("memcheck", [], 70, 20), ("racecheck", ["native"], 40, 8)):
        sanitizer = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9"]
        # Rejected API calls by libraries are not our errors.
        sanitizer += ["--report-api-errors", "no"] if tool == "memcheck" else []
        only = ["--only", *kernels] if kernels else []
        # A cached block would hide an out-of-bounds read.
        uncached = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", **interpreted}
        command = [*([] if dry else sanitizer), *watched, *only]
        found.append(Stage(tool, most, least, command, environment=uncached))
    return found


def start(command: list[str], work: Path, log: Any, environment: dict[str, str]) -> Any:
    """Start a command in its own process group, so that its children can be ended with it."""
    return subprocess.Popen(
        command, cwd=work, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        env={**os.environ, **environment}, start_new_session=True,
    )  # fmt: skip


def end(process: subprocess.Popen) -> None:
    for told in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, told)
            process.wait(5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def run(stage: Stage, work: Path, log: BinaryIO, limit: float) -> int | None:
    """Exit status of a stage's command; None if it timed out."""
    if shutil.which(stage.command[0]) is None:
        log.write(f"{stage.command[0]} is not installed\n".encode())
        return 127
    others = (work / "beside.txt").open("ab")  # reported at the end of the log
    beside = [start(each, work, others, stage.environment) for each in stage.beside]
    process = start(stage.command, work, log, stage.environment)
    ends = time.monotonic() + limit
    try:
        code: int | None = process.wait(limit)
        if stage.name == "build":  # later stages need the cache filled
            for other in beside:
                other.wait(max(0.1, ends - time.monotonic()))
    except subprocess.TimeoutExpired:
        code = process.poll()
    for each in (process, *beside):
        end(each)
    others.close()
    return code


Execute = Callable[[Stage, Path, BinaryIO, float], int | None]


class Check:
    """One run of all stages, with its results folder and clock."""

    def __init__(self, out: Path, ends: float, execute: Execute) -> None:
        self.out, self.execute = out, execute
        self.ends = ends
        self.outcomes: list[Outcome] = []
        self.tables: list[str] = []
        self.environment = {
            "platform": platform.platform(),
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "triton", "numpy")},
            "gpu": _gpu_state(),
        }

    def go(self, stage: Stage, work: Path, kept: float) -> None:
        """Run a stage, reserving ``kept`` seconds for others, and record its outcome."""
        begun = time.monotonic()
        limit = min(stage.most, self.ends - begun - kept)
        if limit < min(10, stage.most):
            self.note(Outcome(stage.name, "left out, the time was up", 0, []))
            return
        if stage.limits:
            stage.command += ["--limit", f"{max(1, limit - 10):.0f}"]
        if stage.name in os.environ.get("GPU_CHECK_FAIL", "").split():
            stage.command, stage.beside = ["false"], []
        with (self.out / "log.txt").open("ab") as log:
            log.write(f"\n===== {stage.name}: {' '.join(stage.command)}\n".encode())
            log.flush()
            place = log.tell()
            code = self.execute(stage, work, log, limit)
        with (self.out / "log.txt").open("rb") as log:
            log.seek(place)
            text = log.read().decode(errors="replace")
        told, _, table = text.partition(f"{TABLE}\n")
        lines = [line for line in told.splitlines() if line.strip()]
        state = "passed"
        if code is None:
            state = f"failed, stopped after {limit:.0f} s"
        elif stage.name.endswith("check") and code and "Device not supported" in text:
            state = "left out, compute-sanitizer does not support this device"
        elif stage.name.endswith("check") and code == 127:
            state = "left out"
        elif code:
            state = f"failed with status {code}"
        said = lines[-8:] if code else lines[-1:]
        self.note(Outcome(stage.name, state, time.monotonic() - begun, said))
        if table:
            self.tables.append(f"{stage.name}\n{table}")

    def note(self, outcome: Outcome) -> None:
        """Print and record the outcome of a stage."""
        self.outcomes.append(outcome)
        failed = outcome.state.startswith("failed")
        print(outcome, *outcome.said * failed, sep="\n", flush=True)
        told = {"stages": [asdict(o) for o in self.outcomes], "environment": self.environment}
        (self.out / "check.json").write_text(json.dumps(told, indent=1) + "\n")

    def summary(self) -> list[str]:
        """The tables, one line per stage, and the stages that failed or were left out."""
        ends = []
        for word in ("FAILED", "LEFT OUT"):
            names = [o.name for o in self.outcomes if o.state.startswith(word.lower())]
            ends += [f"{word}: {' '.join(names)}"] if names else []
        return [*self.tables, *map(str, self.outcomes), "; ".join(ends) or "All stages passed."]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _gpu_state() -> str:
    """The GPU's name, driver, clocks and temperature."""
    fields = "name,driver_version,clocks.sm,clocks.mem,power.draw,temperature.gpu"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return "no nvidia-smi"
    return done.stdout.strip()


def prepare(work: Path, dry: bool) -> None:
    """Copy the sources, so that an installed pydisent cannot shadow the one being built."""
    unwanted = shutil.ignore_patterns("__pycache__", "results", *([] if dry else ["_C.*"]))
    for name in ("pydisent", "triton_kernels", "csrc", "tests", "bench"):
        shutil.copytree(ROOT / name, work / name, ignore=unwanted)
    for name in ("setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, work)


def marked_gpu(folder: Path) -> list[str]:
    """Files with tests marked gpu, relative to the folder that holds tests."""
    found = [p for p in (folder / "tests").rglob("test_*.py") if "mark.gpu" in p.read_text()]
    return sorted(str(path.relative_to(folder)) for path in found)


def architecture() -> str:
    """The GPU's architecture for nvcc; empty if torch sees no GPU."""
    code = "import torch; print('%d.%d' % torch.cuda.get_device_capability())"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False)
    arch = done.stdout.strip() if re.fullmatch(r"\d+\.\d\s*", done.stdout) else ""
    return "9.0a" if arch == "9.0" else arch


def main(
    argv: Sequence[str] | None = None,
    execute: Execute = run,
) -> int:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="on the CPU")
    parser.add_argument("--out", type=Path, help="bench/results/gpu, or one in /tmp for a dry run")
    parser.add_argument("--seconds", type=float, default=420, help="total time limit")
    options = parser.parse_args(argv)
    dry = options.dry_run
    arch = "" if dry else architecture()
    if not (dry or arch):
        print(f"{PYTHON} has no torch that sees a CUDA device", file=sys.stderr)
        return 2
    out = options.out or (Path(tempfile.mkdtemp()) if dry else ROOT / "bench" / "results" / "gpu")
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "log.txt").unlink(missing_ok=True)
    check = Check(out, (10 if dry else 1) * options.seconds + begun, execute)  # for a GPU
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(work, dry)
        path = [str(work), *filter(None, [os.environ.get("PYTHONPATH")])]
        shared = {
            # Stages share compiled kernels.
            "TRITON_CACHE_DIR": str(work / "triton"),
            "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join(path),
            **({"CUDA_VISIBLE_DEVICES": ""} if dry else {}),
        }
        order = stages(out, dry, marked_gpu(work), arch, os.cpu_count() or 1)
        for number, stage in enumerate(order):
            stage.environment |= shared
            stage.most *= 10 if dry else 1
            check.go(stage, work, sum(later.least for later in order[number + 1 :]))
            if stage.name == "build":  # old setuptools cannot read it, and does not need it
                shutil.copy(ROOT / "pyproject.toml", work)
        if (beside := work / "beside.txt").exists():
            with (out / "log.txt").open("ab") as log:
                log.write(b"\n===== beside\n" + beside.read_bytes()[-50_000:])
    told = check.summary()
    (out / "summary.txt").write_text("\n".join(told) + "\n")
    print("", *told, sep="\n")
    return 1 if told[-1].startswith("FAILED") else 0


if __name__ == "__main__":
    sys.exit(main())
