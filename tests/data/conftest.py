import os
import sys
from pathlib import Path

import pytest

# The folders of pictures beside this file are made by name; importlib mode adds no path.
sys.path.insert(0, str(Path(__file__).parent))

SHARED = Path(os.environ.get("PYDISENT_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_file():
    def locate(name):
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"{path} is not there; PYDISENT_SHARED_DATA can name its folder")
        return path

    return locate


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for each test."""
    folder = tmp_path / "the-cache"
    monkeypatch.setenv("PYDISENT_CACHE", str(folder))
    return folder
