"""Every reader of files against everything that is often wrong with one."""

import faulthandler
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from _damage import ARRAY_CASES, ARRAYS, BYTES, HUGE, HUGE_CASES, OTHERS, PLACES
from _readers import READERS

pytestmark = pytest.mark.in_turn

ROOM = 2**30  # bytes that a reader may take beyond what there was: small files need far less


@pytest.fixture(autouse=True)
def watchdog():
    """End a test that hangs, in a pipe that nobody writes to."""
    faulthandler.dump_traceback_later(120, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@contextmanager
def little_memory():
    """A MemoryError for what is not little, be it used or only asked for."""
    if not sys.platform.startswith("linux"):
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def answer(reader, folder):
    """What is said, to people, of a folder's data that does not open; None of one that does."""
    try:
        with little_memory():
            reader.open(folder)
    except (ValueError, OSError) as error:
        if isinstance(error, UnicodeError):
            raise
        return str(error)
    return None


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Whole files, written once for each reader."""
    kept = {}

    def write(name):
        if name not in kept:
            folder = tmp_path_factory.mktemp("whole")
            kept[name] = folder, READERS[name].write(folder).relative_to(folder)
        return kept[name]

    return write


@pytest.fixture
def written(whole, tmp_path):
    """A copy of a reader's whole files: their folder, and the file to damage."""

    def copy(name):
        source, file = whole(name)
        folder = shutil.copytree(source, tmp_path / "the data")
        return folder, folder / file

    return copy


@pytest.mark.parametrize("name", READERS)
def test_whole_files_open(written, name):
    folder, _ = written(name)
    with little_memory():
        READERS[name].open(folder)


@pytest.mark.parametrize("damage", BYTES)
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_named(written, name, damage):
    folder, file = written(name)
    file.write_bytes(BYTES[damage](file.read_bytes()))
    assert file.name in (answer(READERS[name], folder) or "")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_named(written, name, place):
    folder, file = written(name)
    PLACES[place](file)
    if (name, place) in OPTIONAL:
        READERS[name].open(folder)
        return
    said = answer(READERS[name], folder) or ""
    assert file.name in said or str(folder) in said


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
@pytest.mark.parametrize("name", READERS)
def test_what_may_not_be_read_is_named(written, name):
    folder, file = written(name)
    file.chmod(0)
    assert file.name in (answer(READERS[name], folder) or "")


@pytest.mark.parametrize(("name", "number"), HUGE_CASES)
def test_small_files_that_claim_to_be_huge(written, name, number):
    folder, file = written(name)
    HUGE[name][number](file)
    assert file.stat().st_size < 2**25
    said = answer(READERS[name], folder)
    if (name, number) == ("images png", 1):  # all is there in spite of what the chunk claims
        assert said is None
    else:
        assert file.name in (said or "")


@pytest.mark.parametrize("change", OTHERS)
@pytest.mark.parametrize(("name", "key"), ARRAY_CASES)
def test_other_arrays_are_named(written, name, key, change):
    folder, file = written(name)
    _, arrays, write = ARRAYS[name]
    write(file, **{key: OTHERS[change](arrays()[key])})
    said = answer(READERS[name], folder) or ""
    assert file.name in said
    assert key in said


@pytest.mark.parametrize("name", READERS)
def test_a_few_other_bytes_are_read_or_refused(written, name):
    """Damage anywhere is found, or is in what is not looked at; never another error."""
    folder, file = written(name)
    whole = np.frombuffer(file.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(12):
        damaged = whole.copy()
        # Half of them near the beginning, where headers are.
        reach = len(whole) if rng.random() < 0.5 else min(400, len(whole))
        damaged[rng.integers(0, reach, 3)] = rng.integers(0, 256, 3)
        file.write_bytes(damaged.tobytes())
        said = answer(READERS[name], folder)
        assert said is None or file.name in said or str(folder) in said


# Without these there is still all that is needed.
OPTIONAL = {
    ("celeba partition", "absent"),
    ("celeba partition.csv", "absent"),
    ("celeba partition", "loop"),
    ("celeba partition.csv", "loop"),
    ("chairs", "absent"),
}
