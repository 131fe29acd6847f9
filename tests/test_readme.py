"""The README's tables are those of the committed results."""

import inspect
import re
from pathlib import Path

import pytest

import pydisent

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "name", ["README.md", "docs/gpu.md", "docs/results/measured.md", "docs/results/papers.md"]
)
def test_tables_are_generated_from_the_committed_results(bench, name):
    readme = bench("readme")
    assert name in readme.PAGES
    assert (ROOT / name).read_text() == readme.page(name), "run python bench/readme.py"


def test_the_page_of_derivatives_is_generated(bench):
    derivatives = bench("derivatives")
    results = derivatives.committed()
    assert results
    text = (ROOT / "docs" / "results" / "derivatives.md").read_text()
    assert text == derivatives.page(results), "run python bench/derivatives.py --page"


def test_every_path_of_the_guide_for_contributors_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in re.findall(r"`((?:pydisent|csrc|tests|bench|triton_kernels)/[\w./]*)`", text):
        assert (ROOT / name).exists(), name


def pages():
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    return [path for path in found if not {"_build", "generated"} & {*path.parts}]


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        file = target.split("#")[0]
        if file and not file.startswith("http") and "generated/" not in file:
            assert (path.parent / file).exists(), target


def test_the_reference_has_every_public_name():
    text = "".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md"))
    for name in pydisent.__all__:
        if not inspect.ismodule(getattr(pydisent, name)):
            assert re.search(rf"pydisent\.(\w+\.)?{name}\n", text), name
