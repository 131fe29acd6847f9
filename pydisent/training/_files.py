"""Files that are either whole or not there."""

import errno
import json
import os
from pathlib import Path
from typing import IO, Any

# What a system that does not flush folders answers.
NO_FOLDERS = (errno.EACCES, errno.EPERM, errno.EBADF, errno.EINVAL, errno.ENOTSUP)


def absolute(path: str | os.PathLike[str] | None) -> str | None:
    """Return a path as files of runs keep it: from the root, whatever the working folder."""
    return None if path is None else str(Path(path).absolute())


def lock(file: IO[Any]) -> bool:
    """Lock an open file until all processes that inherit it have closed it; False if another has.

    There are no such locks on Windows: there it is always True.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync(path: Path) -> None:
    """Flush a file to the disk, or a folder where the system does that.

    Windows opens no folders, and flushes only what is open for writing; some network file systems
    flush no folders.
    """
    folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not folder or error.errno not in NO_FOLDERS:
            raise


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write `data` to a temporary name beside `path`, flush it, and rename it into place."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is not JSON; both name it.
    """
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {path.name} in {path.parent}") from None
