"""GPU resources of each kernel, and statistics of its machine code.

    python bench/budgets.py [--write]

Compiles every CUDA and Triton kernel for every shipped architecture, which needs nvcc and Triton
but no GPU, and shows differences from the budgets in ``tests/ops/budgets.json``; ``--write``
updates them. The tests fail if a kernel exceeds its budget or has none.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import _sass
from _sass import cuobjdump

ROOT = Path(__file__).resolve().parents[1]
BUDGETS = ROOT / "tests" / "ops" / "budgets.json"
CUDA = ROOT / "csrc" / "cuda"
#: As shipped. Triton adds the letter itself, to sm_100 as well.
ARCHS = ("sm_80", "sm_90a", "sm_100")
SLACK = 1.25
#: Suffix of a family's name for the kernels that its large problems launch, on HOT.
LAUNCHED = ", launched"
HOT = "sm_90a"


class Resources(NamedTuple):
    """Registers per thread, shared bytes per block, stack bytes; fields of ``_sass.Code``."""

    registers: int
    shared: int
    stack: int
    spills: int
    barriers: int
    calls: int
    load: int
    store: int
    loop: float


#: Resources of which another compiler version may use more, by SLACK.
VARYING = {"registers", "shared", "barriers", "calls", "loop"}
#: Fields where more is better.
WIDTHS = {"load", "store"}


Found = dict[str, Resources]


def nvcc() -> str | None:
    return shutil.which("nvcc")


def cuda_sources() -> list[str]:
    return sorted(path.name for path in CUDA.glob("*.cu"))


#: Dtypes as dispatched in the sources, and their types.
DTYPES = {"f16": "__half", "bf16": "__nv_bfloat16", "f32": "float", "f64": "double"}


def of_dtype(source: str, dtype: str) -> str:
    """A kernel file restricted to the dispatch of one dtype."""
    for other, kind in DTYPES.items():
        case = r"default" if other == "f64" else rf"case DType::{other}"
        if other != dtype:
            source = re.sub(rf"({case}:\s+return )\w+<{kind}>\([^;]*;", r"\1cudaSuccess;", source)
    return source


def cuda_resources(source: str, arch: str, folder: Path, dtype: str | None = None) -> Found:
    """Compile a kernel file, or its kernels for one dtype, without warnings, and read its code."""
    text, copy, cubin = (CUDA / source).read_text(), folder / source, folder / "kernels.cubin"
    copy.write_text(of_dtype(text, dtype) if dtype else text)
    command = [str(nvcc()), "-std=c++20", "-O3", "-cubin", f"-arch={arch}", f"-I{CUDA}"]
    command += ["-Werror", "all-warnings", "-o", str(cubin), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    functions = _sass.functions(cubin)
    return {
        name: resources(*found)
        for name, found in zip(plain_names(list(functions)), functions.values())
    }


def resources(usage: dict[str, int], code: _sass.Code, dynamic: int = 0) -> Resources:
    return Resources(usage["REG"], usage["SHARED"] + dynamic, usage["STACK"], *code)


def plain_names(mangled: list[str]) -> list[str]:
    """Kernel names with template arguments; the rest of a symbol is a hash of the file."""
    done = subprocess.run(
        ["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True
    )
    return [
        line.split("(anonymous namespace)::", 1)[1].split("(")[0]
        for line in done.stdout.splitlines()
    ]


def kernels_of(family: str):
    return importlib.import_module(f"pydisent.triton_kernels.{family}")


def families() -> list[str]:
    from pydisent.ops.registry import REGISTRY

    return sorted({op.spec.family for op in REGISTRY.values() if op.spec.triton})


def configuration(kernel, signature: dict, constants: dict, options: dict) -> str:
    """Name a compiled kernel by its storage types and constants."""
    stored = sorted({kind[1:] for kind in signature.values() if re.match(r"\*b?f", kind)})
    settings = {**constants, **options}
    told = " ".join(f"{name}={int(value)}" for name, value in settings.items())
    return f"{kernel.__name__} {'/'.join(stored)} {told}".rstrip()


def triton_resources(
    family: str, arch: str, folder: Path, places: Iterable[int] | None = None
) -> Found:
    """Compile a family's kernels, or some of its list, and return the resources of each."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    target, found = GPUTarget("cuda", int(re.sub(r"\D", "", arch)), 32), {}
    listed = kernels_of(family).COMPILE
    for place in range(len(listed)) if places is None else places:
        kernel, signature, constants, *options = listed[place]
        launch = options[0] if options else {}
        name = configuration(kernel, signature, constants, launch)
        if name in found:
            continue
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        compiled = triton.compile(source, target=target, options=launch or None)
        found[name] = triton_code(compiled, folder)
    return found


def launched_resources(family: str, dtypes: Iterable[str], folder: Path) -> Found:
    """Compile a family's kernels as launched by large problems."""
    import torch
    import triton
    from _launched import launches
    from triton.backends.compiler import GPUTarget

    target, found = GPUTarget("cuda", int(re.sub(r"\D", "", HOT)), 32), {}
    for dtype in dtypes:
        for name, source, options in launches(family, getattr(torch, dtype), target):
            compiled = triton.compile(source, target=target, options=options or None)
            found[name] = triton_code(compiled, folder)
    return found


def triton_code(compiled, folder: Path) -> Resources:
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    ((usage, code),) = _sass.functions(cubin).values()
    return resources(usage, code, compiled.metadata.shared)


