"""Random programs: what people may write between ``z @ W`` and the output of a generator.

A program is a few steps of the catalogue (``_program_steps.py``), each some lines of Python on the
tensors that live by then. Its repr is a script: paste it into a Python started in this folder.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from _program_steps import BATCH, CATALOGUE, Step, random_states_kept, restart
from hypothesis import strategies as st
from torch import Tensor

LARGEST = 30.0  # of the values in a program
WIDEST = 40  # elements of a sample's tensor, and of its outputs

HEADER = """\
import random
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
import pydisent
from _program_steps import *
"""
FOOTER = """
from _judge import verdict
print(verdict(globals()))  # of pydisent.linearize(fn, z) and pydisent.alignment_penalty(fn, z, ...)
"""
GLOBALS = {
    "V": "V = weight(6, 6, seed=1)",
    "C": "C = weight(6, 6, seed=2, dtype=torch.complex128)",
    "G": "G = torch.Generator()",
}


KINDS = tuple(CATALOGUE)

ALIKE = {"w": "x", "d": "c"}  # a second tensor of the same kind
Choice = tuple[str, int, int]  # a step of the catalogue, and which of the live tensors it reads


def _candidates(letter: str, live: dict[str, Tensor]) -> list[str]:
    """The names that a placeholder may stand for, the latest first."""
    fits = {
        "x": lambda t: t.is_floating_point() and t.shape == (BATCH, 6),
        "k": lambda t: t.is_floating_point() and t.shape == (BATCH, 2, 3),
        "v": lambda t: t.is_floating_point(),
        "c": lambda t: t.is_complex() and t.shape == (BATCH, 6),
        "u": lambda t: t.is_complex(),
    }[ALIKE.get(letter, letter)]
    return [name for name in reversed(live) if fits(live[name])]


def _overlaps(t: Tensor) -> bool:
    """Whether two elements lie at one address."""
    places = torch.zeros(t.shape, dtype=torch.long)
    for d, (size, stride) in enumerate(zip(t.shape, t.stride())):
        places += (torch.arange(size) * stride).reshape(-1, *(1,) * (t.dim() - 1 - d))
    return len(places.unique()) < places.numel()


# What makes a tensor of the kind that a step asks for where there is none.
CONVERSIONS = {
    "k": "{k} = {x}.unflatten(1, (2, 3))",
    "w": "{w} = z @ W.roll(1, 0)",
    "c": "{c} = {x} * (0.6 + 0.8j) + (0.5 - 0.2j)",
    "d": "{d} = {x} * (0.8 - 0.6j) + 0.3",
}


class _UnfitError(Exception):
    """The step asks for a tensor that is not there."""


def _filled(step: Step, picks: tuple[int, int], live: dict[str, Tensor], count: int) -> list[str]:
    """The step's lines, its placeholders replaced by names of live tensors and by new ones."""
    names: dict[str, str] = {}
    before = []

    def fresh() -> str:
        nonlocal count
        count += 1
        return f"h{count - 1}"

    def named(letter: str) -> str:
        if letter in names:
            return names[letter]
        if letter in "yt":
            names[letter] = fresh()
            return names[letter]
        first = names.get(ALIKE.get(letter, ""))
        found = [name for name in _candidates(letter, live) if name != first]
        if step.writes and letter in "uv":  # torch does not say what comes of that
            found = [name for name in found if not _overlaps(live[name])]
        kind = "c" if letter == "u" else letter
        if found:
            pick = picks[letter in ALIKE] % (len(found) + (first is not None))
            names[letter] = [*found, first][pick]
        elif kind in CONVERSIONS:
            names[letter] = names[kind] = fresh()
            before.append(_substitute(CONVERSIONS[kind], named))
        else:
            raise _UnfitError
        return names[letter]

    for letter in "xc":  # before those that have to differ from them
        if f"{{{letter}}}" in "".join(step.body):
            named(letter)
    lines = [_substitute(line, named) for line in step.body]
    return before + lines


def _substitute(line: str, named: Callable[[str], str]) -> str:
    return re.sub(r"\{([a-z])\}", lambda match: named(match[1]), line)


@dataclass(frozen=True, repr=False)
class Program:
    """A function of z as source text. ``broken``: torch's own backward cannot pass through it."""

    seed: int
    kinds: tuple[str, ...]
    setup: tuple[str, ...]
    body: tuple[str, ...]
    outputs: tuple[str, ...]
    broken: bool = False

    @functools.cached_property
    def definition(self) -> str:
        """All but the imports: the learnable tensors, the modules and ``fn``."""
        result = self.outputs[0] if len(self.outputs) == 1 else f"[{', '.join(self.outputs)}]"
        return _definition(self.seed, self.setup, self.body, result)

    def __repr__(self) -> str:
        return f"\n{HEADER}\n{self.definition}\n{FOOTER}"

    def build(self) -> dict:
        """Run the definition; the names that it makes."""
        return _run(self.definition)


