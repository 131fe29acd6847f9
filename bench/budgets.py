"""How much of a GPU does each kernel take: registers, shared memory, spills, stack.

    python bench/budgets.py [--write]

Compiles every CUDA and Triton kernel for every architecture shipped, which needs nvcc and Triton
but no GPU, and shows where it differs from the budgets in ``tests/ops/budgets.json``; ``--write``
renews them. The tests fail where a kernel takes more than its budget, or has none.
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
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BUDGETS = ROOT / "tests" / "ops" / "budgets.json"
CUDA = ROOT / "csrc" / "cuda"
#: As shipped. Triton adds the letter of its own accord, to sm_100 as well.
ARCHS = ("sm_80", "sm_90a", "sm_100")
#: What another version of a compiler may take more of registers and shared memory.
SLACK = 1.25


class Resources(NamedTuple):
    """Registers a thread; bytes of shared memory a block; bytes a thread of spills and stack."""

    registers: int
    shared: int
    spills: int
    stack: int


Found = dict[str, Resources]


def nvcc() -> str | None:
    return shutil.which("nvcc")


def cuda_sources() -> list[str]:
    return sorted(path.name for path in CUDA.glob("*.cu"))


def cuda_resources(source: str, arch: str, folder: Path) -> Found:
    """Compile one file of kernels and return what ptxas tells of each; no warning is let pass."""
    command = [str(nvcc()), "-std=c++20", "-O3", "-cubin", f"-arch={arch}", "-Xptxas", "-v"]
    command += ["-Werror", "all-warnings", "-o", str(folder / "kernels.cubin"), str(CUDA / source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    told = re.findall(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)",
        done.stderr,
        re.DOTALL,
    )
    names = plain_names([name for name, *_ in told])
    found = {}
    for name, (_, stack, stores, loads, registers, rest) in zip(names, told):
        shared = re.search(r"(\d+) bytes smem", rest)
        found[name] = Resources(
            int(registers), int(shared[1]) if shared else 0, int(stores) + int(loads), int(stack)
        )
    return found


def plain_names(mangled: list[str]) -> list[str]:
    """Kernels with their template arguments: what is left of a symbol is a hash of the file."""
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
    """Name a compiled kernel: the types that it stores, and its constants."""
    stored = sorted({kind[1:] for kind in signature.values() if re.match(r"\*b?f", kind)})
    settings = {**constants, **options}
    told = " ".join(f"{name}={int(value)}" for name, value in settings.items())
    return f"{kernel.__name__} {'/'.join(stored)} {told}".rstrip()


def triton_resources(
    family: str, arch: str, folder: Path, places: Iterable[int] | None = None
) -> Found:
    """Compile a family's kernels, or some of its list, and return what the code of each takes."""
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
        cubin = folder / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        registers, stack, local = usage(cubin)
        found[name] = Resources(registers, compiled.metadata.shared, local, stack)
    return found


def cuobjdump() -> str | None:
    """Triton's own, else that of a CUDA toolkit."""
    import triton

    own = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return str(own) if own.is_file() else shutil.which("cuobjdump")


def usage(cubin: Path) -> tuple[int, int, int]:
    """Registers, stack and local memory of the kernel in a file of machine code."""
    shown = subprocess.run(
        [str(cuobjdump()), "--dump-resource-usage", str(cubin)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    ((registers, stack, local),) = re.findall(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", shown)
    return int(registers), int(stack), int(local)


def versions() -> dict[str, str | None]:
    """Versions of both compilers; None of one that is not there."""
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


def excess(budgets: dict, file: str, arch: str, found: Found, whole: bool = True) -> list[str]:
    """What is wrong with a file's kernels on one architecture, in words; empty if nothing is.

    ``found`` has all of the file's kernels, or not the ``whole`` of them.
    """
    tool = "nvcc" if file.endswith(".cu") else "triton"
    slack = 1.0 if versions()[tool] == budgets["tools"][tool] else SLACK
    known = budgets["kernels"].get(file, {})
    wrong = [f"{file}: {name} has no budget" for name in found.keys() - known.keys()]
    if whole:
        missing = known.keys() - found.keys()
        wrong += [f"{file}: {name} has a budget but no compile" for name in missing]
    for name in sorted(found.keys() & known.keys()):
        budget = Resources(*known[name][arch])
        allowed = budget._replace(
            registers=int(slack * budget.registers), shared=int(slack * budget.shared)
        )
        for what, takes, most in zip(Resources._fields, found[name], allowed):
            if takes > most:
                wrong.append(f"{file}: {name} on {arch}: {what} {takes}, the budget is {most}")
    return wrong


def measured() -> dict[str, dict[str, dict[str, list[int]]]]:
    """Compile everything: file, kernel, architecture, resources."""
    kernels: dict[str, dict[str, dict[str, list[int]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = str(Path(folder) / "cache")
        for arch in ARCHS:
            found = {s: cuda_resources(s, arch, Path(folder)) for s in cuda_sources()}
            found |= {f"{f}.py": triton_resources(f, arch, Path(folder)) for f in families()}
            for file, resources in found.items():
                for name, takes in resources.items():
                    kernels.setdefault(file, {}).setdefault(name, {})[arch] = list(takes)
    return kernels


def written(budgets: dict) -> str:
    """The file's text, a kernel a line."""
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
    """Lines of what changed from one set of kernels to another."""
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
    if nvcc() is None or versions()["triton"] is None:
        print("this needs nvcc and Triton", file=sys.stderr)
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
