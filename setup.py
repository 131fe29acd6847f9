"""Build of the compiled kernels; everything else is in pyproject.toml.

PYDISENT_CUDA=auto|0|1 builds the CUDA kernels when nvcc and a CUDA torch are there, never, or fails
without them. TORCH_CUDA_ARCH_LIST and MAX_JOBS are torch's own. If the C++ code cannot be built,
pydisent installs all the same and runs on its references; PYDISENT_STRICT=1 makes that an error.
"""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from setuptools import find_packages, setup

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
        sys.exit(f"PYDISENT_CUDA: got {choice!r}, accepted are auto, 0, 1")
    if choice == "0":
        return "PYDISENT_CUDA=0 when pydisent was built"
    reason = ""
    if not torch.version.cuda:
        reason = "the torch that pydisent was built against has no CUDA"
    elif CUDA_HOME is None:
        reason = "nvcc was not found when pydisent was built"
    if reason and choice == "1":
        sys.exit(f"PYDISENT_CUDA=1, but {reason}")
    return reason


def sources(*folders: str, suffixes: tuple[str, ...] = (".cpp",)) -> list[str]:
    """List the sources in folders of csrc, relative to the root as setuptools wants them."""
    found = [p for f in folders for p in (ROOT / "csrc" / f).iterdir() if p.suffix in suffixes]
    return sorted(p.relative_to(ROOT).as_posix() for p in found)


def kernels():
    """Describe the extension module ``pydisent._C``."""
    import pybind11
    import torch
    from torch.utils.cpp_extension import CppExtension, CUDAExtension

    reason = cuda_unavailable()
    defines = [
        ("TORCH_TARGET_VERSION", TORCH_ABI),
        ("PYDISENT_TORCH", json.dumps(torch.__version__)),
        ("PYDISENT_FLAGS", json.dumps(" ".join(CXX_FLAGS))),
        ("PYDISENT_CUDA_REASON", json.dumps(reason)),
    ]
    files, flags = ["csrc/module.cpp", *sources("cpu", "bind")], {"cxx": CXX_FLAGS}
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
        flags["nvcc"] = NVCC_FLAGS
        extension = CUDAExtension
    return extension(
        "pydisent._C",
        files,
        include_dirs=[pybind11.get_include()],
        depends=[p.relative_to(ROOT).as_posix() for p in (ROOT / "csrc").rglob("*.h")],
        define_macros=defines,
        extra_compile_args=flags,
    )


def build_command():
    """Make a build_ext that leaves a note instead of failing the installation."""
    from torch.utils.cpp_extension import BuildExtension, get_cxx_compiler

    class BuildKernels(BuildExtension):
        def run(self):
            """Build, or note why not."""
            in_source = self.inplace or getattr(self, "editable_mode", False)
            package = ROOT / "pydisent" if in_source else Path(self.build_lib) / "pydisent"
            (package / NOTE).unlink(missing_ok=True)
            try:
                compiler = shlex.split(get_cxx_compiler())[0]
                if shutil.which(compiler) is None:
                    raise FileNotFoundError(f"no C++ compiler: {compiler} was not found")
                super().run()
            except (Exception, SystemExit) as error:
                if os.environ.get("PYDISENT_STRICT", "0") not in ("", "0"):
                    raise
                reason = f"pydisent._C could not be built: {' '.join(str(error).split())}"
                package.mkdir(parents=True, exist_ok=True)
                for stale in package.glob("_C.*"):
                    stale.unlink()
                (package / NOTE).write_text(reason + "\n")
                print(f"warning: {reason}; pydisent will run on its references", file=sys.stderr)
                self.extensions = []

    return BuildKernels.with_options(no_python_abi_suffix=False)


setup(
    # triton_kernels/ must not be installed under that name, which is one of Triton's own.
    packages=[*find_packages(include=["pydisent", "pydisent.*"]), "pydisent.triton_kernels"],
    package_dir={"pydisent.triton_kernels": "triton_kernels"},
    ext_modules=[kernels()],
    cmdclass={"build_ext": build_command()},
)
