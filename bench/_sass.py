"""Statistics of kernels' machine code from cuobjdump, without a GPU."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\d+\s+)?([A-Z][\w.]*)([^;]*);")
LOADS, STORES = ("LDG", "LDGSTS", "LD"), ("STG", "ST")
SHARED = ("LDS", "STS", "LDSM", "STSM")


class Code(NamedTuple):
    """Counts from a kernel's disassembly, mostly of instructions.

    ``load`` and ``store`` are the bytes of the widest global memory access. ``loop`` is the number
    of instructions per four bytes moved to or from global or shared memory, in the innermost loop
    that moves the most, or in the whole kernel if its loops move nothing.
    """

    spills: int
    barriers: int
    calls: int
    load: int
    store: int
    loop: float


class Instruction(NamedTuple):
    address: int
    name: str
    width: int
    target: int | None


def cuobjdump() -> str | None:
    """Triton's own cuobjdump, else a CUDA toolkit's."""
    try:
        import triton
    except ImportError:
        return shutil.which("cuobjdump")
    own = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return str(own) if own.is_file() else shutil.which("cuobjdump")


def functions(cubin: Path) -> dict[str, tuple[dict[str, int], Code]]:
    """Resource usage by name, and code, of each function in a machine code file."""
    shown = subprocess.run(
        [str(cuobjdump()), "-res-usage", "-sass", str(cubin)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    texts = re.split(r"^\s+Function : (\S+)$", shown, flags=re.MULTILINE)
    codes = {name: code(text) for name, text in zip(texts[1::2], texts[2::2])}
    usage = re.findall(r"^ Function (\S+):\n\s+(REG.*)$", shown, re.MULTILINE)
    return {
        name: ({k: int(v) for k, v in re.findall(r"([A-Z]+):(\d+)", row)}, codes[name])
        for name, row in usage
    }


def code(text: str) -> Code:
    """Count the instructions of one function."""
    listed = [read(*found) for found in INSTRUCTION.findall(text)]
    loop = max(innermost(listed), key=moved, default=listed)
    loop = loop if moved(loop) else listed
    return Code(
        spills=sum(x.name in ("LDL", "STL") for x in listed),
        barriers=sum(x.name == "BAR" for x in listed),
        calls=sum(x.name == "CALL" for x in listed),
        load=max((x.width for x in listed if x.name in LOADS), default=0),
        store=max((x.width for x in listed if x.name in STORES), default=0),
        loop=round(4 * len(loop) / moved(loop), 2) if moved(loop) else 0.0,
    )


def read(address: str, operation: str, operands: str) -> Instruction:
    name, *modifiers = operation.split(".")
    widths = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16, "256": 32}
    width = next((widths[x] for x in modifiers if x in widths), 4)
    target = re.search(r"0x([0-9a-f]+)\s*$", operands) if name == "BRA" else None
    return Instruction(int(address, 16), name, width, int(target[1], 16) if target else None)


def moved(instructions: list[Instruction]) -> int:
    """Bytes that a thread moves if every instruction runs once."""
    return sum(x.width for x in instructions if x.name in (*LOADS, *STORES, *SHARED))


def innermost(listed: list[Instruction]) -> list[list[Instruction]]:
    """Stretches from the target of a backward jump to the jump, containing no other such stretch.

    Code after the last exit is rarely executed, and jumps back to where it was entered from.
    """
    end = max((x.address for x in listed if x.name == "EXIT"), default=0)
    loops = {
        (x.target, x.address) for x in listed if x.target is not None and x.target < x.address < end
    }
    return [
        [x for x in listed if begin <= x.address <= last]
        for begin, last in sorted(loops)
        if not any(begin <= b and e <= last and (b, e) != (begin, last) for b, e in loops)
    ]
