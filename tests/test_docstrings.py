"""The examples of docstrings give what they say."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest
import torch

import pydisent

_ENDS = r"""\s\-/'")\]}>.,:;!?·–—…"""  # what may follow a reference's underscore
PACKAGE = Path(pydisent.__file__).parent


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for file in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in file.read_text("utf-8"):
            parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
            module = importlib.import_module(".".join(parts))
            yield from (test for test in finder.find(module) if test.examples)


def docstrings():
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            kinds = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                yield f"{file.relative_to(PACKAGE)}:{getattr(node, 'name', '')}", text


def test_no_word_is_a_link_of_restructuredtext():
    """``word_`` before punctuation is a reference for Sphinx, which has no target for it."""
    found = []
    for place, text in docstrings():
        prose = re.sub(r"``.*?``|`[^`]*`_*|^ *>>>.*$", " ", text, flags=re.DOTALL | re.MULTILINE)
        for match in re.finditer(rf"(?<![\w\\])[^\W_]+_(?=[{_ENDS}]|$)", prose):
            found.append(f"{place}: {match[0]}")
    assert not found


@pytest.mark.parametrize("example", list(examples()), ids=lambda test: test.name)
def test_example(example):
    torch.manual_seed(0)
    example.globs |= {"torch": torch, "pydisent": pydisent}  # as a reader has imported them
    said = []
    doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert not said, "".join(said)
