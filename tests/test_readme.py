"""The README's tables are those of the committed results."""

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_tables_are_generated_from_the_committed_results():
    specification = importlib.util.spec_from_file_location("plot", ROOT / "bench" / "plot.py")
    plot = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(plot)
    text = (ROOT / "README.md").read_text()
    assert text == plot.readme_with(text, plot.tables()), "run python bench/plot.py"


def test_every_path_of_the_guide_for_contributors_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in re.findall(r"`((?:pydisent|csrc|tests|bench|triton_kernels)/[\w./]*)`", text):
        assert (ROOT / name).exists(), name


def test_every_picture_named_is_there():
    text = (ROOT / "README.md").read_text()
    for part in text.split("](")[1:]:
        target = part.split(")")[0]
        if not target.startswith(("http", "#")):
            assert (ROOT / target).exists(), target