def _definition(seed: int, setup: Iterable[str], body: Sequence[str], result: str) -> str:
    text = "\n".join([*setup, *body])
    lines = [f"z, W = latents(seed={seed}), weight(4, 6, seed={seed})"]
    lines += [line for name, line in GLOBALS.items() if re.search(rf"\b{name}\b", text)]
    lines += [*setup, "", "def fn(z):", "    h0 = z @ W"]
    lines += [f"    {line}" for line in body]
    return "\n".join([*lines, f"    return {result}"])


@functools.cache
def _imported() -> dict:
    names: dict = {}
    exec(HEADER, names)
    return names


def _run(definition: str) -> dict:
    names = dict(_imported())
    exec(compile(definition, "<program>", "exec"), names)
    return names


def own_names(names: dict) -> dict:
    """Of a program's names those that its definition made."""
    return {name: value for name, value in names.items() if name not in _imported()}


class _Writer:
    """Writes a program step by step, each tried out as soon as it is there."""

    def __init__(self, seed: int):
        self.seed = seed
        self.kinds: list[str] = []
        self.setup: dict[str, None] = {}
        self.body: list[str] = []
        self.loose: dict[str, None] = {"h0": None}  # what nothing has read since it was made
        self.broken = False
        self.live, self.loose, _ = self._tried({}, [], {})

    def add(self, kind: str, *picks: int) -> bool:
        """Append the step, unless torch refuses it, or its values are too large or too many."""
        step = CATALOGUE[kind]
        try:
            lines = _filled(step, picks, self.live, self._count())
            setup = {**self.setup, **dict.fromkeys(step.setup)}
            live, loose, broken = self._outcome(setup, lines)
        except (_UnfitError, RuntimeError, IndexError):
            return False
        if broken and not self.broken and step.theme != "stale":
            return False
        self.kinds.append(kind)
        self.body += lines
        self.setup, self.live, self.loose = setup, live, loose
        self.broken = self.broken or broken
        return True

    def finished(self) -> Program:
        outputs, size = [], 0
        for name in reversed(self.loose):
            tensor = self.live[name]
            size += tensor[0].numel() * (2 if tensor.is_complex() else 1)
            if outputs and size > WIDEST:
                break
            parts = f"torch.cat([{name}.real, {name}.imag], 1)"
            outputs.append(parts if tensor.is_complex() else name)
        return Program(
            self.seed,
            tuple(self.kinds),
            tuple(self.setup),
            tuple(self.body),
            tuple(outputs[::-1]),
            self.broken,
        )

    def _count(self) -> int:
        return 1 + max(int(n) for n in re.findall(r"\bh(\d+)\b", " ".join(["h0", *self.body])))

    def _outcome(self, setup: dict, lines: list[str]) -> tuple[dict, dict, bool]:
        text = "\n".join(lines)
        read = {name for name in self.loose if re.search(rf"\b{name}\b", text)}
        loose = dict.fromkeys(name for name in self.loose if name not in read)
        return self._tried(setup, [*self.body, *lines], loose)

    def _tried(self, setup: dict, body: list[str], loose: dict) -> tuple[dict, dict, bool]:
        """The live tensors at the end of ``body``, the loose ones, and whether backward fails."""
        names = _run(_definition(self.seed, setup, body, "locals()"))
        with random_states_kept():
            restart(names)
            found = names["fn"](names["z"])
        live = {
            name: value
            for name, value in found.items()
            if re.fullmatch(r"h\d+", name) and isinstance(value, Tensor)
        }
        if any(not t.is_floating_point() and not t.is_complex() for t in live.values()):
            raise _UnfitError
        if any(len(t) != BATCH or t[0].numel() > WIDEST for t in live.values()):
            raise _UnfitError
        if any(not bool(t.detach().abs().amax() <= LARGEST) for t in live.values()):
            raise _UnfitError
        before = getattr(self, "live", {})
        loose = {
            name: None
            for name, t in live.items()
            if name in loose or name not in before or not torch.equal(t, before[name])
        }
        try:
            torch.stack([live[n].abs().square().sum() for n in loose]).sum().backward()
        except RuntimeError:
            return live, loose, True
        if not bool(names["W"].grad is not None and names["W"].grad.isfinite().all()):
            raise _UnfitError
        return live, loose, False


def assembled(choices: Iterable[Choice], seed: int) -> Program:
    """The program of the steps that fit, each reading what its numbers choose."""
    writer = _Writer(seed)
    for choice in choices:
        writer.add(*choice)
    return writer.finished()


@st.composite
def programs(draw, kinds: Sequence[str] = KINDS, longest: int = 12) -> Program:
    """Programs of at most ``longest`` steps of the given kinds; fewer and earlier are simpler."""
    choice = st.tuples(st.sampled_from(kinds), st.integers(0, 3), st.integers(0, 3))
    return assembled(draw(st.lists(choice, min_size=1, max_size=longest)), draw(st.integers(0, 7)))
