"""CUDA kernels computed by the CPU: a thread each, with CUDA's barriers and shared memory."""

import functools
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
def compiled(tmp_path_factory):
    """Makes the program that compares a family's kernels with those for the CPU."""

    def make(family):
        folder = tmp_path_factory.mktemp("cuda_on_cpu")
        kernels = folder / f"{family}.cu.cpp"
        kernels.write_text(as_cpp((CSRC / "cuda" / f"{family}.cu").read_text()))
        cpu = [CSRC / "cpu" / name for name in (f"{family}.cpp", "simd.cpp")]
        command = [CXX, "-std=c++20", "-O0", "-pthread", "-w", f"-I{HERE}", f"-I{CSRC / 'cuda'}"]
        made = folder / family
        command += ["-o", str(made), *map(str, (kernels, HERE / f"{family}.cpp", *cpu))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return made

    return functools.cache(make)


def check(program, **environment):
    done = subprocess.run(
        [str(program)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("shared_memory", [232448, 0])
def test_masked_power_iteration(compiled, shared_memory):
    """With the Gram matrix in shared memory, and through tiles."""
    check(compiled("spectral"), SHARED_MEMORY=str(shared_memory))


def test_activation_tangents(compiled):
    check(compiled("tangent"))


def test_every_file_of_kernels_is_computed():
    assert {path.stem for path in CSRC.glob("cuda/*.cu")} == {"spectral", "tangent"}
