"""CUDA kernels computed by the CPU: a thread each, with CUDA's barriers and shared memory."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).with_name("cuda_on_cpu")
CSRC = Path(__file__).parents[2] / "csrc"
CXX = shutil.which("c++") or shutil.which("g++")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CSRC.is_dir(), reason="the sources are not beside the tests"),
    pytest.mark.skipif(CXX is None, reason="no C++ compiler is installed"),
]


def as_cpp(source):
    """CUDA's source with its launches, and its shared memory of any size, in C++."""
    memory = r"extern __shared__ __align__\(16\) unsigned char memory\[\];"
    source = re.sub(memory, "unsigned char* memory = cuda_on_cpu::memory;", source)
    launch = re.compile(r"([\w:]+(?:<[^;<>]*>)?)<<<([^;]*?), (\w+), ([^;]*?), stream>>>\((.*?)\);")
    written = r"cuda_on_cpu::launch(\2, \3, \4, [&] { \1(\5); });"
    source, count = launch.subn(written, source)
    assert count
    assert "<<<" not in source
    return source


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cuda_on_cpu")
    kernels = folder / "spectral.cu.cpp"
    kernels.write_text(as_cpp((CSRC / "cuda" / "spectral.cu").read_text()))
    sources = [kernels, HERE / "spectral.cpp", CSRC / "cpu" / "spectral.cpp", CSRC / "cpu/simd.cpp"]
    command = [CXX, "-std=c++20", "-O1", "-pthread", "-w", f"-I{HERE}", f"-I{CSRC / 'cuda'}"]
    made = folder / "spectral"
    done = subprocess.run(
        [*command, "-o", str(made), *map(str, sources)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return made


@pytest.mark.parametrize("shared_memory", [232448, 0])
def test_masked_power_iteration(program, shared_memory):
    """With the Gram matrix in shared memory, and through tiles."""
    done = subprocess.run(
        [str(program)],
        env=os.environ | {"SHARED_MEMORY": str(shared_memory)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
