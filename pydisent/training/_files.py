"""Files that are either whole or not there, read with care, and locks."""

import errno
import json
import math
import os
import reprlib
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

# What a system that does not flush folders answers.
NO_FOLDERS = (errno.EACCES, errno.EPERM, errno.EBADF, errno.EINVAL, errno.ENOTSUP)
Types = Mapping[str, tuple[type, ...]]
NUMBER = (int, float)
_LARGEST = 2**63  # what integers stay below, so that whatever computes with them can
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


def absolute(path: str | os.PathLike[str] | None) -> str | None:
    """Return a path as files of runs keep it: from the root, whatever the working folder."""
    return None if path is None else str(Path(path).absolute())


def lock(file: IO[Any], *, wait: bool = False) -> bool:
    """Lock an open file until all processes that inherit it have closed it; False if another has.

    There are no such locks on Windows and some network file systems: there it is always True.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


@contextmanager
def held(path: Path, what: str, *, wait: bool = False) -> Iterator[Callable[[], bool]]:
    """Hold a lock file in an existing folder; one that a dead process left stops nobody.

    Yields
    ------
    callable
        Returns whether the file is still there, and so its folder.

    Raises
    ------
    ValueError
        If another process holds it: the message is `what` and that process's number. With `wait`
        it is waited for instead.
    """
    while True:
        file = _opened(path)
        if not lock(file, wait=wait):
            with file:
                file.seek(0)
                raise ValueError(f"{what} ({file.read(80).strip() or 'another process'})")
        if _is_at(file, path):
            break
        file.close()  # its folder was replaced before it was locked
    with file:
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield lambda: _is_at(file, path)


def _opened(path: Path) -> IO[str]:
    """Open a file of one's own for reading and writing: no link, for it would be followed."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        raise ValueError(f"{path} is not a file of its own; accepted: one, or none")
    return os.fdopen(os.open(path, flags, 0o666), "r+")


def _is_at(file: IO[Any], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


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
    remove(temporary)
    write_new(temporary, data.encode() if isinstance(data, str) else data)
    os.replace(temporary, path)
    sync(path.parent)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there, and flush it; an error names it."""
    try:
        with path.open("xb") as file:
            file.write(data)
        sync(path)
    except OSError as error:
        with suppress(OSError):
            remove(path)
        raise type(error)(error.errno, error.strerror, str(path)) from error


def remove(path: Path) -> None:
    """Delete a file, a folder with all that is in it, or a link, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, default=str) + "\n")


def read_text(path: Path) -> str:
    """Read a file of UTF-8.

    Raises
    ------
    OSError, ValueError
        If there is no such file, or it is not UTF-8; both name it.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{path} is a pipe, a socket or a device; accepted: a file")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {path.name} in {path.parent}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path} is a folder; accepted: a file") from None


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    OSError, ValueError
        If there is no such file, or it is not JSON; both name it.
    """
    return parse_json(read_text(path), str(path))


def parse_json(text: str, source: str) -> Any:
    """Return what JSON text says; a ValueError names the `source`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is not valid JSON: {error}") from None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; see `read_json`."""
    return as_object(read_json(path), str(path))


def as_object(value: Any, source: str) -> dict[str, Any]:
    """Return `value` if it is a JSON object; else a ValueError names the `source`."""
    if not isinstance(value, dict):
        raise ValueError(f"{source} must be a JSON object; got {type(value).__name__}")
    return value


def check_fields(
    source: str,
    values: Mapping[str, Any],
    types: Types,
    *,
    optional: Collection[str] = (),
    others: bool = False,
) -> None:
    """Raise ValueError unless a JSON object has these fields, of these very types.

    Numbers must be finite, and integers of less than 64 bits.

    Parameters
    ----------
    source : str
        What the object is, for messages: its file.
    values : dict
        The object.
    types : dict of str to tuple of type
        The types of each field.
    optional : collection of str
        Fields that may be missing.
    others : bool
        Whether there may be further fields.
    """
    if missing := [name for name in types if name not in values and name not in optional]:
        raise ValueError(f"{source} lacks {', '.join(missing)}")
    if not others and (unknown := sorted(map(reprlib.repr, values.keys() - types.keys()))):
        raise ValueError(
            f"{source} has {', '.join(unknown[:5])}; accepted: {', '.join(types)} alone"
        )
    for name, accepted in types.items():
        if name in values:
            check_value(f"{source}: {name}", values[name], accepted)


def check_value(name: str, value: Any, types: tuple[type, ...]) -> None:
    """Raise ValueError unless a value is of these types and, as a number, one to compute with."""
    words = " or ".join("None" if t is type(None) else t.__name__ for t in types)
    if type(value) in types:
        if type(value) not in NUMBER:
            return
        words = "a finite number, below 2^63 if an integer"
        if math.isfinite(value) if type(value) is float else -_LARGEST < value < _LARGEST:
            return
    raise ValueError(f"{name} is {reprlib.repr(value)}; accepted: {words}")


def check_count(name: str, value: int, low: int = 0, high: int = _LARGEST) -> None:
    """Raise ValueError unless low <= value < high."""
    if not low <= value < high:
        upper = "" if high == _LARGEST else f" and below {high}"
        raise ValueError(f"{name} is {value}; accepted: an integer of at least {low}{upper}")
