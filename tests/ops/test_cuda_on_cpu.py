"""CUDA kernels and their bindings on the CPU: a thread each, with CUDA's barriers and memory."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).with_name("cuda_on_cpu")
CSRC = Path(__file__).parents[2] / "csrc"
CXX = shutil.which("c++") or shutil.which("g++")
FAMILIES = ["spectral", "tangent"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CSRC.is_dir(), reason="the sources are not beside the tests"),
    pytest.mark.skipif(CXX is None, reason="no C++ compiler is installed"),
]


def replaced(pattern, by, source):
    source, count = re.subn(pattern, by, source)
    assert count, pattern
    return source


def kernels_as_cpp(source):
    """CUDA's source in C++: its launches, its shared memory, and of few blocks, which stride."""
    memory = r"extern __shared__ __align__\(16\) unsigned char memory\[\];"
    source = re.sub(memory, "unsigned char* memory = cuda_on_cpu::memory;", source)
    launch = r"([\w:]+(?:<[^;<>]*>)?)<<<([^;]*?), (\w+), ([^;]*?), stream>>>\((.*?)\);"
    source = replaced(launch, r"cuda_on_cpu::launch(\2, \3, \4, [&] { \1(\5); });", source)
    assert "<<<" not in source
    return source.replace("kMostBlocks = 4096", "kMostBlocks = 3")


def binding_as_cpp(source):
    """A binding whose kernels for CUDA are registered for the CPU."""
    source = replaced(r"STABLE_TORCH_LIBRARY_IMPL\(pydisent, CPU, m\) \{[^}]*\}", "", source)
    source = replaced(r"(STABLE_TORCH_LIBRARY_IMPL\(pydisent, )CUDA", r"\1CPU", source)
    return replaced(r"const torch::stable::accelerator::DeviceGuard guard\(.*?\);", "", source)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The ops' CUDA side, for the CPU: bindings with every warning, and their kernels."""
    folder, torchs = tmp_path_factory.mktemp("cuda_on_cpu"), Path(torch.__file__).parent
    sources = [str(HERE / "stub.cpp")]
    flags = ["-DPYDISENT_WITH_CUDA", "-DUSE_CUDA", "-DTORCH_TARGET_VERSION=0x020b000000000000"]
    flags += ["-shared", "-fPIC", "-std=c++20", "-O0", "-Wall", "-Wno-unknown-pragmas"]
    flags += ["-Wno-class-memaccess", f"-I{HERE}", f"-I{CSRC / 'cuda'}", f"-I{CSRC / 'bind'}"]
    flags += ["-isystem", str(torchs / "include")]
    for family in FAMILIES:
        for kind, convert in (("cuda", kernels_as_cpp), ("bind", binding_as_cpp)):
            file = CSRC / kind / f"{family}.{'cu' if kind == 'cuda' else 'cpp'}"
            made = folder / f"{family}_{kind}.cpp"
            made.write_text(convert(file.read_text()))
            sources.append(str(made))
    target = folder / "cuda_on_cpu.so"
    command = [CXX, *flags, "-o", str(target), *sources, f"-L{torchs / 'lib'}"]
    command += [f"-Wl,-rpath,{torchs / 'lib'}", "-lc10", "-ltorch", "-ltorch_cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def report(library):
    done = subprocess.run(
        [sys.executable, HERE.with_name("_cuda_on_cpu.py"), library],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    print(done.stderr)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.in_turn
@pytest.mark.parametrize("part", ["power_iteration", "tiles", "tangents"])
def test_kernels_are_as_exact_as_the_reference(report, part):
    """Samples and layouts; power iteration with its matrix in shared memory, and by tiles."""
    assert report[part] == ""


def test_launches(report):
    """At most two kernels forward and three backward, torch's included, and no fill."""
    assert report["launches"] == ""


def test_every_file_of_kernels_is_computed():
    assert sorted(path.stem for path in CSRC.glob("cuda/*.cu")) == FAMILIES
