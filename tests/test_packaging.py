"""How pydisent is built and shipped: what setup.py decides, and what the source archive holds."""

import importlib.machinery
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

ROOT = Path(__file__).parents[1]
# Not shipped: what only makes sense in the repository.
LEFT_OUT = (
    ".pre-commit-config.yaml",
    "tests/",
    "bench/",
    ".ci/",
    ".clang-format",
    ".gitignore",
    "Makefile",
)
ADDED = ("PKG-INFO", "setup.cfg", "pydisent.egg-info/")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the files under version control."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    names = [name for name in listed.stdout.split("\0") if (ROOT / name).is_file() and name]
    if not names:
        pytest.skip("not in a repository")
    copy = tmp_path_factory.mktemp("checkout")
    for name in names:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    return copy, set(names)


def test_the_source_archive_has_every_file(checkout, tmp_path):
    """Also the CUDA sources, when it is made on a machine without CUDA."""
    folder, names = checkout
    command = [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(tmp_path)]
    env = os.environ | {"PYDISENT_CUDA": "0", "PYTHONPATH": ""}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        shipped = {m.name.partition("/")[2] for m in opened.getmembers() if m.isfile()}
    shipped = {name for name in shipped if not name.startswith(ADDED)}
    assert shipped == {name for name in names if not name.startswith(LEFT_OUT)}
    assert "csrc/cuda/common.cuh" in shipped


def test_a_wheel_has_every_file_of_the_package(checkout):
    """Those that are no modules are there if pyproject.toml names them."""
    folder, names = checkout
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["pydisent"]
    inside = (name for name in names if name.startswith("pydisent/") and name[-3:] != ".py")
    files = {Path(name).relative_to("pydisent") for name in inside}
    assert Path("explore/static/explore.js") in files
    assert not {file for file in files if not any(file.match(p) for p in patterns)}


@pytest.fixture
def setup(monkeypatch):
    """Run setup.py up to its call of setup(), and return what it defines, and that call."""

    def run(**environment):
        for name in ("PYDISENT_CUDA", "PYDISENT_STRICT", "PYTORCH_NVCC", "CUDA_INC_PATH"):
            monkeypatch.delenv(name, raising=False)
        for name in ("CPATH", "CPLUS_INCLUDE_PATH"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        given = {}
        monkeypatch.setattr("setuptools.setup", given.update)
        defined = runpy.run_path(str(ROOT / "setup.py"))
        return defined, given

    return run


def test_packages_lie_where_their_names_say(setup):
    """So an editable installation is a path, which editors and type checkers follow."""
    _, given = setup(PYDISENT_CUDA="0")
    for package in given["packages"]:
        assert (ROOT / package.replace(".", "/") / "__init__.py").is_file(), package
    assert given["package_dir"] == {"": "."}
    from setuptools import Distribution

    command = given["cmdclass"]["build_py"](Distribution({"package_dir": {"": "."}}))
    command.finalize_options()
    kernels = {True: "./pydisent/triton_kernels", False: "triton_kernels"}
    for editable, folder in kernels.items():
        command.editable_mode = editable
        assert Path(command.get_package_dir("pydisent.triton_kernels")) == Path(folder)
        assert Path(command.get_package_dir("pydisent.ops")) == Path("pydisent/ops")


@pytest.fixture
def toolkit(tmp_path, monkeypatch):
    """A CUDA torch, and a folder that torch takes for CUDA's, with or without its parts."""

    def make(nvcc=True, headers="include"):
        home = tmp_path / "cuda"
        (home / "bin").mkdir(parents=True)
        if nvcc:
            (home / "bin" / "nvcc").write_text("#!/bin/sh\nexit 1\n")
            (home / "bin" / "nvcc").chmod(0o755)
        if headers:
            (home / headers).mkdir(parents=True)
            (home / headers / "cuda_runtime.h").touch()
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(cpp_extension, "CUDA_HOME", str(home))
        return home

    return make


@pytest.mark.parametrize(
    ("parts", "missing"),
    [
        ({}, None),
        ({"headers": "targets/x86_64-linux/include"}, None),
        ({"nvcc": False}, "nvcc"),
        ({"headers": ""}, "cuda_runtime.h"),
        ({"nvcc": False, "headers": ""}, "nvcc"),
    ],
)
def test_a_folder_without_compiler_or_headers_is_no_cuda(setup, toolkit, parts, missing):
    toolkit(**parts)
    _, given = setup()
    (extension,) = given["ext_modules"]
    cuda = [file for file in extension.sources if file.endswith(".cu")]
    assert bool(cuda) == (missing is None)
    reason = dict(extension.define_macros)["PYDISENT_CUDA_REASON"]
    assert (missing or "") in reason
    if missing:
        with pytest.raises(SystemExit, match=f"PYDISENT_CUDA=1, but {missing}"):
            setup(PYDISENT_CUDA="1")


def test_headers_elsewhere_count(setup, toolkit, tmp_path):
    toolkit(headers="")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "cuda_runtime.h").touch()
    _, given = setup(CPATH=f"/nowhere:{tmp_path / 'elsewhere'}")
    assert any(file.endswith(".cu") for file in given["ext_modules"][0].sources)


ERRORS = "x.cu:3:10: fatal error: cuda_runtime.h: No such file\ny.cu:1:1: error: second"


