"""Build of the compiled kernels; everything else is in pyproject.toml.

PYDISENT_CUDA=auto|0|1 builds the CUDA kernels when nvcc and a CUDA torch are there, never, or fails
without them. TORCH_CUDA_ARCH_LIST and MAX_JOBS are torch's own. If the CUDA kernels cannot be
built, pydisent is built without them; if the C++ code cannot, it installs all the same and runs on
its references. Either way the first error is noted beside it; PYDISENT_STRICT=1 makes it an error.
"""

import json
import os
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent.resolve()
# What changes no result: no reassociation, no flush to zero. And no -march of this machine.
CXX_FLAGS = ["-O3", "-std=c++20", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
CXX_FLAGS += ["-Wall", "-Wno-psabi", "-g0"]
NVCC_FLAGS = ["-O3", "-std=c++20", "-lineinfo", "--extra-device-vectorization"]
CUDA_ARCHS = "8.0;9.0a;10.0+PTX"
TORCH_ABI = "0x020b000000000000"  # the stable ABI of torch 2.11
NOTE = "_build_failure.txt"


def cuda_unavailable() -> str:
    """Say why the CUDA kernels are not built, or return an empty string."""
    import torch
    from torch.utils.cpp_extension import CUDA_HOME

    choice = os.environ.get("PYDISENT_CUDA", "auto")
    if choice not in ("auto", "0", "1"):
        sys.exit(f"PYDISENT_CUDA must be auto, 0 or 1, got {choice!r}")
    if choice == "0":
        return "PYDISENT_CUDA=0 when pydisent was built"
    reason = ""
    if not torch.version.cuda:
        reason = "the torch that pydisent was built against has no CUDA"
    elif missing := missing_of_cuda(CUDA_HOME):
        reason = f"{missing} was not found when pydisent was built"
    if reason and choice == "1":
        sys.exit(f"PYDISENT_CUDA=1, but {reason}")
    return reason


def missing_of_cuda(home: str | None) -> str:
    """Name what the folder of a CUDA toolkit lacks, if anything; torch only guesses where it is."""
    nvcc = os.environ.get("PYTORCH_NVCC") or (home and str(Path(home, "bin", "nvcc")))
    if not nvcc or shutil.which(nvcc) is None:
        return "nvcc"
    folders = [home and Path(home, "include"), os.environ.get("CUDA_INC_PATH")]
    folders += Path(home or "/nonexistent").glob("targets/*/include")
    for variable in ("CPATH", "CPLUS_INCLUDE_PATH"):
        folders += os.environ.get(variable, "").split(os.pathsep)
    if not any(folder and Path(folder, "cuda_runtime.h").is_file() for folder in folders):
        return f"cuda_runtime.h of {home}"
    return ""


def sources(*folders: str, suffixes: tuple[str, ...] = (".cpp",)) -> list[str]:
    """List the sources in folders of csrc, relative to the root as setuptools wants them."""
    found = [p for f in folders for p in (ROOT / "csrc" / f).iterdir() if p.suffix in suffixes]
    return sorted(p.relative_to(ROOT).as_posix() for p in found)


def unrooted() -> list[str]:
    """Return the flags by which errors name their place without this machine's folders."""
    import torch

    # Of two that fit the last counts, as where torch lies in the checkout's .venv.
    folders = ROOT, Path(torch.__file__).parents[1]
    return [f"-fmacro-prefix-map={folder}/=" for folder in folders if "," not in str(folder)]


def kernels(reason: str):
    """Describe the extension module ``pydisent._C``, without CUDA if there is a reason."""
    import pybind11
    import torch
    from torch.utils.cpp_extension import CppExtension, CUDAExtension

    defines = [
        ("TORCH_TARGET_VERSION", TORCH_ABI),
        ("PYDISENT_TORCH", json.dumps(torch.__version__)),
        ("PYDISENT_FLAGS", json.dumps(" ".join(CXX_FLAGS))),
        ("PYDISENT_CUDA_REASON", json.dumps(reason)),
    ]
    files, flags = ["csrc/module.cpp", *sources("cpu", "bind")], {"cxx": CXX_FLAGS + unrooted()}
    extension = CppExtension
    if not reason:
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", CUDA_ARCHS)
        archs = os.environ["TORCH_CUDA_ARCH_LIST"].replace(";", " ")
        defines += [
            ("PYDISENT_WITH_CUDA", "1"),
            ("USE_CUDA", "1"),
            ("PYDISENT_CUDA_ARCHS", json.dumps(archs)),
        ]
        files += sources("cuda", suffixes=(".cu",))
        flags["nvcc"] = NVCC_FLAGS + [f"-Xcompiler={flag}" for flag in unrooted()]
        extension = CUDAExtension
    return extension(
        "pydisent._C",
        files,
        include_dirs=[pybind11.get_include()],
        depends=[p.relative_to(ROOT).as_posix() for p in (ROOT / "csrc").rglob("*.h")],
        define_macros=defines,
        extra_compile_args=flags,
    )


@contextmanager
def copied_output() -> Iterator[bytearray]:
    """Collect what this process and its compilers print, which is printed all the same."""
    copy, (reading, writing) = bytearray(), os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    out, err = os.dup(1), os.dup(2)

    def pass_on() -> None:
        while chunk := os.read(reading, 4096):
            copy.extend(chunk)
            os.write(out, chunk)

    os.dup2(writing, 1)
    os.dup2(writing, 2)
    os.close(writing)
    thread = threading.Thread(target=pass_on)
    thread.start()
    try:
        yield copy
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(out, 1)
        os.dup2(err, 2)
        thread.join()
        for descriptor in (reading, out, err):
            os.close(descriptor)


def first_error(output: bytes, error: BaseException) -> str:
    """Return the first error that a compiler printed, or else what was raised, in one line."""
    found = re.search(r"^.*\berror\b ?:.*$", output.decode(errors="replace"), re.M | re.I)
    return " ".join((found[0] if found else str(error)).split())


def is_strict() -> bool:
    """Whether what cannot be built is an error."""
    return os.environ.get("PYDISENT_STRICT", "0") not in ("", "0")


def build_command():
    """Make a build_ext that builds what it can, and notes what it cannot and why."""
    from torch.utils.cpp_extension import BuildExtension, get_cxx_compiler

    class BuildKernels(BuildExtension):
        def run(self):
            """Build with CUDA, or else without it, or else nothing."""
            in_source = self.inplace or getattr(self, "editable_mode", False)
            package = ROOT / "pydisent" if in_source else Path(self.build_lib) / "pydisent"
            (package / NOTE).unlink(missing_ok=True)
            error = self.attempt()
            if error and any(file.endswith(".cu") for file in self.extensions[0].sources):
                if os.environ.get("PYDISENT_CUDA") == "1":
                    sys.exit(f"PYDISENT_CUDA=1, but {error}")
                note(package, f"the CUDA kernels could not be built: {error}")
                without = kernels("the CUDA kernels could not be built")
                vars(self.extensions[0]).update(vars(without))
                error = self.attempt()
            if error:
                for stale in package.glob("_C.*"):
                    stale.unlink()
                note(package, f"pydisent._C could not be built: {error}")
                self.extensions = []

        def attempt(self) -> str:
            """Build, and return the first error if there is one."""
            before = self.compiler, self.inplace  # which a build that fails leaves changed
            with copied_output() as output:
                try:
                    compiler = shlex.split(get_cxx_compiler())[0]
                    if shutil.which(compiler) is None:
                        raise FileNotFoundError(f"no C++ compiler: {compiler} was not found")
                    super().run()
                    return ""
                except (Exception, SystemExit) as error:
                    if is_strict():
                        raise
                    failure = error
            self.compiler, self.inplace = before
            return first_error(output, failure)

    return BuildKernels.with_options(no_python_abi_suffix=False)


def note(package: Path, reason: str) -> None:
    """Say why kernels are missing, now and wherever pydisent is asked."""
    package.mkdir(parents=True, exist_ok=True)
    (package / NOTE).write_text(reason + "\n")
    print(f"warning: {reason}", file=sys.stderr)


class BuildPackages(build_py):
    """Installs triton_kernels/ inside pydisent: its own name is one of Triton's.

    An editable installation has a package there that points to the folder. So all packages lie
    where their names say, and the installation is a plain path, which editors can follow.
    """

    def get_package_dir(self, package):
        """Return the folder that a package is built from."""
        if package == "pydisent.triton_kernels" and not self.editable_mode:
            return "triton_kernels"
        return super().get_package_dir(package)


setup(
    packages=find_packages(include=["pydisent", "pydisent.*"]),
    package_dir={"": "."},
    ext_modules=[kernels(cuda_unavailable())],
    cmdclass={"build_ext": build_command(), "build_py": BuildPackages},
)
