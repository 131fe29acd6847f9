import importlib
import os
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
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


@pytest.fixture
def bench(monkeypatch):
    """Import a bench by its name."""
    monkeypatch.syspath_prepend(BENCH)
    yield importlib.import_module
    for path in BENCH.glob("*.py"):  # they are no modules of anyone else
        sys.modules.pop(path.stem, None)


@pytest.fixture
def short_eigenpaths(monkeypatch):
    """Eigenpaths of a report of six steps, each of which is shown for many."""
    from pydisent.reports import eigenpaths

    whole = eigenpaths.trace_eigenpath

    def short(*args, steps, **options):
        path = whole(*args, steps=min(6, steps), **options)
        return path[:, :, [i * (path.shape[2] - 1) // steps for i in range(steps + 1)]]

    monkeypatch.setattr(eigenpaths, "trace_eigenpath", short)
