"""Locks, and JSON files that are written atomically and checked when read."""

import errno
import json
import math
import os
import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pydisent._atomic import write_atomic

Types = Mapping[str, tuple[type, ...]]
NUMBER = (int, float)
_LARGEST = 2**63  # exclusive bound of integers, so that they fit in 64 bits
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


def absolute(path: str | os.PathLike[str] | None) -> str | None:
    """Return the absolute path, as recorded in run folders."""
    return None if path is None else str(Path(path).absolute())


def lock(file: IO[Any], *, wait: bool = False) -> bool:
    """Lock an open file; return False if another process holds the lock.

    The lock lasts until every process that inherited the file has closed it. On Windows and some
    network file systems, which have no such locks, this returns True.
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
def file_lock(path: Path, what: str, *, wait: bool = False) -> Iterator[Callable[[], bool]]:
    """Hold a lock file in an existing folder; one left by a dead process does not block.

    Yields
    ------
    callable
        Returns whether the lock file, and so its folder, still exists.

    Raises
    ------
    ValueError
        If another process holds the lock and `wait` is false; it says `what`, and the process id.
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
        try:
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"process {os.getpid()}".encode())
        except OSError as error:  # the disk may be full
            raise type(error)(error.errno, error.strerror, str(path)) from error
        yield lambda: _is_at(file, path)


def _opened(path: Path) -> IO[str]:
    """Open a regular file for reading and writing, never through a link."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        raise ValueError(f"{path} must be a regular file or absent")
    return os.fdopen(os.open(path, flags, 0o666), "r+")


def _is_at(file: IO[Any], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, default=str) + "\n")


def read_text(path: Path) -> str:
    """Read a UTF-8 file.

    Raises
    ------
    OSError, ValueError
        If there is no such file, or it is not UTF-8; the message names it.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{path} must be a file, got a pipe, a socket or a device")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {path.name} in {path.parent}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path} must be a file, got a folder") from None


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    OSError, ValueError
        If there is no such file, or it is not JSON; the message names it.
    """
    return parse_json(read_text(path), str(path))


def parse_json(text: str, source: str) -> Any:
    """Parse JSON text; a ValueError names the `source`."""
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
        raise ValueError(f"{source} must be a JSON object, got {type(value).__name__}")
    return value


def check_fields(
    source: str,
    values: Mapping[str, Any],
    types: Types,
    *,
    optional: Collection[str] = (),
    others: bool = False,
) -> None:
    """Raise ValueError unless a JSON object has these fields, with exactly these types.

    Numbers must be finite, and integers must fit in 64 bits.

    Parameters
    ----------
    source : str
        The object's file, for messages.
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
            f"{source} must have the fields {', '.join(types)} only, got {', '.join(unknown[:5])}"
        )
    for name, accepted in types.items():
        if name in values:
            check_value(f"{source}: {name}", values[name], accepted)


def check_value(name: str, value: Any, types: tuple[type, ...]) -> None:
    """Raise ValueError unless a value has one of these types; numbers must be finite and 64-bit."""
    words = " or ".join("None" if t is type(None) else t.__name__ for t in types)
    if type(value) in types:
        if type(value) not in NUMBER:
            return
        words = "a finite number, below 2^63 if an integer"
        if math.isfinite(value) if type(value) is float else -_LARGEST < value < _LARGEST:
            return
    raise ValueError(f"{name} must be {words}, got {reprlib.repr(value)}")


def check_count(name: str, value: int, low: int = 0, high: int = _LARGEST) -> None:
    """Raise ValueError unless low <= value < high."""
    if not low <= value < high:
        upper = "" if high == _LARGEST else f" and < {high}"
        raise ValueError(f"{name} must be an integer >= {low}{upper}, got {value}")