def versions() -> dict[str, str | None]:
    """Versions of both compilers; None for a missing one."""
    from importlib.metadata import PackageNotFoundError, version

    told = {}
    if nvcc():
        shown = subprocess.run([str(nvcc()), "--version"], capture_output=True, text=True).stdout
        found = re.search(r"release ([\d.]+)", shown)
        told["nvcc"] = found[1] if found else None
    try:
        told["triton"] = version("triton")
    except PackageNotFoundError:
        told["triton"] = None
    return {"nvcc": None, **told}


def load() -> dict:
    return json.loads(BUDGETS.read_text())


def is_measured_by(budgets: dict, file: str) -> bool:
    """Whether the installed compiler is the one of the budgets, which are then exact."""
    tool = "nvcc" if file.endswith(".cu") else "triton"
    return versions()[tool] == budgets["tools"][tool]


def excess(budgets: dict, file: str, arch: str, found: Found, whole: bool = True) -> list[str]:
    """Messages on a file's kernels that exceed their budgets on one architecture, if any.

    ``found`` has all of the file's kernels if ``whole``, else some of them.
    """
    slack = 1.0 if is_measured_by(budgets, file) else SLACK
    known = budgets["kernels"].get(file, {})
    wrong = [f"{file}: {name} has no budget" for name in found.keys() - known.keys()]
    if whole:
        missing = known.keys() - found.keys()
        wrong += [f"{file}: {name} has a budget but no compile" for name in missing]
    for name in sorted(found.keys() & known.keys()):
        budget = Resources(*known[name][arch])
        for what, takes, most in zip(Resources._fields, found[name], budget):
            if what in WIDTHS:
                worse = takes < most
            else:
                most = type(most)(slack * most) if what in VARYING else most
                worse = takes > most
            if worse:
                wrong.append(f"{file}: {name} on {arch}: {what} {takes}, the budget is {most}")
    return wrong


def better(budgets: dict, file: str, arch: str, found: Found) -> list[str]:
    """Messages on kernels below their budget; none for a different compiler."""
    improved: list[str] = []
    if not is_measured_by(budgets, file):
        return improved
    for name in sorted(found.keys() & budgets["kernels"].get(file, {}).keys()):
        budget = Resources(*budgets["kernels"][file][name][arch])
        for what, takes, most in zip(Resources._fields, found[name], budget):
            if takes > most if what in WIDTHS else takes < most:
                improved.append(f"{file}: {name} on {arch}: {what} {takes}, was {most}")
    return improved


def compiled(file: str, arch: str) -> Found:
    """Compile all kernels of one file."""
    with tempfile.TemporaryDirectory() as folder:
        if file.endswith(".cu"):
            return cuda_resources(file, arch, Path(folder))
        os.environ["TRITON_CACHE_DIR"] = str(Path(folder) / "cache")
        family = file.split(".")[0]
        if file.endswith(LAUNCHED):
            return launched_resources(family, ("float32", "bfloat16"), Path(folder))
        return triton_resources(family, arch, Path(folder))


def measured() -> dict[str, dict[str, dict[str, list[float]]]]:
    """Compile everything: file, kernel, architecture, resources."""
    kernels: dict[str, dict[str, dict[str, list[float]]]] = {}
    files = [*cuda_sources(), *(f"{family}.py" for family in families())]
    tasks = [(file, arch) for file in files for arch in ARCHS]
    tasks += [(f"{family}.py{LAUNCHED}", HOT) for family in families()]
    with ProcessPoolExecutor() as pool:
        for (file, arch), found in zip(tasks, pool.map(compiled, *zip(*tasks))):
            for name, takes in found.items():
                kernels.setdefault(file, {}).setdefault(name, {})[arch] = list(takes)
    return kernels


def written(budgets: dict) -> str:
    """The file's text, one kernel per line."""
    files = []
    for file, kernels in budgets["kernels"].items():
        rows = [
            f"   {json.dumps(name)}: {json.dumps(row)}" for name, row in sorted(kernels.items())
        ]
        files.append(f"  {json.dumps(file)}: {{\n" + ",\n".join(rows) + "\n  }")
    return (
        f'{{\n "tools": {json.dumps(budgets["tools"])},\n'
        f' "fields": {json.dumps(list(Resources._fields))},\n'
        ' "kernels": {\n' + ",\n".join(files) + "\n }\n}\n"
    )


def differences(old: dict, new: dict) -> list[str]:
    """Lines listing the changes from one set of kernels to another."""
    flat = [
        {(file, name, arch): takes
         for file, kernels in kind.items()
         for name, row in kernels.items()
         for arch, takes in row.items()}
        for kind in (old, new)
    ]  # fmt: skip
    return [
        f"{' '.join(key)}: {flat[0].get(key, 'none')} -> {flat[1].get(key, 'none')}"
        for key in sorted(flat[0].keys() | flat[1].keys())
        if flat[0].get(key) != flat[1].get(key)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"renew {BUDGETS.name}")
    args = parser.parse_args()
    if nvcc() is None or versions()["triton"] is None or cuobjdump() is None:
        print("this needs nvcc, Triton and cuobjdump", file=sys.stderr)
        return 2
    new = measured()
    changed = differences(load()["kernels"] if BUDGETS.exists() else {}, new)
    print(f"(kernel, architecture: {', '.join(Resources._fields)})", *changed, sep="\n")
    print(len(changed), "differences")
    if args.write:
        BUDGETS.write_text(written({"tools": versions(), "kernels": new}))
        print("wrote", BUDGETS)
    return 0 if args.write or not changed else 1


if __name__ == "__main__":
    sys.exit(main())
