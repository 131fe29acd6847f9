"""Every package that may be absent: who imports it says what to install."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pydisent
from pydisent._extras import EXTRAS, MissingPackageError, install_command, optional
from pydisent._requirements import OLDEST_TORCH, check_torch

PACKAGE = Path(pydisent.__file__).parent
PYPROJECT = PACKAGE.parent / "pyproject.toml"
ALWAYS = {"torch", "numpy", "pydisent", *sys.stdlib_module_names}
DISTRIBUTIONS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "lightning_fabric": "lightning-fabric",
    "pytorch_lightning": "pytorch-lightning",
}


def _packages(node):
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        names = [node.module]
    else:
        return set()
    names = ["tensorboard" if n.startswith("torch.utils.tensorboard") else n for n in names]
    return {name.partition(".")[0] for name in names} - ALWAYS


def _is_optional(node):
    call = node.items[0].context_expr if isinstance(node, ast.With) else None
    return isinstance(call, ast.Call) and getattr(call.func, "id", "") == "optional"


def _imports():
    """Each import of an optional package: its place, the package, the statements around it."""
    for file in sorted(PACKAGE.rglob("*.py")):
        text = file.read_text()
        if not any(package in text for package in EXTRAS):
            continue
        tree = ast.parse(text)
        above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            for package in sorted(_packages(node)):
                around, at = [], node
                while at in above:
                    at = above[at]
                    around.append(at)
                yield f"{file.relative_to(PACKAGE)}:{node.lineno}", package, around


def _is_probe(node):
    """For types alone, or of what is used if it is there."""
    if isinstance(node, ast.Try):
        return any(getattr(h.type, "id", "") == "ImportError" for h in node.handlers)
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


FOUND = list(_imports())
GUARDED = {
    (place, package): [node for node in around if _is_optional(node)]
    for place, package, around in FOUND
    if not any(map(_is_probe, around))
}


def test_all_are_found():
    assert {package for _, package in GUARDED} == EXTRAS.keys() - {"nvtx", "triton"}
    assert all(GUARDED.values()), [key for key, blocks in GUARDED.items() if not blocks]


class _Blocker:
    def __init__(self, package):
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def modules_as_they_were():
    """What is imported while a package is missing may be half a package: it goes again."""
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]
    sys.modules.update(before)


@pytest.mark.usefixtures("modules_as_they_were")
@pytest.mark.parametrize(("place", "package"), GUARDED, ids=lambda text: text)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, place, package):
    for name in list(sys.modules):
        if name.partition(".")[0] == package or name.startswith("torch.utils.tensorboard"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Blocker(package), *sys.meta_path])
    (block,) = GUARDED[place, package]
    code = compile(ast.Module([block], []), place, "exec")
    with pytest.raises(MissingPackageError, match=f"needs the package {package}: ") as caught:
        exec(code, {"optional": optional})
    assert str(caught.value).endswith(install_command(EXTRAS[package]))
    assert caught.value.name.partition(".")[0] == package


def test_extras_are_those_of_pyproject():
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    for package, extra in EXTRAS.items():
        wanted = DISTRIBUTIONS.get(package, package)
        listed = project["optional-dependencies"][extra]
        assert any(re.match(rf"{wanted}\b", one) for one in listed), (package, extra)
    assert f"torch>={'.'.join(map(str, OLDEST_TORCH))}" in project["dependencies"]


def test_other_missing_modules_pass():
    with (
        pytest.raises(ModuleNotFoundError, match="No module named 'nowhere_to_be_found'") as caught,
        optional(),
    ):
        import nowhere_to_be_found  # noqa: F401
    assert not isinstance(caught.value, MissingPackageError)


def test_what_to_install_depends_on_how_pydisent_was(monkeypatch, tmp_path):
    installed = tmp_path / "site-packages" / "pydisent" / "_extras.py"
    monkeypatch.setattr("pydisent._extras.__file__", str(installed))
    assert install_command("all") == "pip install 'pydisent[all]'"
    monkeypatch.setattr("pydisent._extras.__file__", str(PACKAGE / "_extras.py"))
    assert install_command("all") == (
        f"pip install --no-build-isolation -e '{PACKAGE.parent}[all]'"
    )


@pytest.mark.parametrize("version", ["2.10.1", "2.9.0+cu126", "1.13.1", "2.2.0a0+git123"])
def test_an_old_torch_is_refused_in_a_line(version):
    with pytest.raises(
        ImportError, match=rf"torch 2\.11 or newer, not {re.escape(version)}: "
    ) as c:
        check_torch(version)
    assert "\n" not in str(c.value)


@pytest.mark.parametrize("version", ["2.11.0", "2.13.0+cpu", "3.0.0", "2.11.0a0+git", "unknown"])
def test_others_are_not(version):
    check_torch(version)


def _alone(*argv):
    """Run the command line where torch, NumPy and the standard library are all there is."""
    code = (
        "import runpy, sys\n"
        f"for name in {[*EXTRAS]!r}: sys.modules[name] = None\n"
        f"sys.argv = ['pydisent', *{argv!r}]\n"
        "runpy.run_module('pydisent', run_name='__main__')\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_info_needs_no_extra():
    done = _alone("info")
    assert done.returncode == 0, done.stderr
    assert '"reference"' in done.stdout


def test_other_commands_say_what_they_need():
    done = _alone("list")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"pydisent: the command line needs the package tyro: {install_command('all')}"
    )


#: What each extra is said to be enough for.
ENOUGH = {
    "train": "import pydisent.cli, pydisent.training.loop; pydisent.load('vae/sprites')",
    "report": "from pydisent import explain, reports; reports.traverse; import PIL.Image",
    "hub": "import pydisent, pydisent.training as t; pydisent.from_pretrained; t.push_to_hub",
    "lightning": "from pydisent import metrics, reports; reports.traverse; metrics.dci",
    "torchmetrics": "from pydisent.metrics.torchmetrics import DCI, MCC, MIG, SAP, InfoMEC",
}
BUNDLED = {"lightning": {"lightning-fabric"}}  # by pytorch-lightning


def _brought_by(extra, listed):
    """The packages of an extra and of those of pydisent's own that it names."""
    found = set(BUNDLED.get(extra, ()))
    for line in listed[extra]:
        if own := re.match(r"pydisent\[([\w,]+)\]", line):
            found |= {name for part in own[1].split(",") for name in _brought_by(part, listed)}
        else:
            found.add(re.match(r"[\w.-]+", line)[0])
    return found


@pytest.mark.parametrize("extra", ENOUGH)
def test_an_extra_alone_is_enough(extra):
    listed = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    brought = _brought_by(extra, listed)
    missing = [name for name in EXTRAS if DISTRIBUTIONS.get(name, name) not in brought]
    # Others' packages first: they import some of these themselves, if they are there.
    first = {"lightning": "import pytorch_lightning", "torchmetrics": "import torchmetrics"}
    code = f"{first.get(extra, '')}\nimport sys\n"
    code += f"for name in {missing!r}: sys.modules[name] = None\n{ENOUGH[extra]}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
