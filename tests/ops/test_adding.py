"""An op is added by files of its own and one line: the toy in ``toy/``, as CONTRIBUTING.md says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).with_name("toy")
#: What holds for every op of the registry, of which each is tried on the toy.
PROPERTIES = "opcheck or second_order or never_zero or vmap or accuracy or costs"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="the sources are not beside the tests"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the sources with the toy's files and its line."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in ("pydisent", "csrc", "triton_kernels", "bench", "tests/ops"):
        ignored = shutil.ignore_patterns("__pycache__", "results", "toy")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    shutil.copytree(TOY, copy, dirs_exist_ok=True)
    exports = copy / "pydisent" / "ops" / "__init__.py"
    line = "from pydisent.ops.tangent import *\n"
    text = exports.read_text()
    assert line in text
    exports.write_text(text.replace(line, line + "from pydisent.ops.toy import *\n"))
    return copy


def run(tree, *command, **environment):
    given = {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "PYDISENT_IMPL": ""} | environment
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tree,
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def with_kernels(tree):
    """The toy's C++ alone compiled: that its registration needs no other file."""
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    command = ["c++", "-shared", "-fPIC", "-O1", "-std=c++20", "-fno-math-errno"]
    command += ["-fno-trapping-math", "-DTORCH_TARGET_VERSION=0x020b000000000000"]
    include = Path(torch.__file__).with_name("include")
    command += ["-isystem", str(include), "-o", str(tree / "toy.so")]
    command += [str(tree / "csrc" / folder / "toy.cpp") for folder in ("cpu", "bind")]
    command += [str(tree / "csrc" / "cpu" / "simd.cpp")]
    libraries = Path(torch.__file__).with_name("lib")
    command += [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-lc10", "-ltorch", "-ltorch_cpu"]
    subprocess.run(command, check=True, timeout=300)
    startup = tree / "pydisent" / "ops" / "__init__.py"
    load = "import torch as _torch\n\n_torch.ops.load_library({!r})\n"
    startup.write_text(startup.read_text() + load.format(str(tree / "toy.so")))
    return tree


def test_it_has_every_property_of_an_op(with_kernels):
    code = (
        "import pydisent.ops; from pydisent.ops.registry import REGISTRY; "
        "assert 'weighted_square' in pydisent.ops.__all__; "
        "print(REGISTRY['weighted_square_backward'].implementation('cpu'))"
    )
    assert run(with_kernels, "-c", code).strip() == "native"
    selected = f"weighted_square and ({PROPERTIES})"
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    told = run(with_kernels, *command, "tests/ops/test_registry.py", "-k", selected)
    assert "failed" not in told
    assert int(told.strip().splitlines()[-1].split()[0]) > 12, told


def test_it_is_measured(tree):
    command = ("bench/run.py", "--suite", "cpu", "--ops", "weighted_square", "--size", "tiny")
    told = run(tree, *command, "--seconds", "0.001", "--backend", "none", "--results", str(tree))
    assert "weighted_square              B 4, d 3" in told


def test_its_triton_kernel_runs_and_is_budgeted(tree):
    pytest.importorskip("triton")
    code = (
        "import sys; sys.path[:0] = ['tests/ops', 'bench']; import torch; "
        "from _accuracy import breaches; import budgets; assert 'toy' in budgets.families(); "
        "assert not breaches('weighted_square', torch.float32, impl='triton'); "
        "assert not breaches('weighted_square_backward', torch.float32, impl='triton')"
    )
    run(tree, "-c", code, TRITON_INTERPRET="1")
