"""The README's tables are those of the committed results."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_tables_are_generated_from_the_committed_results(bench):
    readme = bench("readme")
    text = (ROOT / "README.md").read_text()
    assert text == readme.readme_with(text, readme.tables()), "run python bench/readme.py"


def test_the_page_of_gpus_is_generated(bench):
    text = (ROOT / "docs" / "gpu.md").read_text()
    assert text == bench("readme").gpu_page(), "run python bench/readme.py"


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
