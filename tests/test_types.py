"""What type checkers see: choices as literals, no Any from public calls, the README's programs."""

import importlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import pydisent
from pydisent import data, losses, metrics, ops
from pydisent.data._registry import SOURCES

ROOT = Path(__file__).parents[1]
MODULES = (pydisent, losses, ops, metrics)
CHOICES = ("method", "variant", "coupled", "estimator", "reduction", "kind", "impl")


def public():
    """Functions and methods by their public names."""
    for module in MODULES:
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.isfunction(found):
                yield f"{module.__name__}.{name}", found
            elif inspect.isclass(found) and found.__module__.startswith("pydisent"):
                for method, function in vars(found).items():
                    own = getattr(function, "__module__", "") or ""
                    shown = not method.startswith("_") or method in ("__init__", "__call__")
                    if shown and inspect.isfunction(function) and own.startswith("pydisent"):
                        yield f"{module.__name__}.{name}.{method}", function


PUBLIC = dict(public())


def parts(hint):
    yield hint
    for argument in typing.get_args(hint):
        yield from parts(argument)


def test_there_is_something_to_look_at():
    assert len(PUBLIC) > 40
    assert "pydisent.alignment_penalty" in PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_returns_are_of_a_type(name):
    hints = typing.get_type_hints(PUBLIC[name])
    assert "return" in hints
    assert typing.Any not in parts(hints["return"])


@pytest.mark.parametrize("name", PUBLIC)
def test_choices_are_literals(name):
    hints = typing.get_type_hints(PUBLIC[name])
    for argument in CHOICES:
        if argument in hints:
            assert str not in parts(hints[argument]), argument
            assert any(typing.get_origin(p) is typing.Literal for p in parts(hints[argument]))


def test_names_of_factor_data_are_those_of_factor_datasets():
    loaders = {name: source.find() for name, source in SOURCES.items()}
    found = {
        name
        for name, loader in loaders.items()
        if inspect.isclass(loader) and issubclass(loader, data.FactorDataset)
    }
    assert found == set(typing.get_args(data.FactorName))


#: What the README's programs take from their reader, by the names that they use.
READERS = """
from collections.abc import Callable
import torch, pydisent
from torch import Tensor, nn

gan_loss: Callable[[Tensor], Tensor]
generator: nn.Module
reconstruction: Callable[[Tensor, Tensor], Tensor]
encoder: Callable[[Tensor], Tensor]
decoder: Callable[[Tensor], Tensor]
student: Callable[[Tensor, Tensor], Tensor]
teacher: Callable[[Tensor, Tensor], Tensor]
x: Tensor
y: Tensor
z: Tensor
teacher_y: Tensor
teacher_z: Tensor
code: Tensor
"""
#: Names of one program alone, or of another type there.
OWN = ["", "data: list[Tensor]\n", ""]


def programs():
    text = (ROOT / "README.md").read_text()
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def checker():
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed; the extra lint has it")
    # Some of torch's own functions have no types.
    untyped = "--untyped-calls-exclude=torch"
    return [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", untyped]


def complaints(folder, sources):
    """What mypy says of each program, all in one run."""
    command = checker()
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    files = [str(folder / f"{name}.py") for name in sources]
    environment = {**os.environ, "MYPYPATH": str(Path(pydisent.__file__).parents[1])}
    result = subprocess.run(
        [*command, "--cache-dir", str(folder / "cache"), *files],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert result.returncode in (0, 1), result.stdout + result.stderr
    return result.stdout


WRONG = """
import torch, pydisent
z = torch.randn(4, 3)
pydisent.alignment_penalty(torch.sin, z, k=2, iterations=2, method="grams")
pydisent.total_correlation(z, z, z, 10, "mmd")
pydisent.ops.activation_tangent(z, z[None], "gelu")
n: str = pydisent.linearize(torch.sin, z).jvp(z[None])
a: int = pydisent.backends()["cpu"]["active"]
def pair(z: torch.Tensor) -> list[torch.Tensor]:
    return [z.sin(), z]
reveal_type(pydisent.linearize(pair, z).jvp(z[None]))
"""


@pytest.mark.slow
def test_programs_of_the_readme_pass_and_wrong_ones_do_not(tmp_path):
    found = programs()
    assert len(found) == len(OWN)
    sources = {
        f"program_{i}": (READERS + own + source).replace(
            "generator = ...", "generator = nn.Linear(128, 64)"
        )
        for i, (own, source) in enumerate(zip(OWN, found))
    }
    said = complaints(tmp_path, {**sources, "wrong": WRONG})
    assert not [line for line in said.splitlines() if line.startswith("program_")], said
    wrong = [line for line in said.splitlines() if line.startswith("wrong.py")]
    assert [line.split(":")[1] for line in wrong] == ["4", "5", "6", "7", "11"], said
    assert "list[torch._tensor.Tensor]" in wrong[-1] or "list[Tensor]" in wrong[-1]