@pytest.fixture
def build(setup, toolkit, tmp_path, monkeypatch):
    """Run the build of the kernels with compilers that fail at some sources."""
    toolkit()

    def run(fails, **environment):
        defined, given = setup(CXX=sys.executable, **environment)
        attempts = []

        def compile_(self):
            sources = self.extensions[0].sources
            attempts.append({Path(file).suffix for file in sources})
            self.compiler, self.inplace = object(), 0  # as a build leaves them
            if fails & attempts[-1]:
                os.write(1, f"[1/2] c++ -Werror ...\n{ERRORS}\n".encode())
                raise RuntimeError("Error compiling objects for extension")
            (self.package / "_C.so").touch()

        monkeypatch.setattr(cpp_extension.BuildExtension, "run", compile_)
        from setuptools import Distribution

        command = given["cmdclass"]["build_ext"](Distribution())
        command.extensions, command.build_lib = given["ext_modules"], str(tmp_path / "lib")
        command.package = tmp_path / "lib" / "pydisent"
        command.package.mkdir(parents=True)
        command.run()
        note = command.package / defined["NOTE"]
        built = [p.name for p in command.package.glob("_C*")]
        return attempts, built, note.read_text() if note.exists() else None

    return run


WHY = "x.cu:3:10: fatal error: cuda_runtime.h: No such file\n"


@pytest.mark.parametrize(
    ("fails", "tried", "built", "noted"),
    [
        (set(), [{".cpp", ".cu"}], ["_C.so"], None),
        (
            {".cu"},
            [{".cpp", ".cu"}, {".cpp"}],
            ["_C.so"],
            f"the CUDA kernels could not be built: {WHY}",
        ),
        (
            {".cpp"},
            [{".cpp", ".cu"}, {".cpp"}],
            [],
            f"pydisent._C could not be built: {WHY}",
        ),
    ],
)
def test_what_can_be_built_is_and_what_cannot_is_noted(build, capfd, fails, tried, built, noted):
    assert build(fails) == (tried, built, noted)
    printed = capfd.readouterr()
    if noted:
        assert ERRORS in printed.out  # what compilers say is not swallowed
        assert f"warning: {noted.strip()}" in printed.err


@pytest.mark.parametrize("variable", ["PYDISENT_STRICT", "PYDISENT_CUDA"])
def test_who_insists_gets_an_error(build, variable):
    with pytest.raises((RuntimeError, SystemExit), match=r"Error compiling|PYDISENT_CUDA=1, but x"):
        build({".cu"}, **{variable: "1"})


def test_a_build_without_cuda_is_tried_once(build):
    attempts, built, noted = build({".cpp"}, PYDISENT_CUDA="0")
    assert (attempts, built) == ([{".cpp"}], [])
    assert noted.startswith("pydisent._C could not be built")


def test_falling_back_is_announced_once(monkeypatch):
    import warnings

    from pydisent import _backends, _notice, ops

    monkeypatch.delenv("PYDISENT_STRICT", raising=False)
    monkeypatch.setattr(_backends, "_native", None)
    monkeypatch.setattr(_backends, "_native_reason", "the compiler was on holiday")
    monkeypatch.setattr(_notice, "_given", set())
    from pydisent.ops._kernels import fallback_kernel
    from pydisent.ops.registry import REGISTRY

    kernel = fallback_kernel(REGISTRY["cumax"].spec)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        for _ in range(2):
            assert torch.equal(kernel(torch.zeros(2, 3)), ops.cumax(torch.zeros(2, 3)))
    (warning,) = given
    assert "the compiler was on holiday" in str(warning.message)
    assert warning.filename == __file__


def test_sources_beside_an_installation_with_kernels_say_where_that_is(tmp_path):
    """As in a clone, in whose folder Python finds the sources first."""
    for folder in ("clone", "site"):
        shutil.copytree(ROOT / "pydisent", tmp_path / folder / "pydisent", ignore=_compiled)
    code = "import pydisent; print(pydisent.backends()['cpu']['reason'])"
    others = [entry for entry in sys.path if not Path(entry, "pydisent").is_dir()]

    def reason():
        env = os.environ | {"PYTHONPATH": f"{tmp_path / 'clone'}:{tmp_path / 'site'}"}
        command = [sys.executable, "-S", "-c", f"import sys; sys.path += {others!r}; {code}"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert reason().startswith("pydisent._C was never built; install pydisent with")
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    (tmp_path / "site" / "pydisent" / f"_C{suffix}").touch()
    assert reason() == (
        f"pydisent was imported from the sources in {tmp_path / 'clone'}, where pydisent._C was "
        f"never built; {tmp_path / 'site' / 'pydisent'} has it: start Python in another folder"
    )


def _compiled(folder, names):
    return [name for name in names if name.startswith(("_C.", "_build_failure", "__pycache__"))]


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_no_folder_of_the_machine_is_compiled_in(setup):
    """The errors that checks raise name files by __FILE__."""
    _, given = setup(PYDISENT_CUDA="0")
    flags = given["ext_modules"][0].extra_compile_args["cxx"]
    include = Path(torch.__file__).parent / "include" / "torch" / "a.h"
    files = {ROOT / "csrc" / "a.cpp": "csrc/a.cpp", include: "torch/include/torch/a.h"}
    for file, name in files.items():
        source = f'# 1 "{file}"\n__FILE__\n'
        command = ["g++", *flags, "-E", "-P", "-x", "c++", "-"]
        done = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == f'"{name}"'
