"""The examples of docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import pydisent

PACKAGE = Path(pydisent.__file__).parent


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for file in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in file.read_text("utf-8"):
            parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
            module = importlib.import_module(".".join(parts))
            yield from (test for test in finder.find(module) if test.examples)


@pytest.mark.parametrize("example", list(examples()), ids=lambda test: test.name)
def test_example(example):
    torch.manual_seed(0)
    example.globs |= {"torch": torch, "pydisent": pydisent}  # as a reader has imported them
    said = []
    doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert not said, "".join(said)
