import errno
import os

import pytest

from pydisent import _atomic
from pydisent.training import files


def refuse(number):
    raise OSError(number, os.strerror(number))


@pytest.fixture
def windows(monkeypatch):
    """Folders cannot be opened; only what is open for writing can be flushed."""
    fcntl = pytest.importorskip("fcntl")
    opened, flushed = os.open, os.fsync

    def open_(path, flags, *more, **options):
        return (
            refuse(errno.EACCES) if os.path.isdir(path) else opened(path, flags, *more, **options)
        )

    def fsync(descriptor):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            refuse(errno.EBADF)
        flushed(descriptor)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.usefixtures("windows")
def test_files_are_written_on_windows(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": 1})
    assert files.read_json(tmp_path / "a.json") == {"b": 1}
    _atomic.sync(tmp_path)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_flushes_no_folders(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", lambda descriptor: refuse(number))
    _atomic.sync(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=os.strerror(number)):
        _atomic.sync(tmp_path / "file")


def test_a_disk_that_fails_is_no_secret(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: refuse(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        _atomic.sync(tmp_path)


def test_a_lock_on_a_full_disk_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda descriptor, data: refuse(errno.ENOSPC))
    with (
        pytest.raises(OSError, match=r"No space left.*\.lock"),
        files.file_lock(tmp_path / ".lock", "it is locked"),
    ):
        pass
