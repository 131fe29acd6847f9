import importlib
import os
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import pytest

BENCH = Path(__file__).parents[1] / "bench"
SHARED = Path(os.environ.get("PYDISENT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


TURNS = 3


def turn():
    """Which third of the cases marked ``in_turn`` is run: by the commit, so that CI runs all."""
    if "PYDISENT_TURN" in os.environ:
        return int(os.environ["PYDISENT_TURN"]) % TURNS
    command = ["git", "-C", str(Path(__file__).parent), "rev-list", "--count", "HEAD"]
    try:
        counted = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0  # not a checkout
    return int(counted) % TURNS


def runs_whole(config):
    """Whether all cases are run: if asked for, or where tests are named one by one."""
    return os.environ.get("PYDISENT_WHOLE") == "1" or any("::" in each for each in config.args)


def pytest_report_header(config):
    if not runs_whole(config):
        return f"cases in turn: {turn() + 1} of {TURNS} (PYDISENT_WHOLE=1 runs all)"
    return None


def pytest_collection_modifyitems(config, items):
    # The long ones first, or one of them may be left when the other processes are done.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if runs_whole(config):
        return
    chosen, left_out, now = [], [], turn()
    for item in items:
        # Not by their order, with which an argument's values may be in step.
        is_case = item.get_closest_marker("in_turn") and hasattr(item, "callspec")
        waits = is_case and crc32(item.nodeid.encode()) % TURNS != now
        (left_out if waits else chosen).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = chosen


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
