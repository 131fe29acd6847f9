"""Every CUDA kernel compiles for each architecture shipped, within its budget of resources."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from pydisent.ops.registry import REGISTRY

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
NVCC = shutil.which("nvcc")

pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="the sources are not beside the tests")
#: Families of ops that are torch's own on a GPU.
TORCHS = {"doubling"}
needs_nvcc = pytest.mark.skipif(
    NVCC is None or shutil.which("c++filt") is None, reason="nvcc or c++filt is not installed"
)


@pytest.fixture(scope="module")
def budgets():
    specification = importlib.util.spec_from_file_location("budgets", ROOT / "bench" / "budgets.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.slow
@needs_nvcc
@pytest.mark.parametrize(
    ("source", "arch"),
    [("spectral.cu", "sm_90a"), ("tangent.cu", "sm_80")],
)
def test_compiles_within_its_budget(budgets, source, arch, tmp_path):
    """Each file for one GPU; ``make budgets`` compiles all for all."""
    assert {path.name for path in CSRC.glob("cuda/*.cu")} == {"spectral.cu", "tangent.cu"}
    found = budgets.cuda_resources(source, arch, tmp_path)
    assert found, "ptxas told nothing of any kernel"
    assert {(takes.spills, takes.stack) for takes in found.values()} == {(0, 0)}, found
    assert not budgets.excess(budgets.load(), source, arch, found)


def test_every_kernel_and_every_op_has_a_budget(budgets):
    """Also where no compiler is: what is launched in the sources against the committed file."""
    known = budgets.load()["kernels"]
    for path in CSRC.glob("cuda/*.cu"):
        text = re.sub(r"//.*", "", path.read_text())
        written = re.findall(r"__global__\s+void\s+(?:__launch_bounds__\(.*?\)\s*)?(\w+)", text)
        assert len(written) == text.count("__global__"), path.name
        assert set(written) == {name.split("<")[0] for name in known[path.name]}, path.name
    for op in REGISTRY.values():
        if op.spec.family in TORCHS:
            continue
        file = f"{op.spec.family}.py" if op.spec.triton else f"{op.spec.family}.cu"
        assert known[file], op.spec.name
    for file, kernels in known.items():
        for name, row in kernels.items():
            assert list(row) == list(budgets.ARCHS), (file, name)


def test_every_file_of_kernels_tells_its_floor():
    """Bytes and operations that a call cannot do without, in its opening comment."""
    files = [*CSRC.glob("cuda/*.cu"), *(ROOT / "triton_kernels").glob("[!_]*.py")]
    assert files
    for path in files:
        opening = path.read_text().split("#include" if path.suffix == ".cu" else "import ")[0]
        assert "Floor, " in opening, path.name
        assert "bytes" in opening, path.name
        assert "operations" in opening, path.name


def test_budgets_can_be_exceeded(budgets, monkeypatch):
    row = {"tools": {"nvcc": "13.0"}, "kernels": {"a.cu": {"f": {"sm_80": [100, 0, 0, 0]}}}}
    takes = budgets.Resources(100, 0, 0, 0)
    for version, most in (("13.0", 100), ("13.1", 125)):
        monkeypatch.setattr(budgets, "versions", lambda version=version: {"nvcc": version})

        def told(version=version, **changed):
            return budgets.excess(row, "a.cu", "sm_80", {"f": takes._replace(**changed)})

        assert not told(registers=most)
        assert told(registers=most + 1) == [
            f"a.cu: f on sm_80: registers {most + 1}, the budget is {most}"
        ]
        for field in ("shared", "spills", "stack"):
            assert len(told(**{field: 4})) == 1
    assert len(budgets.excess(row, "a.cu", "sm_80", {"g": takes})) == 2


@needs_nvcc
@pytest.mark.parametrize("source", sorted(p.name for p in CSRC.glob("bind/*.cpp")))
def test_bindings_compile_for_cuda(source, tmp_path):
    """The branches that a build against a torch without CUDA leaves out."""
    command = [str(NVCC), "-std=c++20", "-c", "-Werror", "all-warnings", "-DPYDISENT_WITH_CUDA"]
    command += ["-Xcompiler", "-fsyntax-only", "-DUSE_CUDA"]
    command += ["-DTORCH_TARGET_VERSION=0x020b000000000000"]
    command += ["-isystem", str(Path(torch.__file__).with_name("include"))]
    command += ["-o", str(tmp_path / "binding.o"), str(CSRC / "bind" / source)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
