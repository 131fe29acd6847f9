"""What holds for the package as a whole."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pydisent

PACKAGE = Path(pydisent.__file__).parent

HEAVY = "lightning_fabric sklearn matplotlib tyro rich tensorboard safetensors PIL jinja2"


def test_import_needs_torch_and_numpy_alone():
    code = (
        "import sys\n"
        f"for name in {HEAVY.split()!r}: sys.modules[name] = None\n"
        "import pydisent, torch\n"
        "assert 'torch._dynamo' not in sys.modules  # the compiler takes a second\n"
        "fn = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.SiLU(), torch.nn.Linear(8, 6))\n"
        "penalty = pydisent.alignment_penalty(fn, torch.randn(3, 4), k=2, iterations=3)\n"
        "penalty.backward()\n"
        "assert fn[0].weight.grad.abs().sum() > 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_everything_public_is_there_and_documented():
    for name in pydisent.__all__:
        assert (getattr(pydisent, name).__doc__ or "").strip(), name


def private_modules_imported(file: Path):
    """Modules of another package's own, by their underscore, that a file of pydisent imports."""
    package = file.relative_to(PACKAGE.parent).parent.parts
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = f"{node.module or ''}."
            names = ["."] if node.level else [base + alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = tuple(name.split("."))
            private = (i for i, x in enumerate(parts) if x.startswith("_") and x[:2] != "__")
            owner = parts[: next(private, 0)]
            if name == "." or (parts[0] == "pydisent" and package[: len(owner)] != owner):
                yield f"{file.relative_to(PACKAGE.parent)}:{node.lineno} {name}"


def test_private_modules_stay_in_their_packages_and_imports_are_absolute():
    found = [x for file in PACKAGE.rglob("*.py") for x in private_modules_imported(file)]
    assert not found


def test_a_private_import_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "pydisent")
    file = tmp_path / "pydisent" / "nn" / "x.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "from pydisent.ops._context import chosen\nfrom pydisent.nn._own import x\n"
        "from pydisent._checks import check\nfrom .layout import y\n"
    )
    found = list(private_modules_imported(file))
    assert found == [
        "pydisent/nn/x.py:1 pydisent.ops._context.chosen",
        "pydisent/nn/x.py:4 .",
    ]


def test_packages_are_reached_by_their_names_alone():
    program = "import pydisent; print(pydisent.zoo.names()[0], pydisent.systems.names()[0])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    with pytest.raises(AttributeError, match="no attribute 'zoos'"):
        _ = pydisent.zoos
