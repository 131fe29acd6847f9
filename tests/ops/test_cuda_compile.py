"""Every CUDA kernel compiles for each architecture shipped, within its budget of resources."""

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


@pytest.mark.slow
@needs_nvcc
@pytest.mark.parametrize(("source", "dtype"), [("spectral.cu", "f32"), ("tangent.cu", "bf16")])
def test_machine_code_is_within_its_budget(budgets, hold, source, dtype, tmp_path):
    """Each file for one GPU and dtype; ``make budgets`` compiles all for all."""
    assert {path.name for path in CSRC.glob("cuda/*.cu")} == {"spectral.cu", "tangent.cu"}
    found = budgets.cuda_resources(source, "sm_90a", tmp_path, dtype)
    kernels = {name.split("<")[0] for name in budgets.load()["kernels"][source]}
    assert {name.split("<")[0] for name in found} == kernels
    hold(source, "sm_90a", found)


def test_no_kernel_spills(budgets):
    """But for one, at sizes where a program holds a mask of 128² in parts of 32²."""
    for file, kernels in budgets.load()["kernels"].items():
        for name, row in kernels.items():
            for takes in row.values():
                takes = budgets.Resources(*takes)
                assert not (takes.spills or takes.stack) or name.startswith("mask_adjoint"), file


def test_tangents_are_moved_sixteen_bytes_at_a_time(budgets):
    """A budget that no kernel of whole packs may be given less of."""
    for name, row in budgets.load()["kernels"]["tangent.cu"].items():
        if re.match(r"(forward|backward)_kernel.*, [248]>", name):
            for takes in row.values():
                takes = budgets.Resources(*takes)
                assert (takes.load, takes.store) == (16, 16), name


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
        assert not op.spec.triton or known[file + budgets.LAUNCHED], op.spec.name
    for file, kernels in known.items():
        for name, row in kernels.items():
            wanted = [budgets.HOT] if file.endswith(budgets.LAUNCHED) else [*budgets.ARCHS]
            assert list(row) == wanted, (file, name)


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
    takes = budgets.Resources(100, 0, 0, 0, 2, 0, 16, 16, 2.5)
    row = {"tools": {"nvcc": "13.0"}, "kernels": {"a.cu": {"f": {"sm_80": list(takes)}}}}
    for version, most, loop in (("13.0", 100, 2.5), ("13.1", 125, 3.125)):
        monkeypatch.setattr(budgets, "versions", lambda version=version: {"nvcc": version})

        def told(version=version, **changed):
            return budgets.excess(row, "a.cu", "sm_80", {"f": takes._replace(**changed)})

        assert not told(registers=most, loop=loop, load=32)
        assert told(registers=most + 1) == [
            f"a.cu: f on sm_80: registers {most + 1}, the budget is {most}"
        ]
        worse = {"shared": 4, "stack": 8, "spills": 1, "barriers": 3, "calls": 1}
        for field, value in {**worse, "load": 8, "store": 4, "loop": loop + 0.01}.items():
            assert len(told(**{field: value})) == 1, field
    assert len(budgets.excess(row, "a.cu", "sm_80", {"g": takes})) == 2
    saved = {"f": takes._replace(loop=2.0, load=32)}
    assert not budgets.better(row, "a.cu", "sm_80", saved)  # by another version
    monkeypatch.setattr(budgets, "versions", lambda: {"nvcc": "13.0"})
    improved = budgets.better(row, "a.cu", "sm_80", saved)
    assert [line.split(": ")[2] for line in improved] == ["load 32, was 16", "loop 2.0, was 2.5"]


SASS = """
        /*0000*/                   LDC R1, c[0x0][0x28] ;        /* 0x00000a00ff017b82 */
        /*0010*/                   LDG.E.64 R8, desc[UR8][R2.64] ;
        /*0020*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0030*/              @!P0 LDG.E.128.CONSTANT R4, desc[UR8][R2.64] ;
        /*0040*/                   FMUL R4, R4, R5 ;
        /*0050*/               @P1 STG.E.U16 desc[UR8][R2.64], R4 ;
        /*0060*/               @P0 BRA 0x30 ;
        /*0070*/                   CALL.REL.NOINC 0x90 ;
        /*0080*/               @P2 BRA 0x10 ;
        /*0090*/                   STL [R1], R4 ;
        /*00a0*/                   EXIT ;
        /*00b0*/                   LDS.128 R4, [R2] ;
        /*00c0*/                   BRA 0xb0 ;
        /*00d0*/                   BRA 0xd0;
"""


def test_machine_code_is_counted(bench):
    """Four instructions in the inner loop, which move 18 bytes; after the exit there is no loop."""
    _sass = bench("_sass")
    code = _sass.code(SASS)
    assert code == _sass.Code(spills=1, barriers=1, calls=1, load=16, store=2, loop=0.89)
    straight = _sass.code(SASS.replace("BRA 0x30", "NOP").replace("BRA 0x10", "NOP"))
    assert straight.loop == round(4 * 14 / (8 + 16 + 2 + 16), 2)
    assert _sass.code("/*0000*/ EXIT ;").loop == 0


@needs_nvcc
def test_bindings_of_cuda_itself_compile(tmp_path):
    """What a build against a torch without CUDA leaves out; test_cuda_on_cpu.py has the others."""
    with_cuda = {p.name for p in CSRC.glob("bind/*.cpp") if "PYDISENT_WITH_CUDA" in p.read_text()}
    assert with_cuda == {"check.cpp", "spectral.cpp", "tangent.cpp"}
    command = [str(NVCC), "-std=c++20", "-c", "-Werror", "all-warnings", "-DPYDISENT_WITH_CUDA"]
    command += ["-Xcompiler", "-fsyntax-only", "-DUSE_CUDA"]
    command += ["-DTORCH_TARGET_VERSION=0x020b000000000000"]
    command += ["-isystem", str(Path(torch.__file__).with_name("include"))]
    command += ["-o", str(tmp_path / "binding.o"), str(CSRC / "bind" / "check.cpp")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
