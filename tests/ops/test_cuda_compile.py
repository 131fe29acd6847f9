"""Every CUDA kernel compiles, without spilling registers, for each architecture shipped."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

CSRC = Path(__file__).parents[2] / "csrc"
NVCC = shutil.which("nvcc")

pytestmark = [
    pytest.mark.skipif(NVCC is None, reason="nvcc is not installed"),
    pytest.mark.skipif(not CSRC.is_dir(), reason="the sources are not beside the tests"),
]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["80", "90a", "100"])
@pytest.mark.parametrize("source", sorted(p.name for p in CSRC.glob("cuda/*.cu")))
def test_compiles_without_spills(source, arch, tmp_path):
    result = subprocess.run(
        [
            str(NVCC),
            *("-std=c++20", "-O3", "-cubin", f"-arch=sm_{arch}", "-Xptxas", "-v", "-Werror"),
            *("all-warnings", "-o", str(tmp_path / "kernels.cubin"), str(CSRC / "cuda" / source)),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", result.stderr)
    assert spills, "ptxas told nothing of any kernel"
    assert set(spills) == {("0", "0")}, result.stderr


@pytest.mark.parametrize("source", sorted(p.name for p in CSRC.glob("bind/*.cpp")))
def test_bindings_compile_for_cuda(source, tmp_path):
    """The branches that a build against a torch without CUDA leaves out."""
    command = [str(NVCC), "-std=c++20", "-c", "-Werror", "all-warnings", "-DPYDISENT_WITH_CUDA"]
    command += ["-DUSE_CUDA", "-DTORCH_TARGET_VERSION=0x020b000000000000"]
    command += ["-isystem", str(Path(torch.__file__).with_name("include"))]
    command += ["-o", str(tmp_path / "binding.o"), str(CSRC / "bind" / source)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
