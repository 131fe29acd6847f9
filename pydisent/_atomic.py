"""Atomic writes: a file appears whole or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Errors from open and fsync on systems where folders cannot be flushed.
NO_FOLDER_SYNC = (errno.EACCES, errno.EPERM, errno.EBADF, errno.EINVAL, errno.ENOTSUP)


@contextmanager
def replacing(path: Path, *, concurrent: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what the block writes and flushes there replaces it.

    Parameters
    ----------
    path : Path
        The file.
    concurrent : bool
        Whether several processes may write the file at once. If so, the temporary file gets a
        random name; otherwise a fixed one, so that a killed process's leftover is overwritten.
    """
    token = f".{secrets.token_hex(4)}" if concurrent else ""
    temporary = path.with_name(f".{path.name}{token}.tmp")
    remove(temporary)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            remove(temporary)
        raise
    sync(path.parent)


def write_atomic(path: Path, data: str | bytes, *, concurrent: bool = False) -> None:
    """Write text or bytes atomically; see `replacing`."""
    with replacing(path, concurrent=concurrent) as temporary:
        write_new(temporary, data.encode() if isinstance(data, str) else data)


def write_new(path: Path, data: bytes) -> None:
    """Create a file and flush it to disk; any OSError names the file."""
    try:
        with path.open("xb") as file:
            file.write(data)
        sync(path)
    except OSError as error:
        with suppress(OSError):
            remove(path)
        raise type(error)(error.errno, error.strerror, str(path)) from error


def sync(path: Path) -> None:
    """Flush a file to disk, or a folder where the file system supports it.

    Windows cannot open folders and flushes only files opened for writing.
    """
    folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not folder or error.errno not in NO_FOLDER_SYNC:
            raise


def remove(path: Path) -> None:
    """Delete a file, a link or a folder with its contents, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
