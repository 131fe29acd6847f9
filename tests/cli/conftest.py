import sys
from pathlib import Path

import pytest
import torch

from pydisent.cli import main

# The helper module beside this file is imported by name; importlib mode adds no path.
sys.path.insert(0, str(Path(__file__).parent))
from _command_line import train_smoke


@pytest.fixture(autouse=True)
def same_threads():
    """Commands may set the number of threads of this process, which decides how sums round."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "digits"
    options = ["--data", "digits", "--out", str(path), "--seed", "3", "--set", "base=2"]
    assert train_smoke(*options) == 0
    return path


@pytest.fixture(scope="session")
def masked_run(tmp_path_factory):
    """A run whose codes have masks, and the lengths of its traversals."""
    path = tmp_path_factory.mktemp("runs") / "ps-sc"
    options = ["--data", "digits", "--out", str(path), "--steps", "2"]
    assert train_smoke(*options, system="ps-sc") == 0
    assert main(["evaluate", str(path), "--metrics", "tpl", "mask-overlap"]) == 0
    return path
