import sys
from pathlib import Path

import pytest

# The folders of pictures beside this file are made by name; importlib mode adds no path.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for each test."""
    folder = tmp_path / "the-cache"
    monkeypatch.setenv("PYDISENT_CACHE", str(folder))
    return folder
