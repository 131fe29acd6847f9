import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("PYDISENT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_file():
    """Locate official data that is not in the repository, or skip the test."""

    def locate(name):
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"{path} is not there; PYDISENT_SHARED_DATA can name its folder")
        return path

    return locate
